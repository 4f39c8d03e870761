"""Which objects of a foreign origin its homes fetch together, each its runs of pieces, instead of the first home alone
(DESIGN 5), and the spans of bytes they ask for."""

from http import HTTPStatus

from swarm.metainfo import Pointer
from swarm.placement import SPLIT_BYTES
from swarm.reuse import validators


def is_split(pointer: Pointer) -> bool:
    """A large body of stated length, whose parts can be asked for, and told by its tag from those of another."""
    if pointer.status != HTTPStatus.OK or pointer.size is None or pointer.size < SPLIT_BYTES:
        return False
    tag, _ = validators(pointer.headers)
    units = (pointer.header("accept-ranges") or "").lower().split(",")
    return tag is not None and not tag.startswith("W/") and "bytes" in (unit.strip() for unit in units)
