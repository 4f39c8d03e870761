"""Real media, made once for all player tests."""

from pathlib import Path

import pytest

from tests.player.hls_server import make_film


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `film/main.m3u8`; live encoders write beside it."""
    directory = tmp_path_factory.mktemp("media")
    make_film(directory)
    return directory
