"""Sets of piece numbers as bitmaps: an int in memory, ranges or packed bytes on the wire."""

from collections.abc import Iterable, Iterator

Span = tuple[int, int]  # half-open: first piece, one past the last


def of_span(first: int, end: int) -> int:
    """The bitmap of the pieces first..end-1."""
    return ((1 << (end - first)) - 1) << first if end > first else 0


def of(pieces: Iterable[int]) -> int:
    bitmap = 0
    for piece in pieces:
        bitmap |= 1 << piece
    return bitmap


def each(bitmap: int) -> Iterator[int]:
    """The piece numbers in a bitmap, rising; in time linear in its length."""
    for at, byte in enumerate(pack(bitmap)):
        while byte:
            low = byte & -byte
            yield at * 8 + low.bit_length() - 1
            byte ^= low


def spans(bitmap: int) -> list[Span]:
    """The runs of a bitmap as half-open ranges, rising; the form used on the wire."""
    runs: list[Span] = []
    at = 0
    while bitmap:
        skip = (bitmap & -bitmap).bit_length() - 1
        bitmap >>= skip
        at += skip
        length = (~bitmap & (bitmap + 1)).bit_length() - 1
        runs.append((at, at + length))
        bitmap >>= length
        at += length
    return runs


def of_spans(runs: Iterable[Span], most: int) -> int:
    """The bitmap of ranges that came from outside: reversed, not rising or beyond `most` pieces is a ValueError."""
    digits = []  # lowest first; one conversion at the end, since each `|=` would copy the whole bitmap
    at = 0
    for first, end in runs:
        if not at <= first <= end <= most:
            raise ValueError(f"piece range {first}..{end} is not within {at}..{most}")
        digits += ["0" * (first - at), "1" * (end - first)]
        at = end
    return int("".join(digits)[::-1] or "0", 2)


def count(bitmap: int) -> int:
    return bitmap.bit_count()


def pack(bitmap: int) -> bytes:
    return bitmap.to_bytes((bitmap.bit_length() + 7) // 8, "little")


def unpack(packed: bytes) -> int:
    return int.from_bytes(packed, "little")
