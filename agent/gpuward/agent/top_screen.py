"""Draw one frame of `gpuward agent top`: what no other tool shows comes first.  Pure.

Fragmentation, headroom and what holds a GPU back live inside the serving processes, where tools
that ask the driver cannot see them.  A frame never has more lines than the terminal: sections share
the height, and what is cut says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gpuward.agent.node_text import (
    TOP_ORDER,
    finding_headlines,
    gpu_count,
    gpu_table,
    unchecked_lines,
)
from gpuward.agent.node_view import Unchecked
from gpuward.agent.node_view_gpus import Loudness
from gpuward.agent.text_table import NOTHING, Cell, Column, Tone, clipped, painted, table
from gpuward.memory_map.text import plain, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.node_view import FindingRow, Lasted, NodeView, ServiceRow
    from gpuward.agent.node_view_processes import ProcessRow

# Heading and two lines: below that a section says nothing.
LEAST_LINES = 3
# From here on a tenth of a millisecond is of no interest.
TENTH_S = 0.1
# Older than this the picture is said to be old.
OLD_S = 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What an instance of a service did a second, between two pictures."""

    requests: float | None = None
    failed: float | None = None
    over_objective: float | None = None
    # Means of what ended between the pictures, in seconds.
    first_token_s: float | None = None
    inter_token_s: float | None = None


# Of an instance that is new, or has started anew.
NO_RATES = Rates()


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    columns: int
    lines: int


def frame(
    view: NodeView, before: NodeView, *, size: Size, colours: bool, age_s: float = 0.0
) -> list[str]:
    """Return the lines of a frame, at most ``size.lines`` of them.

    ``before``: an earlier view, to see what services do; ``age_s``: since the agent answered.
    """
    width = size.columns
    gpus = list(gpu_table(view.gpus, TOP_ORDER, width=width, colours=colours))
    findings = list(finding_headlines(_told(view), width=width, colours=colours))
    sections = [
        gpus,
        _headed("Findings", findings, colours=colours),
        list(_processes(view.processes, width, colours=colours)),
        list(_services(view.services, rates(view, before), width, colours=colours)),
        _headed("Not seen", list(unchecked_lines(_unseen(view), width=width)), colours=colours),
    ]
    head = painted(clipped(_head(view, age_s), width), _tone(view, age_s), colours=colours)
    return [head, *fitted([section for section in sections if section], size.lines - 1)]


def _unseen(view: NodeView) -> tuple[Unchecked, ...]:
    silent = (Unchecked("GPUs", view.driver_reason),) if view.driver_reason else ()
    return (*silent, *view.unchecked)


def fitted(sections: Sequence[list[str]], lines: int) -> list[str]:
    """Return ``sections`` with a blank line before each, cut to ``lines`` in all.

    Each gets its least first, then the earlier ones all that they need.
    """
    spare = lines - sum(1 + min(len(section), LEAST_LINES) for section in sections)
    shown: list[str] = []
    for section in sections:
        more = max(0, min(len(section) - LEAST_LINES, spare))
        spare -= more
        room = min(len(section), LEAST_LINES) + more
        shown += ["", *_cut(section, room)]
    return shown[: max(0, lines)]


def rates(view: NodeView, before: NodeView) -> dict[tuple[str, str], Rates]:
    """Return what each instance did a second since ``before``; nothing of one that restarted."""
    past = {(row.service, row.instance): row for row in before.services}
    seconds = view.at_s - before.at_s
    found = {}
    for row in view.services:
        was = past.get((row.service, row.instance))
        if was is not None and seconds > 0 and was.requests <= row.requests:
            found[row.service, row.instance] = Rates(
                requests=(row.requests - was.requests) / seconds,
                failed=(row.failed + row.timed_out - was.failed - was.timed_out) / seconds,
                over_objective=(row.over_objective - was.over_objective) / seconds,
                first_token_s=_mean(row.first_token, was.first_token),
                inter_token_s=_mean(row.inter_token, was.inter_token),
            )
    return found


def _mean(now: Lasted | None, was: Lasted | None) -> float | None:
    """Return the mean of what came after ``was``; ``None`` when nothing did, or it began anew."""
    if now is None or was is None or now.count <= was.count or now.seconds < was.seconds:
        return None
    return (now.seconds - was.seconds) / (now.count - was.count)


def _head(view: NodeView, age_s: float) -> str:
    loud = [row.loudness for row in view.findings]
    counts = f"{loud.count(Loudness.PAGE)} page, {loud.count(Loudness.TICKET)} ticket"
    driver = view.driver_version if view.driver_up else "DOES NOT ANSWER"
    at = f"{datetime.fromtimestamp(view.at_s, UTC):%H:%M:%S} UTC"
    old = f"  NO ANSWER FOR {age_s:.0f} s" if age_s > OLD_S else ""
    return f"{view.node}  {at}{old}  {counts}  driver {driver}  {gpu_count(view)}  q: quit"


def _tone(view: NodeView, age_s: float) -> Tone:
    is_bad = age_s > OLD_S or not view.driver_up or view.loudest is Loudness.PAGE
    return Tone.BAD if is_bad else Tone.HEADING


def _told(view: NodeView) -> list[FindingRow]:
    """Return what somebody is told of, and notes only where there is nothing else."""
    loud = [row for row in view.findings if row.loudness is not Loudness.NOTE]
    return loud or list(view.findings)


def _headed(heading: str, lines: list[str], *, colours: bool) -> list[str]:
    return [painted(heading, Tone.HEADING, colours=colours), *lines] if lines else []


def _cut(section: list[str], room: int) -> list[str]:
    if len(section) <= room:
        return section
    return [*section[: room - 1], f"  and {len(section) - room + 1} lines more"]


def _processes(rows: Sequence[ProcessRow], width: int, *, colours: bool) -> Iterator[str]:
    if not rows:
        return
    columns = [
        Column("process", tuple(Cell(plain(row.process)) for row in rows), 0, is_number=False),
        Column("gpu", tuple(Cell(str(row.gpu)) for row in rows), 0),
        _sizes("reserved", [row.reserved_bytes for row in rows], 3),
        _sizes("in use", [row.allocated_bytes for row in rows], 4),
        _sizes("stranded", [row.stranded_bytes for row in rows], 1),
        _sizes("releasable", [row.releasable_bytes for row in rows], 5),
        _sizes("headroom", [row.headroom_bytes for row in rows], 2),
        Column("ooms", tuple(_count(row.out_of_memory) for row in rows), 6),
    ]
    yield from table(columns, width=width, colours=colours)


def _services(
    rows: Sequence[ServiceRow],
    rates_of: dict[tuple[str, str], Rates],
    width: int,
    *,
    colours: bool,
) -> Iterator[str]:
    if not rows:
        return
    now = [rates_of.get((row.service, row.instance), NO_RATES) for row in rows]
    columns = [
        Column("service", tuple(Cell(plain(row.service)) for row in rows), 0, is_number=False),
        Column("instance", tuple(Cell(plain(row.instance)) for row in rows), 7, is_number=False),
        Column("ready", tuple(_ready(row) for row in rows), 3, is_number=False),
        Column("waiting", tuple(Cell(str(row.waiting)) for row in rows), 1),
        Column("running", tuple(Cell(str(row.running)) for row in rows), 2),
        Column("req/s", tuple(_rate(rate.requests) for rate in now), 4),
        Column("ttft ms", tuple(_milliseconds(rate.first_token_s) for rate in now), 8),
        Column("itl ms", tuple(_milliseconds(rate.inter_token_s) for rate in now), 9),
        Column("slow/s", tuple(_rate(rate.over_objective) for rate in now), 5),
        Column("failed/s", tuple(_rate(rate.failed) for rate in now), 6),
    ]
    yield from table(columns, width=width, colours=colours)


def _sizes(heading: str, sizes: Sequence[float | None], rank: int) -> Column:
    texts = (NOTHING if size is None else size_text(int(size)) for size in sizes)
    return Column(heading, tuple(map(Cell, texts)), rank)


def _count(value: float | None) -> Cell:
    if value is None:
        return Cell(NOTHING)
    return Cell(f"{value:.0f}", Tone.BAD if value else Tone.PLAIN)


def _rate(value: float | None) -> Cell:
    return Cell(NOTHING if value is None else f"{value:.1f}")


def _milliseconds(value: float | None) -> Cell:
    if value is None:
        return Cell(NOTHING)
    return Cell(f"{1e3 * value:.0f}" if value >= TENTH_S else f"{1e3 * value:.1f}")


def _ready(row: ServiceRow) -> Cell:
    return Cell("yes") if row.ready else Cell("no", Tone.BAD)
