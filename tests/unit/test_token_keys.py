"""The file of token keys, and the command that makes tokens with it."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from daemon.errors import StartupError
from daemon.keys import private_pem
from daemon.token_keys import ed25519_signer, load_token_keys
from edge import token_command
from swarm.tokens import Gate, TokenRefused, make_token

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DER = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
RAW = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
SECRET = "00112233445566778899aabbccddeeff"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "tokens"
    file.write_text(text)
    return file


def test_a_file_of_several_keys(tmp_path: Path):
    text = f"# ours\n\nweb-1 hmac-sha256 {SECRET}  # since May\ncms ed25519 {DER}\n\tcms2\ted25519\t{RAW}\r\n"
    keys = load_token_keys(written(tmp_path, text))
    assert list(keys.verifiers) == ["web-1", "cms", "cms2"]
    assert list(keys.signers) == ["web-1"]
    gate = Gate(keys.verifiers)
    for name, sign in [*keys.signers.items(), ("cms", ed25519_signer(PRIVATE)), ("cms2", ed25519_signer(PRIVATE))]:
        made = make_token(name, 2_000_000_000, "/live/", sign)
        assert gate.admit(f"/live/a?starling_token={made}", "/live/a", 1.0).key == name
    wrong = make_token("cms", 2_000_000_000, "/live/", Ed25519PrivateKey.from_private_bytes(bytes(32)).sign)
    with pytest.raises(TokenRefused):
        gate.admit(f"/live/a?starling_token={wrong}", "/live/a", 1.0)


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("", "no key in it"),
        ("# nothing\n", "no key in it"),
        ("\nweb-1 hmac-sha256\n", "line 2: expected NAME KIND KEY"),
        (f"web.1 hmac-sha256 {SECRET}", "line 1: a name is at most 64 letters, digits, - and _"),
        (f"a hmac-sha256 {SECRET}\na hmac-sha256 {SECRET}", "line 2: a second key named a"),
        (f"a hmac {SECRET}", "line 1: expected hmac-sha256 or ed25519 after the name"),
        ("a hmac-sha256 xyz", "line 1: the secret is not hexadecimal"),
        ("a hmac-sha256 0011", "line 1: the secret has under 16 bytes"),
        ("a ed25519 0011", "line 1: not an Ed25519 public key in base64"),
        ("a ed25519 !!!", "line 1: not an Ed25519 public key in base64"),
        (f"a ed25519 {DER[:-4]}", "line 1: not an Ed25519 public key in base64"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_without_the_key(tmp_path: Path, text: str, wrong: str):
    file = written(tmp_path, text)
    with pytest.raises(StartupError) as raised:
        load_token_keys(file, "origin.tokens.keys_file")
    assert str(raised.value) == f"origin.tokens.keys_file {file}: {wrong}"


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path):
    with pytest.raises(StartupError, match=r"/none: No such file or directory$"):
        load_token_keys(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match=r"/binary: not text$"):
        load_token_keys(tmp_path / "binary")


def test_the_command_makes_tokens_that_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path, f"cms ed25519 {DER}\nweb-1 hmac-sha256 {SECRET}\n")
    gate = Gate(load_token_keys(file).verifiers)
    (tmp_path / "private.pem").write_bytes(private_pem(PRIVATE))
    ways = [["--keys", str(file)], ["--signing-key", str(tmp_path / "private.pem"), "--key", "cms"]]
    for way, key in zip(ways, ["web-1", "cms"], strict=True):
        assert token_command.main([*way, "--prefix", "/l%69ve/", "--expires", "2h"]) == 0
        token = gate.admit("/live/a?" + capsys.readouterr().out.strip(), "/live/a", 0.0)
        assert (token.key, token.prefix) == (key, "/live/")
    url = "http://edge/live/a.m3u8?x=1"
    assert token_command.main([*ways[0], "--prefix", "/", "--expires", "2h", "--url", url]) == 0
    assert capsys.readouterr().out.startswith(f"{url}&starling_token=web-1.")


@pytest.mark.parametrize(
    "argv, line",
    [
        ([], "give either --keys or --signing-key"),
        (["--keys", "/none"], "--keys /none: No such file or directory"),
        (["--signing-key", "/none"], "--signing-key needs --key: "),
        (["--signing-key", "/none", "--key", "a"], "--signing-key /none: No such file or directory"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]):
    assert token_command.main([*argv, "--prefix", "/", "--expires", "2h"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"starling-edge token: {line}")


def test_the_command_names_what_it_does_not_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path, f"cms ed25519 {DER}\n")
    asked = ["--keys", str(file), "--expires", "2h", "--prefix"]
    assert token_command.main([*asked, "/"]) == 2
    assert token_command.main([*asked, "/", "--key", "cms"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(f"{file}: ")[2] for line in lines] == ["no secret in it", "no secret in it named cms"]
    written(tmp_path, f"a hmac-sha256 {SECRET}")
    for prefix in ("live/", "/live/?x=1", "/../x"):
        assert token_command.main([*asked, prefix]) == 2
    with pytest.raises(SystemExit, match="2"):
        token_command.main(["--keys", str(file), "--prefix", "/", "--expires", "2"])
