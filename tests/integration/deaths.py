"""Kills in the middle of a download, at a moment told by bytes, not by time."""

import threading
from functools import partial

from deploy.programs import Swarm
from tests.integration.downloads import Download, at_once, download


def download_while_killing(swarm: Swarm, path: str, victim: str, after_bytes: int) -> dict[str, Download]:
    """Every edge is asked at the same instant; `victim` is killed when its own viewer has got so many bytes."""
    killed = threading.Event()

    def on_size(size: int) -> None:
        if size >= after_bytes and not killed.is_set():
            killed.set()
            swarm.edges[victim].process.kill()

    got = at_once(
        [
            partial(download, swarm.url(node, path), None, on_size) if node == victim else partial(download, url)
            for node in swarm.edges
            for url in [swarm.url(node, path)]
        ]
    )
    return dict(zip(swarm.edges, got, strict=True))
