"""Real programs for a test: an origin, edges, and a film made once."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.programs import Swarm, running_swarm
from deploy.streams import make_film

FILM_S = 20.0
FILM = "/film/master.m3u8"


def nodes(count: int) -> list[str]:
    return [f"edge-{number}" for number in range(1, count + 1)]


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an on-demand stream of two renditions, 20 s long."""
    directory = tmp_path_factory.mktemp("media") / "film"
    make_film(directory, FILM_S)
    return directory


@pytest.fixture
def swarm_of(tmp_path: Path) -> Iterator[Callable[..., Swarm]]:
    """`swarm_of(3)`: an origin and three edges, joined; `media` is copied into the origin's directory first."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(edges: int, *, media: Path | None = None) -> Swarm:
            nonlocal count
            count += 1
            directory = tmp_path / f"swarm-{count}"
            if media is not None:
                shutil.copytree(media, directory / "media" / media.name)
            return stack.enter_context(running_swarm(directory, nodes(edges)))

        yield start
