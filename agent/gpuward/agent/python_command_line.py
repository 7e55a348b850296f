"""What a Python interpreter runs, from its command line: python(1).  Pure.

Only the interpreter's own words are looked at: those after the script or module are the script's
own, and may be anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Runs(NamedTuple):
    """A module or a script's path, empty where it is neither, as code in an argument."""

    module: str = ""
    script: str = ""


def what_runs(words: Sequence[str]) -> Runs:
    """Return what the interpreter ``words[0]`` runs."""
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            return Runs(script=word)
        if word.startswith("--") or (word[:2] in ("-W", "-X") and word[2:]):
            continue
        # Short options may stand together, the last of them with the next word: -um my.server.
        if word.endswith("m"):
            return Runs(module=next(rest, ""))
        if word == "-" or word.startswith("-c") or word.endswith("c"):
            return Runs()
        if word.endswith(("W", "X")):
            next(rest, "")
    return Runs()
