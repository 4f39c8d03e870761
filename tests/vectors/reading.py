"""Reads a file of vectors: a name on a line, its bytes as indented hex below it; `#` begins a comment."""

from pathlib import Path


def vectors(name: str) -> dict[str, bytes]:
    """The vectors of `tests/vectors/NAME.txt` by their names."""
    found: dict[str, bytes] = {}
    title = ""
    for line in Path(__file__).with_name(f"{name}.txt").read_text().splitlines():
        if line.startswith(" "):
            found[title] += bytes.fromhex(line)
        elif line and not line.startswith("#"):
            title = line
            found[title] = b""
    return found
