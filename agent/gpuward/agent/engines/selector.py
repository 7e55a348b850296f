"""Say which series of a page are meant, as PromQL says it: ``name{label="value",other!~"a|b"}``.

People who run engines write such selectors every day; the maps of engines are made of them.
Regular expressions match whole values, and a label that a series lacks is empty, as in PromQL.
Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SELECTOR = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(
    r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,\s*|$)', re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric's name, and what its labels must be."""

    name: str
    # Label, what its whole value matches, and whether it should.
    matchers: tuple[tuple[str, re.Pattern[str], bool], ...] = ()

    def admits(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series of this name with ``labels`` is meant."""
        return all(
            (pattern.fullmatch(labels.get(label, "")) is not None) is should
            for label, pattern, should in self.matchers
        )


@cache
def selector(text: str) -> Selector:
    """Return the selector that ``text`` is; raises ``ValueError``."""
    found = _SELECTOR.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is not a metric, nor metric{{label="value"}}')
    inner = found[2] or ""
    matchers = []
    place = 0
    while place < len(inner):
        one = _MATCHER.match(inner, place)
        if one is None:
            raise ValueError(f'{text!r}: expected label="value" at {inner[place:]!r}')
        matchers.append((one[1], _pattern(text, one[2], one[3]), one[2].startswith("=")))
        place = one.end()
    return Selector(found[1], tuple(matchers))


def _pattern(text: str, operator: str, value: str) -> re.Pattern[str]:
    plain = value.replace('\\"', '"').replace("\\\\", "\\")
    try:
        return re.compile(plain if operator.endswith("~") else re.escape(plain))
    except re.error as error:
        raise ValueError(f"{text!r}: {value!r} is not a regular expression: {error}") from error
