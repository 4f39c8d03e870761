"""How the audience arrives. Take one along with `-f loadtests/locustfile.py,loadtests/shapes.py`; it then decides how
many users there are, and when the run ends."""

import math
from argparse import ArgumentParser
from typing import Any

from locust import LoadTestShape, events


def add_arguments(parser: ArgumentParser) -> None:
    """From the environment too: STARLING_CROWD and so on."""
    group: Any = parser.add_argument_group("Flash crowd")
    group.add_argument("--crowd", env_var="STARLING_CROWD", type=int, default=200, help="viewers at the peak")
    group.add_argument("--crowd-before", type=int, default=10, help="viewers before the crowd comes")
    group.add_argument("--crowd-at", type=float, default=20.0, help="when it begins to come, in seconds")
    group.add_argument("--crowd-within", type=float, default=10.0, help="seconds until everybody is there")
    group.add_argument("--crowd-for", type=float, default=60.0, help="how long it stays; it leaves as it came")


def crowd_size(at_s: float, *, before: int, peak: int, begins_s: float, within_s: float, stays_s: float) -> int | None:
    """Viewers at an instant of the run: a few, then a ramp, a plateau, the ramp down; None once all have left.

    A kick-off: most come within seconds of each other, all want the newest segment, and nobody has it yet.
    """
    ends_s = begins_s + 2 * within_s + stays_s
    if at_s >= ends_s:
        return None
    climbed = (at_s - begins_s) / within_s if within_s else math.inf
    left = (ends_s - at_s) / within_s if within_s else math.inf
    return before + round((peak - before) * max(0.0, min(1.0, climbed, left)))


class FlashCrowd(LoadTestShape):
    """A small audience, and then a goal is scored."""

    def tick(self) -> tuple[int, float] | None:
        shape: Any = self  # locust fills in the runner, and types neither it nor the run time
        options = shape.runner.environment.parsed_options
        size = crowd_size(
            shape.get_run_time(),
            before=options.crowd_before,
            peak=options.crowd,
            begins_s=options.crowd_at,
            within_s=options.crowd_within,
            stays_s=options.crowd_for,
        )
        return None if size is None else (size, max(1.0, options.crowd / max(options.crowd_within, 1.0)))


hooks: Any = events  # locust leaves them untyped
hooks.init_command_line_parser.add_listener(add_arguments)
