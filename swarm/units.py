"""Sizes, rates and durations as people write them: `512MiB`, `800mbit`, `5s`.

The parsed values are plain numbers (bytes, bits per second, seconds), so that they compare and encode like any other.
"""

import re
from typing import NewType

Bytes = NewType("Bytes", int)  # a size, in bytes
BitsPerSecond = NewType(
    "BitsPerSecond", int
)  # a rate, in bits per second; k, m and g are decimal, as on a network card
Seconds = NewType("Seconds", float)  # a duration, in seconds

Share = NewType("Share", float)  # a part of a whole, 0 to 1

SIZE_EXPECTED = "a size such as 512MiB (KiB, MiB, GiB, TiB, or a number of bytes)"
RATE_EXPECTED = "a rate above 0 such as 800mbit (kbit, mbit or gbit per second)"
DURATION_EXPECTED = "a duration such as 5s (ms, s, m or h)"
SHARE_EXPECTED = "a number from 0 to 1 such as 0.01"

_SIZE_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_RATE_UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)
_QUANTITY = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)


def parse_bytes(value: object) -> Bytes:
    """A size in bytes. A bare number counts bytes. ValueError if it is negative or unreadable."""
    if type(value) is int and value >= 0:
        return Bytes(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 15:
        return Bytes(int(value))
    number, scale = _quantity(value, _SIZE_UNITS, SIZE_EXPECTED)
    return Bytes(round(number * scale))


def parse_rate(value: object) -> BitsPerSecond:
    """A rate in bits per second. ValueError for a bare number (bits or bytes?) and for 0 (leave the key out)."""
    number, scale = _quantity(value, _RATE_UNITS, RATE_EXPECTED)
    rate_bps = round(number * scale)
    if rate_bps < 1:
        raise ValueError(f"expected {RATE_EXPECTED}")
    return BitsPerSecond(rate_bps)


def parse_seconds(value: object) -> Seconds:
    """A duration in seconds. A bare number is refused, but for 0: nobody remembers whether it was milliseconds."""
    if (type(value) is int and value == 0) or value == "0":
        return Seconds(0.0)
    number, scale = _quantity(value, _DURATION_UNITS, DURATION_EXPECTED)
    return Seconds(number * scale)


def parse_share(value: object) -> Share:
    """A number from 0 to 1. ValueError otherwise."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"expected {SHARE_EXPECTED}")
    return Share(float(value))


def _quantity(value: object, units: dict[str, int] | dict[str, float], expected: str) -> tuple[float, float]:
    """The number and what its unit stands for."""
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    scale = units.get(match["unit"].lower()) if match else None
    if match is None or scale is None:
        raise ValueError(f"expected {expected}")
    return float(match["number"]), float(scale)
