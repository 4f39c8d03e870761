"""One edge on its own before a plain origin."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.programs import Program


class Alone:
    """A running edge, and the file of its configuration."""

    def __init__(self, directory: Path, config: dict[str, Any], environ: dict[str, str] | None = None) -> None:
        self.file = directory / "edge.yaml"
        self.write(config)
        command = [sys.executable, "-m", "edge", "--config", str(self.file)]
        self.program = Program("edge", command, directory / "edge.log", environ=environ)

    def write(self, config: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(config))

    def url(self, path: str = "") -> str:
        return f"http://{self.program.ready['viewer']}{path}"

    def get_json(self, path: str) -> Any:
        """From the admin port."""
        with urllib.request.urlopen(f"http://{self.program.ready['admin']}{path}", timeout=5) as answer:
            return json.load(answer)

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://{self.program.ready['admin']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}


def alone_config(directory: Path, origin_url: str, **more: Any) -> dict[str, Any]:
    """More keys override."""
    config: dict[str, Any] = {
        "node": "alone",
        "viewer": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "origin": {"url": origin_url},
        "cache": {"directory": str(directory / "cache"), "memory": "64MiB", "disk": 0},
        "drain": {"grace": "0s"},
    }
    return config | more


@contextlib.contextmanager
def running_alone(directory: Path, config: dict[str, Any]) -> Iterator[Alone]:
    edge = Alone(directory, config)
    try:
        yield edge
    finally:
        edge.program.stop()


def check(file: Path) -> "subprocess.CompletedProcess[str]":
    """`--check` of a configuration."""
    return subprocess.run(
        [sys.executable, "-m", "edge", "--config", str(file), "--check"], capture_output=True, text=True, check=False
    )
