"""One origin for each test module that asks for it, and an asker for each test."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from daemon.asking import Asker
from tests.origin.running import RunningOrigin, running


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrigin]:
    with running(tmp_path_factory.mktemp("origin")) as started:
        yield started


@pytest.fixture
async def asker(origin: RunningOrigin) -> AsyncIterator[Asker]:
    """An edge that knows the secret."""
    made = Asker("edge-a", origin.secrets())
    yield made
    await made.close()


@pytest.fixture
async def stranger() -> AsyncIterator[Asker]:
    """An asker without a secret."""
    made = Asker("stranger", ())
    yield made
    await made.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session
