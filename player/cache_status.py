"""Where a response came from, as its Cache-Status header tells (RFC 9211)."""

import re

SOURCES = ("memory", "disk", "peer", "origin")
UNKNOWN = "origin"  # a response that does not say is counted against the swarm

_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_DETAIL = re.compile(r';\s*detail="?(memory|disk|peer|origin)"?\s*(?=;|$)')


def source_of(header: str | None) -> str:
    """The `detail` of the cache nearest to the viewer, which is the header's last member (RFC 9211 section 2)."""
    for member in reversed(_MEMBER.findall(header or "")):
        if detail := _DETAIL.search(member):
            return detail[1]
    return UNKNOWN
