"""HTTP header fields as lists of (name, value), in the order they came; names in any case (RFC 9110 section 5)."""

from collections.abc import Iterable

Headers = Iterable[tuple[str, str]]


def combined(headers: Headers, name: str) -> str | None:
    """The field's value, several lines joined by ", " (RFC 9110 section 5.2); None if it is absent."""
    wanted = name.lower()
    values = [value for field, value in headers if field.lower() == wanted]
    return ", ".join(values) if values else None


def first(headers: Headers, name: str) -> str | None:
    """The first line of a field that may stand only once; None if it is absent."""
    wanted = name.lower()
    return next((value for field, value in headers if field.lower() == wanted), None)
