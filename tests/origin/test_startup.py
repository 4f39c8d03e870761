"""What stops an origin before it serves is one clear line and exit code 2; and the `keys` command."""

import os
import subprocess
import sys

import pytest

from tests.origin.running import ROOT, configure, refused, running

pytestmark = pytest.mark.processes


def one_line(outcome: tuple[int, str]) -> str:
    code, text = outcome
    lines = [line for line in text.splitlines() if " INFO " not in line]
    assert (code, len(lines)) == (2, 1), text
    assert lines[0].startswith("starling-origin: ")
    return lines[0]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "origin", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"media": "none"}, "media {}/none: no such file or directory"),
        ({"media": "file"}, "media {}/file: not a directory"),
        ({"state": "file"}, "state {}/file: not a directory"),
        ({"state": "file/below"}, "state {}/file/below: not a directory"),
        ({"signing_key_file": "none"}, "signing_key_file {}/none: No such file or directory"),
        ({"signing_key_file": "file"}, "signing_key_file {}/file: not a PEM private key"),
        ({"signing_key_file": None}, "signing_key_file is required"),
        ({"swarm": {"secret_file": "none"}}, "swarm.secret_file none: No such file"),
        ({"ingest": {"token_file": "none"}}, "ingest.token_file none: No such file"),
        ({"medai": "x"}, "unknown key 'medai' (did you mean 'media'?)"),
    ],
)
def test_what_the_operator_must_mend_is_one_line(tmp_path, changed, says):
    (tmp_path / "file").write_text("hello")
    placed = {
        key: str(tmp_path / value) if key in ("media", "state", "signing_key_file") and value else value
        for key, value in changed.items()
    }
    assert says.format(tmp_path) in one_line(refused(tmp_path, **placed))


def test_a_port_in_use_is_one_line(tmp_path):
    (tmp_path / "other").mkdir()
    with running(tmp_path) as origin:
        line = one_line(refused(tmp_path / "other", listen=origin.listen))
        assert line == f"starling-origin: listen {origin.listen}: address already in use"


def test_two_origins_cannot_share_a_state_directory(tmp_path):
    (tmp_path / "other").mkdir()
    with running(tmp_path) as origin:
        line = one_line(refused(tmp_path / "other", state=str(origin.directory / "state")))
        assert line.endswith("another origin uses it")


def test_check_says_yes_without_starting(tmp_path):
    done = command("--config", str(configure(tmp_path)), "--check")
    assert (done.returncode, done.stdout) == (0, "configuration ok\n")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"media": "none"}, "media none: no such file or directory"),
        ({"state": "signing.pub/below"}, "state signing.pub/below: not a directory"),
        ({"signing_key_file": "none"}, "signing_key_file none: No such file or directory"),
        ({"swarm": {"secret_file": "none"}}, "swarm.secret_file none: No such file or directory"),
        ({"ingest": {"token_file": "none"}}, "ingest.token_file none: No such file or directory"),
    ],
)
def test_check_says_no_where_a_start_would(tmp_path, changed, says):
    path = configure(tmp_path, **changed)
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "origin", "--config", str(path), "--check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"starling-origin: {says}\n")
    assert sorted(tmp_path.iterdir()) == before


def test_check_does_not_mind_an_origin_that_runs(tmp_path):
    with running(tmp_path) as origin:
        done = command("--config", str(configure(tmp_path)), "--check")
        assert (done.returncode, done.stdout) == (0, "configuration ok\n")
        assert origin.stop() == 0


def test_version_and_help():
    assert command("--version").stdout == "starling-origin 0.1.0\n"
    assert "swarm.secret" in command("--help").stdout


def test_keys_are_made_once(tmp_path):
    done = command("keys", str(tmp_path / "new"))
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["signing.key", "signing.pub", "swarm.secret"]
    again = command("keys", str(tmp_path / "new"))
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert "signing.key exists already; nothing was written" in again.stderr
    assert command("keys").returncode == 2


def test_health_on_the_admin_port(tmp_path):
    with running(tmp_path) as origin:

        def answer(path: str) -> tuple[str, str]:
            done = subprocess.run(
                ["curl", "-s", "-w", "%{http_code}", f"http://{origin.admin}{path}"],
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout[-3:], done.stdout[:-3]

        assert answer("/livez") == ("200", "alive\n")
        assert answer("/readyz") == ("200", '{"ready": true, "missing": []}')
        origin.media.rename(origin.directory / "gone")
        status, body = answer("/readyz")
        assert (status, "cannot be read" in body) == ("503", True)
        assert answer("/livez")[0] == "200"
        assert origin.stop() == 0
