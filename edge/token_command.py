"""`python -m edge token`: makes a viewer token, and a URL with it, for trying out and for scripts."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from daemon.errors import StartupError
from daemon.keys import load_signing_key
from daemon.token_keys import ed25519_signer, load_token_keys
from swarm.names import BadPath, normalise
from swarm.tokens import PARAMETER, Sign, is_key_name, make_token
from swarm.units import DURATION_EXPECTED, Seconds, parse_seconds

PROG = "starling-edge token"


def main(argv: Sequence[str]) -> int:
    """Prints `starling_token=...`, or the URL given with it. Exit code 2 and one line for what cannot be signed."""
    arguments = _parser().parse_args(argv)
    try:
        name, sign = _signer(arguments)
        print(_made(arguments, name, sign))  # noqa: T201 - what was asked for
    except (StartupError, BadPath, ValueError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)  # noqa: T201 - one line for the operator
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description="Make a viewer token: a query parameter to add to URLs.")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="the site's tokens.keys_file; signs with a secret")
    parser.add_argument("--signing-key", type=Path, metavar="FILE", help="instead: an Ed25519 private key (PEM)")
    parser.add_argument("--key", metavar="NAME", help="which key of the file; left out: its first secret")
    parser.add_argument("--prefix", required=True, metavar="PATH", help="what it opens: this path and all below it")
    parser.add_argument("--expires", required=True, type=_duration, metavar="TIME", help="for how long, such as 2h")
    parser.add_argument("--url", help="print this URL with the token added, in place of the token alone")
    return parser


def _duration(text: str) -> Seconds:
    try:
        return parse_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {DURATION_EXPECTED}") from None


def _signer(arguments: argparse.Namespace) -> tuple[str, Sign]:
    """The name of the key and how it signs. StartupError."""
    if (arguments.keys is None) == (arguments.signing_key is None):
        raise StartupError("give either --keys or --signing-key")
    if arguments.signing_key is not None:
        if arguments.key is None or not is_key_name(arguments.key):
            raise StartupError("--signing-key needs --key: the name of its public key in the site's tokens.keys_file")
        return arguments.key, ed25519_signer(load_signing_key(arguments.signing_key, "--signing-key"))
    signers = load_token_keys(arguments.keys, "--keys").signers
    name = arguments.key or next(iter(signers), None)
    if name is None or name not in signers:
        raise StartupError(f"--keys {arguments.keys}: no secret in it" + (f" named {name}" if name else ""))
    return name, signers[name]


def _made(arguments: argparse.Namespace, name: str, sign: Sign) -> str:
    prefix = normalise("", arguments.prefix)
    if prefix.query:
        raise BadPath("--prefix is a path, without a query")
    parameter = f"{PARAMETER}={make_token(name, int(time.time() + arguments.expires), prefix.url_path, sign)}"
    if arguments.url is None:
        return parameter
    return f"{arguments.url}{'&' if '?' in arguments.url else '?'}{parameter}"
