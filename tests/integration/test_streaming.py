"""What a streaming audience does to one edge: every count as promised. How long it takes is for `make show`."""

from pathlib import Path

import pytest
import uvloop

from tests.integration.alone import alone_config, running_alone
from tests.integration.streaming import SCENES, Origin, Row, Scene

pytestmark = pytest.mark.processes


async def _played(directory: Path, scene: Scene) -> Row:
    async with Origin().running() as origin:
        config = alone_config(directory, f"http://{origin.address}")
        config["origin"] = {"url": f"http://{origin.address}", "trust": "attested"}
        with running_alone(directory, config) as edge:
            return await scene(origin, str(edge.program.ready["viewer"]))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_what_is_promised_for(scene: Scene, tmp_path: Path):
    row = uvloop.run(_played(tmp_path, scene))
    assert [name for name, held in row.held.items() if not held] == [], row
