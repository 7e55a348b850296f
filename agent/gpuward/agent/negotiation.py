"""Choose what a client can read: the text format of a page, and whether it is compressed.

Prometheus lists what it takes in ``Accept``, each with a weight, RFC 9110 section 12.5.
OpenMetrics is for those who ask for the version that is written here and weigh it no less.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_VERSION = "1.0.0"
TEXT_TYPES = ("text/plain", "text/*", "*/*")
_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


class Choice(NamedTuple):
    """One element of a list in a header: ``q`` is 0 to 1, 0 refuses."""

    name: str
    parameters: dict[str, str]
    q: float


def prefers_openmetrics(accept: str) -> bool:
    """Return whether ``Accept`` asks for OpenMetrics no less than for the classic text."""
    choices = tuple(_choices(accept))
    openmetrics = [
        choice.q
        for choice in choices
        if choice.name == OPENMETRICS
        and choice.parameters.get("version", OPENMETRICS_VERSION) == OPENMETRICS_VERSION
    ]
    text = [choice.q for choice in choices if choice.name in TEXT_TYPES]
    return max(openmetrics, default=0.0) > 0 and max(openmetrics) >= max(text, default=0.0)


def takes_gzip(accept_encoding: str) -> bool:
    """Return whether ``Accept-Encoding`` names gzip, or anything, without refusing it."""
    weights = {choice.name: choice.q for choice in _choices(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _choices(header: str) -> Iterator[Choice]:
    for element in header.split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        known = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        weight = known.get("q", "1")
        # A weight that is none of RFC 9110's asks for nothing.
        q = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
        yield Choice(name.lower(), known, q)
