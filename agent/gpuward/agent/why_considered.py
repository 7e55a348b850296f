"""Draw what may be behind a replica's trouble, and what is not, for a terminal.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.verdict import UNDETERMINED
from gpuward.agent.text_table import Tone, clipped, painted, wrapped
from gpuward.agent.why_text import said_with
from gpuward.memory_map.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.v1 import agent_pb2

INDENT = "  "
SIGNS_INDENT = " " * 6
# Of a cause; the longest is noisy_neighbour_compute.
NAME_WIDTH = 23
SIDES = {True: ("for", Tone.BAD), False: ("against", Tone.GOOD)}
SIDE_WIDTH = len("against")


def who(replica: agent_pb2.ReplicaCauses) -> str:
    """Return how a person calls the replica."""
    about = replica.subject
    return plain(f"{about.service} at {about.endpoint}" if about.endpoint else about.service)


def well_line(replica: agent_pb2.ReplicaCauses) -> str:
    """Return the one line about a replica with which nothing is wrong."""
    return f"{who(replica)}: nothing is slow."


def not_raised_lines(
    replica: agent_pb2.ReplicaCauses, *, width: int, colours: bool
) -> Iterator[str]:
    """Yield what is said of trouble that is too young to be raised, or just over."""
    verdict = said_with(replica.verdict, replica.confidence)
    words = f"{who(replica)} is in trouble, not raised yet: {verdict}"
    for line in wrapped(words, width=width, indent=""):
        yield painted(line, Tone.HEADING, colours=colours)


def possible_lines(replica: agent_pb2.ReplicaCauses, *, width: int, colours: bool) -> Iterator[str]:
    """Yield the possible causes with their evidence, and what would tell them apart."""
    possible = [each for each in replica.causes if each.HasField("decibans")]
    yield ""
    yield painted("Under consideration", Tone.HEADING, colours=colours)
    if not possible:
        yield f"{INDENT}nothing: no known cause shows"
    for cause in possible:
        yield from _possible(cause, width=width, colours=colours)
    if replica.in_trouble and (len(possible) > 1 or replica.verdict == UNDETERMINED):
        yield from wrapped(f"next test: {replica.next_test}", width=width, indent=INDENT)


def impossible_lines(
    replica: agent_pb2.ReplicaCauses, *, width: int, colours: bool
) -> Iterator[str]:
    """Yield what is ruled out and by what, and what nobody looks at.

    Of a replica that is well everything is ruled out, and there only the latter is news.
    """
    ruled_out = [
        (each.name, each.ruled_out)
        for each in replica.causes
        if each.ruled_out and replica.in_trouble
    ]
    unknown = [(each.name, each.unknown) for each in replica.causes if each.unknown]
    yield from _named("Ruled out", ruled_out, width=width, colours=colours)
    yield from _named("Nobody can say whether", unknown, width=width, colours=colours)


def _possible(cause: agent_pb2.PossibleCause, *, width: int, colours: bool) -> Iterator[str]:
    head = f"{cause.name}, {cause.decibans:.0f} decibans: {cause.says}"
    yield from wrapped(head, width=width, indent=INDENT)
    for sign in cause.signs:
        side, tone = SIDES[sign.decibans > 0]
        words = plain(sign.evidence.text.partition(": ")[2].partition(" (")[0])
        weight = f"{abs(sign.decibans):4.0f}"
        room = width - len(SIGNS_INDENT) - SIDE_WIDTH - len(weight) - len(INDENT)
        shown = painted(side.ljust(SIDE_WIDTH), tone, colours=colours)
        yield f"{SIGNS_INDENT}{shown}{weight}{INDENT}{clipped(words, room)}"


def _named(
    title: str, rows: Sequence[tuple[str, str]], *, width: int, colours: bool
) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield painted(title, Tone.HEADING, colours=colours)
    for name, words in rows:
        indent = INDENT + " " * NAME_WIDTH + INDENT
        first, *rest = wrapped(words, width=width, indent=indent)
        yield f"{INDENT}{plain(name).ljust(NAME_WIDTH)}{first[len(INDENT) + NAME_WIDTH :]}"
        yield from rest
