"""Read the Prometheus text format, version 0.0.4, line by line, fast and without trust.

An engine's page is read every second, and the reference parser takes 6 ms for one; this one takes
a fiftieth of that.  What a line is, is found out when it is first seen; then it is found by its
text; and while every wanted line stands where it stood, the others are not even looked at, but for
every tenth page: a series that comes exactly in the place of another may be seen so much later.

A page comes from another program, so all is bounded: lines, wanted samples, what is remembered.
Format: prometheus.io/docs/instrumenting/exposition_formats; the reference parser
(``prometheus_client.parser``) is the oracle of the tests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

# The largest real pages, of many models or replicas, have a few thousand lines.
LINES = 32_768
SAMPLES = 8_192
LINE_LENGTH = 16_384
LABELS = 128
# What is remembered of a server's lines: more than the largest real page has, and a bound for a
# hostile one.  An info metric of an engine, with a label for each setting, is within the length.
REMEMBERED_LENGTH = 1_024
REMEMBERED_CHARACTERS = 2 << 20

_NAME = re.compile(r"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_END = re.compile(r"\s*\Z")
_TIMESTAMP = re.compile(r"[+-]?[0-9]+")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


# Every so many pages, all lines are looked at.
ALL_LINES_EVERY = 10
# A line that was not seen before.
_NEW = object()


class ParseError(ValueError):
    """The text is not in the format; ``line`` counts from 1, 0 where it is no line's fault."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


class Series(NamedTuple):
    """Name and labels of a series."""

    name: str
    labels: dict[str, str]


Place = TypeVar("Place")


class PageParser(Generic[Place]):
    """Reads one server's page again and again.

    ``names``: of the samples that are wanted; other lines may hold anything.
    ``place_of``: what the caller goes by for a series, ``None`` when it is not wanted after all;
    asked when a series is new.
    """

    def __init__(self, names: Container[str], place_of: Callable[[Series], Place | None]) -> None:
        self._names = names
        self._place_of = place_of
        # By the text of a line before its value; ``None`` for lines to pass over.
        self._known: dict[str, Place | None] = {}
        self._remembered = 0
        # Of the page before: how many lines it had, which were wanted, and their places.
        self._lines = 0
        self._wanted = _Wanted(())
        self._places: list[Place] = []
        self._pages = 0

    def read(self, text: str) -> tuple[list[Place], list[float]]:
        """Return the place and the value of each wanted sample, in order; raises ``ParseError``."""
        lines = text.split("\n", LINES + 1)
        if len(lines) > LINES + 1:
            raise ParseError(f"more than {LINES} lines")
        self._pages += 1
        is_as_before = self._pages % ALL_LINES_EVERY and len(lines) == self._lines
        values = self._wanted.values(lines) if is_as_before else None
        if values is None:
            values = self._read_all(lines)
        if len(values) >= SAMPLES:
            raise ParseError(f"{SAMPLES} samples of what is read, or more")
        return self._places, values

    def _read_all(self, lines: list[str]) -> list[float]:
        places: list[Place] = []
        values: list[float] = []
        wanted: list[tuple[int, str]] = []
        known: dict[str, Any] = self._known
        self._lines = 0
        at = 0
        try:
            for at, line in enumerate(lines):
                start, _, rest = line.rpartition(" ")
                place = known.get(start, _NEW)
                if place is None:
                    continue
                if place is _NEW:
                    place, value = self._new(line, start)
                    if place is None:
                        continue
                    if len(values) >= SAMPLES:
                        break
                else:
                    value = _number(rest)
                places.append(place)
                values.append(value)
                wanted.append((at, f"{start} "))
        except ValueError as error:
            raise ParseError(str(error), at + 1) from error
        # A line with a timestamp begins otherwise each time: it is found out about each time.
        if all(start[:-1] in known for _, start in wanted):
            self._lines, self._wanted = len(lines), _Wanted(wanted)
        self._places = places
        return values

    def forget(self) -> None:
        """Find out anew what every line is."""
        self._known.clear()
        self._remembered = 0
        self._lines = 0

    def _new(self, line: str, start: str) -> tuple[Place | None, float]:
        name = _NAME.match(line)
        if name is None or name[1] not in self._names:
            self._remember(start, None)
            return None, 0.0
        raw, fields = _split(line)
        place = self._place_of(_series(raw))
        # With a timestamp or a tab, what is before the last blank is not the series alone.
        if raw == start and len(fields) == 1:
            self._remember(start, place)
        return place, _number(fields[0])

    def _remember(self, start: str, place: Place | None) -> None:
        if start and len(start) <= REMEMBERED_LENGTH:
            if self._remembered + len(start) > REMEMBERED_CHARACTERS:
                self.forget()
            self._known[start] = place
            self._remembered += len(start)


class _Wanted:
    """The wanted lines of a page: where they stand, and how each begins.

    A few hundred lines are read a second, so each step is made of all of them at once.
    """

    def __init__(self, lines: Sequence[tuple[int, str]]) -> None:
        self._at = [at for at, _ in lines]
        self._starts = [start for _, start in lines]
        self._values = [slice(len(start), None) for start in self._starts]

    def values(self, lines: list[str]) -> list[float] | None:
        """Return what follows the starts in ``lines``; ``None`` unless all is as it was."""
        found = [lines[at] for at in self._at]
        if not all(map(str.startswith, found, self._starts)):
            return None
        texts = [line[value] for line, value in zip(found, self._values, strict=True)]
        if not _is_plain("".join(texts)):
            return None
        try:
            return list(map(float, texts))
        except ValueError:
            # Which line it is and what is wrong with it, is said by who looks at all.
            return None


def _split(line: str) -> tuple[str, list[str]]:
    """Return the series and what follows it: a value, and a timestamp perhaps."""
    if len(line) > LINE_LENGTH:
        raise ValueError(f"longer than {LINE_LENGTH} characters")
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
    return raw, fields


def _is_plain(text: str) -> bool:
    """Return whether ``float`` reads no more in ``text`` than the format allows.

    Python reads digit groups and digits of other scripts.
    """
    return "_" not in text and text.isascii()


def _number(text: str) -> float:
    if _is_plain(text):
        try:
            return float(text)
        except ValueError:
            pass
    raise ValueError("expected a value: not a number")


def _series(raw: str) -> Series:
    name, brace, inner = raw.strip().partition("{")
    if not _NAME.fullmatch(name.rstrip()):
        raise ValueError("not a metric name")
    return Series(name.rstrip(), _labels(inner[:-1]) if brace else {})


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    place = 0
    while _END.match(text, place) is None:
        found = _LABEL.match(text, place)
        if found is None or found[1] in labels:
            raise ValueError("not a list of labels")
        if len(labels) >= LABELS:
            raise ValueError(f"more than {LABELS} labels")
        value = found[2]
        labels[found[1]] = _ESCAPE.sub(_unescape, value) if "\\" in value else value
        place = found.end()
    return labels


def _unescape(found: re.Match[str]) -> str:
    # An unknown escape stands for itself, as in the reference parser.
    return _ESCAPED.get(found[1], found[0])
