"""curl as a viewer."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """The last response of one call. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def curl(directory: Path, url: str, *options: str) -> Answer:
    """CalledProcessError if curl itself fails, for example over a body that is not as long as announced."""
    head, body = directory / "curl-head", directory / "curl-body"
    for file in (head, body):
        file.unlink(missing_ok=True)
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--dump-header", str(head), "-o", str(body)]
    subprocess.run([*command, *options, url], check=True, capture_output=True)
    lines = head.read_bytes().decode("latin-1").split("\r\n\r\n")[-2].split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(
        int(lines[0].split()[1]), headers, body.read_bytes() if body.exists() and "-I" not in options else b""
    )
