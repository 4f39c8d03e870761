"""`python -m origin`: serve and sign content, take ingest, run the tracker; `python -m origin keys DIR`: make keys."""

import sys
from collections.abc import Sequence
from pathlib import Path

from daemon.keys import write_key_files
from daemon.lifecycle import CLEAN, REFUSED, run_program
from origin.app import check, start
from origin.config import OriginConfig

PROG = "starling-origin"
DESCRIPTION = (
    "Serves a media directory and live ingest, signed, and runs the tracker. "
    "`keys DIR` instead of options writes signing.key, signing.pub and swarm.secret."
)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["keys"]:
        return _make_keys(arguments[1:])
    return run_program(PROG, DESCRIPTION, OriginConfig, start, arguments, check)


def _make_keys(arguments: Sequence[str]) -> int:
    """Exit code 2 and one line if any of the files is there already, or cannot be written."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(f"usage: {PROG} keys DIR\n")
        return CLEAN if arguments in (["--help"], ["-h"]) else REFUSED
    try:
        paths = write_key_files(Path(arguments[0]))
    except FileExistsError as error:
        sys.stderr.write(f"{PROG}: {error.filename or error} exists already; nothing was written\n")
        return REFUSED
    except OSError as error:
        sys.stderr.write(f"{PROG}: {error.filename}: {error.strerror}\n")
        return REFUSED
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return CLEAN


if __name__ == "__main__":
    sys.exit(main())
