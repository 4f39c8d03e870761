"""The life of a program, seen from outside: its ready line, its exit code, what it says on stderr."""

import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import logs
from daemon.addresses import Address
from daemon.directories import check_directory, usable_directory
from daemon.errors import StartupError
from daemon.listeners import bound_address, listen, tls_context

ROOT = Path(__file__).parents[2]

# A program that does what its configuration says; `print` on stderr marks how far it came.
PROGRAM = """
import asyncio, sys
import msgspec
from daemon.errors import StartupError
from daemon.lifecycle import run_program

class Config(msgspec.Struct, frozen=True, kw_only=True):
    start: str = "ok"
    run: str = "forever"
    stop: str = "ok"

def say(text):
    print(text, file=sys.stderr, flush=True)

class Program:
    def __init__(self, config):
        self.config = config
    def ready(self):
        return {"viewer": "127.0.0.1:43121"}
    async def run(self):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.work())
    async def work(self):
        match self.config.run:
            case "return": return
            case "refuse": raise StartupError("node edge-1: another edge at 10.0.0.5:7400 has this name")
            case "fail": raise RuntimeError("a bug of ours")
        try:
            await asyncio.Event().wait()
        finally:
            say("work cancelled")
    async def reload(self, config):
        match config.run:
            case "bug": raise RuntimeError("a bug of ours")
            case "refuse": raise StartupError("viewer.tls: not a certificate")
        say(f"reloaded run={config.run}")
    async def stop(self):
        say("stop called")
        if self.config.stop == "slow":
            await asyncio.Event().wait()

async def start(config):
    if config.start == "refuse":
        raise StartupError("viewer.listen 127.0.0.1:8080: address already in use")
    if config.start == "slow":
        say("starting")
        try:
            await asyncio.Event().wait()
        finally:
            say("start cancelled")
    return Program(config)

def check(config):
    if config.start == "refuse":
        raise StartupError("signing_key_file /none: No such file or directory")

sys.exit(run_program("starling-toy", "A toy.", Config, start, check=check, reload=Program.reload))
"""

pytestmark = pytest.mark.processes


@pytest.fixture
def toy():
    """Starts the program with these settings; whatever still runs at the end is killed."""
    with contextlib.ExitStack() as started:

        def launch(*argv: str, **settings: str) -> subprocess.Popen[str]:
            environ = {f"STARLING__{key.upper()}": value for key, value in settings.items()}
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *argv],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield launch


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, the rest of stdout, the rest of stderr)."""
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def read_until(stream: io.TextIOBase, text: str) -> None:
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"the program ended without saying {text!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_line_then_a_graceful_stop(toy, number: signal.Signals):
    process = toy()
    assert json.loads(process.stdout.readline()) == {"ready": True, "viewer": "127.0.0.1:43121"}
    process.send_signal(number)
    code, out, err = end_of(process)
    assert (code, out) == (0, "")
    assert err.index("stop called") < err.index("work cancelled") < err.index("stopped")
    assert f"signal={number.name}" in err


def test_a_second_signal_exits_at_once(toy):
    process = toy(stop="slow")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    read_until(process.stderr, "stop called")
    process.send_signal(signal.SIGTERM)
    assert end_of(process)[0] == 128 + signal.SIGTERM


def test_a_signal_during_start_is_a_clean_end(toy):
    process = toy(start="slow")
    read_until(process.stderr, "starting")
    process.send_signal(signal.SIGTERM)
    code, out, err = end_of(process)
    assert (code, out) == (0, "")
    assert "start cancelled" in err


def test_what_the_operator_must_mend_is_one_line_and_exit_2(toy):
    assert end_of(toy(start="refuse")) == (
        2,
        "",
        "starling-toy: viewer.listen 127.0.0.1:8080: address already in use\n",
    )
    assert end_of(toy(strat="refuse")) == (
        2,
        "",
        "starling-toy: unknown variable STARLING__STRAT (did you mean STARLING__START?)\n",
    )
    code, _, err = end_of(toy("--config", "/none/toy.yaml"))
    assert (code, err) == (2, "starling-toy: cannot read /none/toy.yaml: No such file or directory\n")


def test_what_the_operator_must_mend_may_turn_up_later(toy):
    code, out, err = end_of(toy(run="refuse"))
    assert code == 2
    assert json.loads(out)["ready"] is True
    assert err.splitlines()[-1] == "starling-toy: node edge-1: another edge at 10.0.0.5:7400 has this name"
    assert "stop called" in err
    assert "Traceback" not in err


def test_a_failure_of_our_own_is_told_with_its_traceback(toy):
    code, _, err = end_of(toy(run="fail"))
    assert code == 1
    assert "stop called" in err
    assert "RuntimeError: a bug of ours" in err


def test_a_program_may_end_by_itself(toy):
    code, _, err = end_of(toy(run="return"))
    assert code == 0
    assert "stop called" in err


def test_a_hangup_reloads_a_right_configuration_and_a_wrong_one_changes_nothing(toy, tmp_path: Path):
    file = tmp_path / "toy.yaml"
    file.write_text("run: forever\n")
    process = toy("--config", str(file))
    process.stdout.readline()
    rounds = [
        ("run: other", "reloaded run=other"),
        ("rum: x", "configuration not reloaded, nothing has changed: toy.yaml: unknown key 'rum'"),
        ("start: refuse", "nothing has changed: signing_key_file /none: No such file"),  # what --check would find
        ("run: refuse", "nothing has changed: viewer.tls: not a certificate"),
        ("run: bug", "RuntimeError: a bug of ours"),
        ("run: more", "reloaded run=more"),
    ]
    for text, said in rounds:
        file.write_text(text)
        process.send_signal(signal.SIGHUP)
        read_until(process.stderr, said)
    process.terminate()
    assert end_of(process)[0] == 0


def test_a_hangup_while_it_stops_changes_nothing(toy):
    process = toy(stop="slow")
    process.stdout.readline()
    process.terminate()
    read_until(process.stderr, "stop called")
    process.send_signal(signal.SIGHUP)
    process.terminate()
    code, _, err = end_of(process)
    assert (code, "reloaded" in err) == (128 + signal.SIGTERM, False)


def test_check_and_help(toy):
    assert end_of(toy("--check")) == (0, "configuration ok\n", "")
    assert end_of(toy("--check", run="[")) == (0, "configuration ok\n", "")
    refused = (2, "", "starling-toy: signing_key_file /none: No such file or directory\n")
    assert end_of(toy("--check", start="refuse")) == refused
    code, out, _ = end_of(toy("--help"))
    assert code == 0
    assert "--config FILE" in out


def test_a_port_in_use_is_named_by_its_key():
    with listen("viewer.listen", Address("127.0.0.1", 0)) as first:
        taken = bound_address(first)
        assert taken.port > 0
        with pytest.raises(StartupError) as raised:
            listen("peer.listen", taken)
    assert str(raised.value) == f"peer.listen {taken}: address already in use"


@pytest.mark.parametrize(
    "address, line",
    [
        (Address("no-such-host.invalid", 0), "viewer.listen no-such-host.invalid:0: "),
        (Address("192.0.2.1", 0), "viewer.listen 192.0.2.1:0: cannot assign requested address"),
    ],
)
def test_an_address_that_is_not_ours(address: Address, line: str):
    with pytest.raises(StartupError) as raised:
        listen("viewer.listen", address)
    assert str(raised.value).startswith(line)


def test_ipv6_is_written_in_brackets():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with listen("viewer.listen", Address("::1", 0)) as listener:
        assert str(bound_address(listener)).startswith("[::1]:")


def test_congestion_control_is_set_on_the_listener():
    with socket.socket() as plain:  # the system's own choice is the one that every user may make
        usual = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
    with listen("viewer.listen", Address("127.0.0.1", 0), congestion=usual.decode()) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == usual
    with pytest.raises(StartupError, match=r"transport\.congestion nonesuch: not available here"):
        listen("viewer.listen", Address("127.0.0.1", 0), congestion="nonesuch")


def test_tls_files_that_are_missing_or_wrong(tmp_path: Path):
    with pytest.raises(StartupError, match="no such file or directory"):
        tls_context(tmp_path / "c.pem", tmp_path / "k.pem")
    (tmp_path / "c.pem").write_text("nonsense")
    with pytest.raises(StartupError, match=r"viewer\.tls .*c\.pem"):
        tls_context(tmp_path / "c.pem", tmp_path / "c.pem")


def test_a_directory_is_made_and_tried(tmp_path: Path):
    made = usable_directory("cache.directory", tmp_path / "a" / "b")
    assert made.is_dir()
    assert list(made.iterdir()) == []


def test_a_file_in_place_of_a_directory(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StartupError) as raised:
        usable_directory("cache.directory", tmp_path / "file")
    assert str(raised.value) == f"cache.directory {tmp_path}/file: not a directory"
    with pytest.raises(StartupError, match=r"^state .*/file/below: not a directory$"):
        usable_directory("state", tmp_path / "file" / "below")


def test_a_directory_is_tried_without_being_made(tmp_path: Path):
    check_directory("state", tmp_path / "a" / "b")
    check_directory("state", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StartupError) as raised:
            check_directory("state", wrong)
        assert str(raised.value) == f"state {wrong}: not a directory"


def test_a_directory_nobody_may_write_to():
    with pytest.raises(StartupError, match=r"^state /proc/starling: "):
        usable_directory("state", Path("/proc/starling"))


def test_a_log_line_holds_time_level_name_sentence_and_fields():
    stream = io.StringIO()
    kept = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.set_up(stream)
        log = logging.getLogger("edge.fills")
        log.warning(
            "broken link", extra=logs.fields(peer="edge-2", rejected=3, took_s=0.123456789, why='a "b"\nc', none="")
        )
        log.info("forged\n2026 INFO x")
        log.debug("not shown")
    finally:
        logging.getLogger().handlers[:], level = kept
        logging.getLogger().setLevel(level)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(
        r' WARNING edge.fills broken link peer=edge-2 rejected=3 took_s=0.123457 why="a \"b\"\nc" none=""'
    )
    assert first[10] == "T"
    assert first.split(" ")[0].endswith("Z")
    assert second.endswith(r"INFO edge.fills forged\n2026 INFO x")
