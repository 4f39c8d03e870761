"""Bad input is answered, not suffered: by real programs, with an exit code, a status, or one clear line."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.programs import ROOT, Swarm, running_swarm
from tests.deploy.panels import wait_until
from tests.integration.by_hand import get, raw, status_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]
WITHIN_S = 30.0
SECRET = b"the contents of a file outside"


# --- what the operator must mend: exit 2 and one line


def configuration_of(program: str, directory: Path, keys: Path) -> dict[str, Any]:
    """A configuration that would start."""
    if program == "origin":
        (directory / "media").mkdir(exist_ok=True)
        return {
            "listen": "127.0.0.1:0",
            "admin": {"listen": "127.0.0.1:0"},
            "media": str(directory / "media"),
            "state": str(directory / "state"),
            "signing_key_file": str(keys / "signing.key"),
            "swarm": {"secret_file": str(keys / "swarm.secret")},
        }
    url = "http://127.0.0.1:9"
    return {
        "node": "edge-1",
        "viewer": {"listen": "127.0.0.1:0"},
        "peer": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "origin": {"url": url, "trust": "signed", "public_key_file": str(keys / "signing.pub")},
        "swarm": {"tracker": url, "secret_file": str(keys / "swarm.secret")},
        "cache": {"directory": str(directory / "cache")},
    }


def changed(tree: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """A copy with `a.b` set."""
    tree = copy.deepcopy(tree)
    *sections, last = key.split(".")
    at = tree
    for section in sections:
        at = at.setdefault(section, {})
    at[last] = value
    return tree


def refusal_of(
    program: str, configuration: dict[str, Any] | None, directory: Path, *options: str, **environ: str
) -> str:
    """The one line with which a program that will not start says why."""
    path = directory / f"{program}.yaml"
    if configuration is not None:
        path.write_text(yaml.safe_dump(configuration))
    done = subprocess.run(
        [sys.executable, "-m", program, "--config", str(path), *options],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"starling-{program}: ")
    return done.stderr


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    directory = tmp_path_factory.mktemp("keys")
    subprocess.run(
        [sys.executable, "-m", "origin", "keys", directory / "keys"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return directory / "keys"


@pytest.mark.parametrize(
    "program, key, value, said",
    [
        ("edge", "cache.memmory", "1GiB", ["cache.memmory", "memory"]),
        ("edge", "cache.memory", "plenty", ["cache.memory", "plenty"]),
        ("edge", "swarm.topology", "star", ["swarm.topology", "star", "hybrid"]),
        ("origin", "medai", "/srv", ["medai", "media"]),
        ("origin", "admin.listen", "here", ["admin.listen", "here"]),
    ],
)
def test_an_unknown_key_or_a_wrong_value_is_named(program, key, value, said, keys, tmp_path):
    line = refusal_of(program, changed(configuration_of(program, tmp_path, keys), key, value), tmp_path)
    assert all(word in line for word in said), line


def test_a_wrong_environment_variable_is_named(keys, tmp_path):
    line = refusal_of("edge", configuration_of("edge", tmp_path, keys), tmp_path, STARLING__CACHE__MEMMORY="1GiB")
    assert "STARLING__CACHE__MEMMORY" in line
    assert "STARLING__CACHE__MEMORY" in line


def test_a_configuration_that_is_missing_or_no_yaml_is_named(tmp_path):
    assert str(tmp_path / "edge.yaml") in refusal_of("edge", None, tmp_path)
    (tmp_path / "origin.yaml").write_text("listen: [\n")
    assert "origin.yaml: line 2" in refusal_of("origin", None, tmp_path)


@pytest.mark.parametrize(
    "program, key",
    [
        ("edge", "viewer.listen"),
        ("edge", "peer.listen"),
        ("edge", "admin.listen"),
        ("origin", "listen"),
        ("origin", "admin.listen"),
    ],
)
def test_a_port_in_use_is_named(program, key, keys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refusal_of(program, changed(configuration_of(program, tmp_path, keys), key, address), tmp_path)
    assert f"{key} {address}: address already in use" in line


@pytest.mark.parametrize("program, key", [("edge", "cache.directory"), ("origin", "state")])
def test_a_file_where_the_directory_should_be_is_named(program, key, keys, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    line = refusal_of(program, changed(configuration_of(program, tmp_path, keys), key, str(in_the_way)), tmp_path)
    assert f"{key} {in_the_way}: not a directory" in line
    below = in_the_way / "below"
    line = refusal_of(program, changed(configuration_of(program, tmp_path, keys), key, str(below)), tmp_path)
    assert f"{key} {below}: not a directory" in line


@pytest.mark.parametrize("options", [(), ("--check",)], ids=["start", "check"])
@pytest.mark.parametrize(
    "program, key",
    [
        ("edge", "origin.public_key_file"),
        ("edge", "swarm.secret_file"),
        ("origin", "signing_key_file"),
        ("origin", "swarm.secret_file"),
    ],
)
def test_a_key_file_that_is_missing_is_named_by_its_key(program, key, options, keys, tmp_path):
    missing = tmp_path / "none"
    line = refusal_of(
        program, changed(configuration_of(program, tmp_path, keys), key, str(missing)), tmp_path, *options
    )
    assert line == f"starling-{program}: {key} {missing}: No such file or directory\n"


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("viewer.tls", {"certificate": "none", "key": "none"}, "viewer.tls none, none: no such file or directory"),
        ("cache.directory", "edge.yaml", "cache.directory {}/edge.yaml: not a directory"),
        ("cache.directory", "edge.yaml/below", "cache.directory {}/edge.yaml/below: not a directory"),
        ("admin.token_file", "none", "admin.token_file {}/none: No such file or directory"),
    ],
)
def test_check_tries_what_an_edge_is_told_of(key, value, said, keys, tmp_path):
    placed = str(tmp_path / value) if isinstance(value, str) else value
    line = refusal_of("edge", changed(configuration_of("edge", tmp_path, keys), key, placed), tmp_path, "--check")
    assert line == f"starling-edge: {said.format(tmp_path)}\n"


def test_check_leaves_no_trace(keys, tmp_path):
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(configuration_of("edge", tmp_path, keys)))
    done = subprocess.run(
        [sys.executable, "-m", "edge", "--config", str(path), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "configuration ok\n", "")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.root
@pytest.mark.parametrize("program, key", [("edge", "cache.directory"), ("origin", "state")])
def test_a_read_only_file_system_is_named(program, key, keys, tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", mount], check=True)
    try:
        for directory in (mount, mount / "below"):
            line = refusal_of(
                program, changed(configuration_of(program, tmp_path, keys), key, str(directory)), tmp_path
            )
            assert f"{key} {directory}: read-only file system" in line
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_media_directory_that_is_not_there_is_named(keys, tmp_path):
    line = refusal_of("origin", changed(configuration_of("origin", tmp_path, keys), "media", "/no/such"), tmp_path)
    assert "media /no/such: no such file or directory" in line


@pytest.mark.parametrize("content", [None, b"no key at all\n"])
@pytest.mark.parametrize(
    "program, key",
    [
        ("edge", "origin.public_key_file"),
        ("edge", "swarm.secret_file"),
        ("origin", "signing_key_file"),
        ("origin", "swarm.secret_file"),
    ],
)
def test_a_key_file_that_is_missing_or_malformed_is_named(program, key, content, keys, tmp_path):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    line = refusal_of(program, changed(configuration_of(program, tmp_path, keys), key, str(file)), tmp_path)
    assert str(file) in line


def test_a_node_key_that_is_malformed_is_named_and_left_as_it_is(keys, tmp_path):
    configuration = configuration_of("edge", tmp_path, keys)
    cache = Path(configuration["cache"]["directory"])
    cache.mkdir()
    (cache / "node.key").write_text("once a key\n")
    assert str(cache / "node.key") in refusal_of("edge", configuration, tmp_path)
    assert (cache / "node.key").read_text() == "once a key\n"


# --- paths that climb


CLIMBING = [
    b"/../outside.txt",
    b"/film/../../outside.txt",
    b"/%2e%2e/outside.txt",
    b"/%2E%2E/%2e%2e/outside.txt",
    b"/%2e%2e%2foutside.txt",
    b"/..%2foutside.txt",
    b"/..%5coutside.txt",
    b"/..\\outside.txt",
    b"/film/..%2f..%2foutside.txt",
    b"/%252e%252e%252foutside.txt",
    b"/..%252foutside.txt",
    b"/%c0%ae%c0%ae/outside.txt",
    b"/..%c0%afoutside.txt",
    b"/%e0%80%ae%e0%80%ae/outside.txt",
    b"/film/a.txt%00.m4s",
    b"/%00/../outside.txt",
    b"//etc/passwd",
    b"///etc/passwd",
    b"/%2fetc/passwd",
    b"/film//../../outside.txt",
    b"/./../outside.txt",
    b"/link/outside.txt",
    b"/outside-link",
    b"http://somewhere.example/../outside.txt",
    b"http://somewhere.example/%2e%2e/outside.txt",
    b"/%",
    b"/%zz",
    b"/..;/outside.txt",
    b"/film/....//outside.txt",
    b"../outside.txt",
    b"outside.txt",
    b"*",
    b"/\xff\xfe/../outside.txt",
    b"/-/../../outside.txt",
    b"/-/player/..%2f..%2f..%2fpyproject.toml",
    b"/-/player/../../../pyproject.toml",
    b"/-/player/%2e%2e/%2e%2e/%2e%2e/pyproject.toml",
    b"/live/../../outside.txt",
    b"/live/%2e%2e/%2e%2e/outside.txt",
    b"/live/..%2f..%2foutside.txt",
]


@pytest.fixture(scope="module")
def one_edge(tmp_path_factory):
    directory = tmp_path_factory.mktemp("paths")
    with running_swarm(directory, ["edge-1"]) as programs:
        (directory / "outside.txt").write_bytes(SECRET)
        (programs.media / "film").mkdir()
        (programs.media / "film" / "a.txt").write_bytes(b"inside")
        (programs.media / "link").symlink_to(directory)
        (programs.media / "outside-link").symlink_to(directory / "outside.txt")
        yield programs


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("target", CLIMBING)
def test_no_spelling_of_a_path_reads_outside_the_directory(target, one_edge):
    for address in (one_edge.origin_address, one_edge.edges["edge-1"].ready["viewer"]):
        answer = raw(address, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(answer) in (400, 404), answer[:300]
        assert SECRET not in answer
        assert b"root:" not in answer


@pytest.mark.parametrize("target", [b"/film/a.txt", b"http://somewhere.example/film/a.txt", b"/film/./x/../a.txt"])
def test_other_spellings_of_what_is_inside_are_served(target, one_edge):
    for address in (one_edge.origin_address, one_edge.edges["edge-1"].ready["viewer"]):
        answer = raw(address, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(answer) == 200
        assert answer.endswith(b"\r\n\r\ninside")


@pytest.mark.parametrize("method", [b"PUT", b"POST", b"DELETE"])
@pytest.mark.parametrize("prefix", [b"/live", b""])
def test_no_spelling_of_a_path_writes_outside_the_directory(method, prefix, one_edge):
    """Below the prefix and outside it; what is there before is there after, and nothing else."""
    state = one_edge.directory / "origin-state" / "ingest" / "visible"
    outside = {path: body for path, body in watched(one_edge).items() if not path.startswith(str(state))}
    for target in CLIMBING:
        if target.startswith((b"/live", b"http")) and prefix:
            continue
        request = method + b" " + prefix + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        answer = raw(one_edge.origin_address, request + b"Content-Length: 4\r\n\r\nevil")
        assert status_of(answer) in (201, 204, 400, 403, 404, 405, 409), (target, answer[:300])
    assert {path: body for path, body in watched(one_edge).items() if not path.startswith(str(state))} == outside


def watched(programs: Swarm) -> dict[str, bytes]:
    """Everything below the test's directory but logs and what the origin rewrites by itself."""
    found = files_below(programs.directory)
    return {path: body for path, body in found.items() if not path.endswith((".log", "/sequence", "/lock", "/view"))}


# --- bodies that are not what they said


def put(address: str, name: str, framing: bytes, body: bytes) -> bytes:
    head = f"PUT /live/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WITHIN_S) as connection:
        connection.sendall(head + framing + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        answer = bytearray()
        try:
            while chunk := connection.recv(4096):
                answer += chunk
        except ConnectionResetError:
            pass  # refused before all of it was read
        return bytes(answer)


@pytest.mark.parametrize(
    "name, framing, body",
    [
        ("short.m4s", b"Content-Length: 100", b"x" * 60),
        ("chunk.m4s", b"Transfer-Encoding: chunked", b"64\r\n" + b"x" * 60),
        ("no-end.m4s", b"Transfer-Encoding: chunked", b"4\r\nxxxx\r\n"),
        ("nonsense.m4s", b"Transfer-Encoding: chunked", b"what?\r\nxxxx\r\n0\r\n\r\n"),
        ("huge.m4s", b"Content-Length: 99999999999", b"x" * 60),
        ("both.m4s", b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        ("list.m3u8", b"Content-Length: 9", b"not a one"),
    ],
)
def test_a_truncated_or_over_long_upload_leaves_nothing_visible(name, framing, body, one_edge):
    answer = put(one_edge.origin_address, name, framing, body)
    assert status_of(answer) in (0, 400, 413, 422), answer
    visible = one_edge.directory / "origin-state" / "ingest"
    wait_until(lambda: not list((visible / "received").iterdir()), WITHIN_S, lambda: str(list(visible.rglob("*"))))
    assert get(f"http://{one_edge.origin_address}/live/{name}").status == 404
    assert get(one_edge.url("edge-1", f"/live/{name}")).status == 404


def test_a_chunked_upload_longer_than_any_segment_leaves_nothing_visible(one_edge):
    chunk = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
    host, _, port = one_edge.origin_address.rpartition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=WITHIN_S) as connection:
        connection.sendall(b"PUT /live/long.m4s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(300):
                connection.sendall(chunk)
            answer = connection.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it stopped reading: that is its answer
    assert status_of(answer) in (0, 413)
    received = one_edge.directory / "origin-state" / "ingest" / "received"
    wait_until(lambda: not list(received.iterdir()), WITHIN_S, lambda: str(list(received.iterdir())))
    assert get(f"http://{one_edge.origin_address}/live/long.m4s").status == 404


# --- an origin that is down


def test_what_is_cached_is_served_and_the_rest_refused_with_a_reason_while_the_origin_is_down(tmp_path):
    with running_swarm(tmp_path, ["edge-1", "edge-2"]) as programs:
        for name in ("seen.txt", "unseen.txt"):
            (programs.media / name).write_bytes(os.urandom(200_000))
        seen = (programs.media / "seen.txt").read_bytes()
        assert get(programs.url("edge-1", "/seen.txt")).body == seen
        assert programs.origin is not None

        programs.origin.process.send_signal(signal.SIGSTOP)  # takes connections, says nothing
        try:
            silent = get(programs.url("edge-1", "/unseen.txt"))
        finally:
            programs.origin.process.send_signal(signal.SIGCONT)
        assert silent.status in (502, 504)
        assert b"the origin" in silent.body

        programs.origin.kill()
        for node in ("edge-1", "edge-2"):
            refused = get(programs.url(node, "/unseen.txt"))
            assert refused.status in (502, 504)
            assert f"{refused.status} ".encode() in refused.body
            assert b"origin" in refused.body
            assert refused.headers["cache-control"] == "no-store"
            assert f"{node}; fwd=uri-miss" in refused.cache_status
        assert get(programs.url("edge-1", "/seen.txt")).body == seen
        assert get(programs.url("edge-2", "/seen.txt")).body == seen  # from edge-1: nobody else has it
        assert programs.metrics("edge-1")['starling_viewer_requests_total{outcome="failed"}'] == 2


def test_a_copy_past_its_lifetime_stands_in_for_an_origin_that_is_down_but_not_beyond_its_grace(tmp_path):
    """A live playlist is fresh for half a target duration, and may stand in for 6 s at least; then an honest error."""
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:1,\n1.m4s\n"
    with running_swarm(tmp_path, ["edge-1"]) as programs:
        (programs.media / "live.m3u8").write_bytes(playlist)
        assert get(programs.url("edge-1", "/live.m3u8")).body == playlist
        assert programs.origin is not None
        programs.origin.kill()
        stale = get(programs.url("edge-1", "/live.m3u8"))
        assert (stale.status, stale.body) == (200, playlist)
        seen = []

        def refused() -> bool:
            seen.append(get(programs.url("edge-1", "/live.m3u8")))
            return seen[-1].status != 200

        wait_until(refused, WITHIN_S, lambda: "it is served for ever")
        assert seen[-1].status in (502, 504)
        assert b"origin" in seen[-1].body
        assert all(answer.body == playlist for answer in seen[:-1])
        assert max(int(answer.headers["age"]) for answer in [stale, *seen[:-1]]) >= 2  # past its lifetime by far
        held = json.loads(get(programs.admin_url("edge-1", "/explain?path=/live.m3u8")).body)["pointer"]
        assert held["stale_if_error_s"] == 6
