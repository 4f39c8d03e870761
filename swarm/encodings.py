"""Content codings: which one a viewer is sent (RFC 9110 section 12.5.3), and what is worth compressing."""

import re

GZIP, IDENTITY = "gzip", "identity"
LEAST_GZIP_BYTES = 500  # below, the saving does not fill a packet less

_MEMBER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?")


def encoding_for(accept_encoding: str | None) -> str:
    """`gzip` where the viewer takes it and does not like the plain form better, else `identity`.

    A header that is absent would allow any coding; who does not ask for gzip is not sent it all the same. Members that
    cannot be read count as not there; of a coding listed twice the lower weight counts. Where nothing we have is
    acceptable, the plain form is sent, as the RFC allows.
    """
    if not accept_encoding:
        return IDENTITY
    weights: dict[str, float] = {}
    for member in accept_encoding.split(","):
        if match := _MEMBER.fullmatch(member):
            coding = match[1].lower().removeprefix("x-")  # x-gzip is gzip (RFC 9110 section 8.4.1.3)
            weight = 1.0 if match[2] is None else float(match[2])
            weights[coding] = min(weight, weights.get(coding, 1.0))
    others = weights.get("*", 0.0)
    gzip = weights.get(GZIP, others)
    return GZIP if gzip > 0 and gzip >= weights.get(IDENTITY, others) else IDENTITY
