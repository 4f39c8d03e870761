"""HTTP dates (RFC 9110 section 5.6.7) and seconds since 1970."""

import re
from datetime import UTC, datetime, timedelta

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMS = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)  # names of days and months in any case, as others read them
    for form in (
        rf"[A-Z]{{3}}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"[A-Z]{{6,9}}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        rf"[A-Z]{{3}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
)
_CENTURY_TURN = 70  # two-digit years: 70-99 are 19xx. The form is obsolete; nothing sends it for a far future
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_http_date(text: str) -> float | None:
    """Seconds since 1970, or None for what is none of the three forms. The name of the day is not checked."""
    match = next((match for form in _FORMS if (match := form.fullmatch(text.strip()))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= _CENTURY_TURN else 2000
    second = int(match["second"])
    try:
        at = datetime(
            year,
            _MONTHS.index(match["month"].capitalize()) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(second, 59),  # a leap second, 60, reads as the second before it
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return (at - _EPOCH).total_seconds() if second <= 60 else None


def format_http_date(at: float) -> str:
    """IMF-fixdate of an instant in seconds since 1970, the second it lies in."""
    date = _EPOCH + timedelta(seconds=at // 1)
    return f"{_DAYS[date.weekday()]}, {date:%d} {_MONTHS[date.month - 1]} {date:%Y %H:%M:%S} GMT"
