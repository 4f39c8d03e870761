"""`python -m edge --config FILE`: run one edge. `python -m edge token`: make a viewer token."""

import sys
from collections.abc import Sequence

from daemon.lifecycle import run_program
from edge import token_command
from edge.app import Edge, start
from edge.config import EdgeConfig
from edge.named_files import check

DESCRIPTION = (
    "A Starling edge: serves viewers, fetches from other edges, and from the origin only what nobody has. "
    "Viewer tokens are made by the command token (token --help)."
)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["token"]:
        return token_command.main(arguments[1:])
    return run_program("starling-edge", DESCRIPTION, EdgeConfig, start, arguments, check, Edge.reload)


if __name__ == "__main__":
    sys.exit(main())
