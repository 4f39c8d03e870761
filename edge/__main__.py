"""`python -m edge --config FILE`: run one edge."""

import sys
from collections.abc import Sequence

from daemon.lifecycle import run_program
from edge.app import start
from edge.config import EdgeConfig
from edge.named_files import check

DESCRIPTION = "A Starling edge: serves viewers, fetches from other edges, and from the origin only what nobody has."


def main(argv: Sequence[str] | None = None) -> int:
    return run_program("starling-edge", DESCRIPTION, EdgeConfig, start, argv, check)


if __name__ == "__main__":
    sys.exit(main())
