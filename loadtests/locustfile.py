"""`locust -f loadtests/locustfile.py --host http://EDGE`: viewers of live streams and of films.

Name `LiveViewer` or `FilmViewer` after the options to have only those. See loadtests/README.md.
"""

from argparse import ArgumentParser
from typing import Any

from locust import events
from locust.env import Environment

from loadtests.viewers import Viewer
from swarm.playback import PlaybackConfig


class LiveViewer(Viewer):
    """Watches live streams, three target durations behind the edge."""

    kind = "live"
    weight = 3


class FilmViewer(Viewer):
    """Watches streams on demand, from their start."""

    kind = "film"
    weight = 1


def add_arguments(parser: ArgumentParser) -> None:
    """Locust takes them from the environment too: STARLING_LIVE and so on."""
    group: Any = parser.add_argument_group("Starling viewers")
    group.add_argument(
        "--live", env_var="STARLING_LIVE", default="/live/master.m3u8", help="URL paths of live streams, by comma"
    )
    group.add_argument(
        "--film", env_var="STARLING_FILM", default="/film/master.m3u8", help="URL paths of films, by comma"
    )
    group.add_argument(
        "--watch", env_var="STARLING_WATCH", type=float, default=60.0, help="mean length of a sitting, in seconds"
    )
    group.add_argument(
        "--low-latency",
        action="store_true",
        env_var="STARLING_LOW_LATENCY",
        help="fetch parts where playlists have them",
    )


def configure(environment: Environment, **_: Any) -> None:
    """Hands the options to the users; a kind without a path takes no part."""
    options = environment.parsed_options
    assert options is not None, "these viewers are configured by locust's command line"
    for viewer, paths in ((LiveViewer, options.live), (FilmViewer, options.film)):
        viewer.paths = [path.strip() for path in paths.split(",") if path.strip()]
        viewer.watch_s = options.watch
        viewer.config = PlaybackConfig(low_latency=options.low_latency)
    environment.user_classes = [viewer for viewer in environment.user_classes if getattr(viewer, "paths", True)]


hooks: Any = events  # locust leaves them untyped
hooks.init_command_line_parser.add_listener(add_arguments)
hooks.init.add_listener(configure)
