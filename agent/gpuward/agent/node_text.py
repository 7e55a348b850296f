"""Draw what is known of a node: a table of its GPUs, its findings, what nobody looked at.  Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gpuward.agent.node_view_gpus import GpuRow, Loudness, Verdict
from gpuward.agent.text_table import (
    NOTHING,
    Cell,
    Column,
    Tone,
    clipped,
    duration,
    painted,
    table,
    wrapped,
)
from gpuward.memory_map.text import plain, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuward.agent.node_view import FindingRow, NodeView, Unchecked

GIB = 2**30
INDENT = "        "
# Headroom below this share of the GPU's memory is worth an eye.
LITTLE_HEADROOM_RATIO = 0.02
# Stranded memory above this share is.
MUCH_STRANDED_RATIO = 0.05
HOT_CELSIUS = 85.0
_VERDICTS = {
    Verdict.OK: Tone.GOOD,
    Verdict.PARTIAL: Tone.FAINT,
    Verdict.UNKNOWN: Tone.WARNING,
    Verdict.TICKET: Tone.WARNING,
    Verdict.PAGE: Tone.BAD,
}
_LOUDNESS = {
    Loudness.NOTE: ("note", Tone.FAINT),
    Loudness.TICKET: ("TICKET", Tone.WARNING),
    Loudness.PAGE: ("PAGE", Tone.BAD),
}


def gpu_count(view: NodeView) -> str:
    """Return how many GPUs there are, and how many there should be."""
    cards = sum(row.index is not None for row in view.gpus)
    of = "" if view.gpus_expected in (None, cards) else f" of {view.gpus_expected}"
    return f"{cards}{of} GPU{'s' if cards != 1 or of else ''}"


def gpu_table(
    rows: Sequence[GpuRow], order: Sequence[str], *, width: int, colours: bool
) -> Iterator[str]:
    """Yield the table of GPUs; ``order``: headings, the one that is left out first comes last."""
    if not rows:
        return
    columns = [
        Column(heading, tuple(map(cell, rows)), order.index(heading), is_number=is_number)
        for heading, (is_number, cell) in _CELLS.items()
    ]
    yield from table(columns, width=width, colours=colours)


def finding_lines(rows: Sequence[FindingRow], *, width: int, colours: bool) -> Iterator[str]:
    """Yield each finding: how loud, of what, since when; what it says, on what; what to do."""
    for row in rows:
        word, tone = _LOUDNESS[row.loudness]
        about = f"{row.kind} {row.code}" if row.code else row.kind
        head = f"{about}  {_subject(row)}, for {duration(row.lasted_s)}"
        first, *rest = wrapped(head, width=width, indent=INDENT)
        yield painted(word.ljust(len(INDENT)), tone, colours=colours) + first[len(INDENT) :]
        yield from rest
        yield from wrapped(row.summary, width=width, indent=INDENT)
        if row.evidence and row.loudness is not Loudness.NOTE:
            yield from wrapped(f"seen: {'; '.join(row.evidence)}", width=width, indent=INDENT)
        if row.action and row.loudness is not Loudness.NOTE:
            yield from wrapped(f"do: {row.action}", width=width, indent=INDENT)


def finding_headlines(rows: Sequence[FindingRow], *, width: int, colours: bool) -> Iterator[str]:
    """Yield a line for each finding, cut where it does not fit."""
    for row in rows:
        word, tone = _LOUDNESS[row.loudness]
        code = f" {row.code}" if row.code else ""
        action = f"; {row.action}" if row.action and row.loudness is not Loudness.NOTE else ""
        lasted = duration(row.lasted_s).rjust(6)
        words = f"{lasted}  {_where(row)}{row.summary}  [{row.kind}{code}{action}]"
        yield (
            painted(word.ljust(len(INDENT)), tone, colours=colours)
            + clipped(words, width - len(INDENT))
        )


def unchecked_lines(rows: Sequence[Unchecked], *, width: int) -> Iterator[str]:
    """Yield what nobody looked at, and why."""
    for row in rows:
        yield from wrapped(f"{row.what}: {row.why}", width=width, indent="  ")


def _subject(row: FindingRow) -> str:
    gpu = f"GPU {row.gpu}" if row.gpu is not None else row.gpu_uuid
    words = filter(None, (gpu, row.process, row.service, row.endpoint))
    return plain(", ".join(words)) or "the node"


def _where(row: FindingRow) -> str:
    """Return the GPU before the summary, where that does not name it."""
    gpu = f"GPU {row.gpu}"
    is_said = row.gpu is None or re.search(rf"\b{gpu}\b", row.summary)
    return "" if is_said else f"{gpu}: "


def _index(row: GpuRow) -> Cell:
    # Slices of a card begin alike.
    return Cell(f"mig ..{row.uuid[-4:]}" if row.index is None else str(row.index))


def _name(row: GpuRow) -> Cell:
    return Cell(plain(row.name.removeprefix("NVIDIA ")) or NOTHING, Tone.FAINT)


def _verdict(row: GpuRow) -> Cell:
    # What is wrong with a slice is wrong with its card.
    if row.index is None:
        return Cell(NOTHING)
    return Cell(row.verdict.value, _VERDICTS[row.verdict])


def _memory(row: GpuRow) -> Cell:
    used, total = row.memory_used_bytes, row.memory_total_bytes
    if used is None or total is None:
        return Cell(NOTHING)
    return Cell(f"{used / GIB:.1f}/{total / GIB:.1f}G")


def _headroom(row: GpuRow) -> Cell:
    if row.headroom_bytes is None:
        return Cell(NOTHING)
    is_little = row.headroom_bytes < LITTLE_HEADROOM_RATIO * (row.memory_total_bytes or 0.0)
    return Cell(size_text(int(row.headroom_bytes)), Tone.WARNING if is_little else Tone.PLAIN)


def _stranded(row: GpuRow) -> Cell:
    if row.stranded_bytes is None:
        return Cell(NOTHING)
    is_much = row.stranded_bytes > MUCH_STRANDED_RATIO * (row.memory_total_bytes or 0.0)
    return Cell(size_text(int(row.stranded_bytes)), Tone.WARNING if is_much else Tone.PLAIN)


def _releasable(row: GpuRow) -> Cell:
    known = row.releasable_bytes
    return Cell(NOTHING if known is None else size_text(int(known)))


def _activity(row: GpuRow) -> Cell:
    if row.activity_ratio is None:
        return Cell(NOTHING)
    # A kernel that ran need not have worked.
    mark = "~" if row.activity_is_coarse else ""
    return Cell(f"{mark}{row.activity_ratio:.0%}")


def _limiter(row: GpuRow) -> Cell:
    tone = Tone.WARNING if row.load in ("stalled", "wedged", "degraded") else Tone.PLAIN
    return Cell(" ".join(filter(None, (row.load, row.limiter))) or NOTHING, tone)


def _temperature(row: GpuRow) -> Cell:
    known = [row.temperature_celsius, row.memory_temperature_celsius]
    degrees = [value for value in known if value is not None]
    if not degrees:
        return Cell(NOTHING)
    tone = Tone.WARNING if max(degrees) >= HOT_CELSIUS else Tone.PLAIN
    return Cell("/".join(f"{value:.0f}" for value in degrees) + "C", tone)


def _power(row: GpuRow) -> Cell:
    if row.power_watts is None:
        return Cell(NOTHING)
    limit = "" if row.power_limit_watts is None else f"/{row.power_limit_watts:.0f}"
    return Cell(f"{row.power_watts:.0f}{limit}W")


def _link(row: GpuRow) -> Cell:
    if row.pcie_generation is None or row.pcie_width is None:
        return Cell(NOTHING)
    # An idle GPU lowers the generation by itself; the width never.
    is_narrow = row.pcie_width_max is not None and row.pcie_width < row.pcie_width_max
    text = f"{row.pcie_generation:.0f}x{row.pcie_width:.0f}"
    if is_narrow:
        return Cell(f"{text}<{row.pcie_width_max:.0f}", Tone.BAD)
    return Cell(text)


def _ecc(row: GpuRow) -> Cell:
    if row.ecc_corrected is None or row.ecc_uncorrected is None:
        return Cell(NOTHING)
    tone = Tone.BAD if row.ecc_uncorrected else Tone.PLAIN
    return Cell(f"{row.ecc_corrected:.0f}/{row.ecc_uncorrected:.0f}", tone)


def _remap(row: GpuRow) -> Cell:
    if row.remap_failed:
        return Cell("failed", Tone.BAD)
    if row.remap_pending:
        return Cell("pending", Tone.WARNING)
    return Cell(NOTHING if row.remapped_rows is None else f"{row.remapped_rows:.0f}")


def _xids(row: GpuRow) -> Cell:
    if row.xids is None:
        return Cell("?", Tone.FAINT) if row.index is not None else Cell(NOTHING)
    return Cell(",".join(map(str, row.xids)) or "none", Tone.WARNING if row.xids else Tone.PLAIN)


# Whether it is a number, and its cell.
_CELLS: dict[str, tuple[bool, Callable[[GpuRow], Cell]]] = {
    "gpu": (True, _index),
    "name": (False, _name),
    "verdict": (False, _verdict),
    "memory": (True, _memory),
    "headroom": (True, _headroom),
    "stranded": (True, _stranded),
    "releasable": (True, _releasable),
    "active": (True, _activity),
    "limited by": (False, _limiter),
    "temp": (True, _temperature),
    "power": (True, _power),
    "pcie": (True, _link),
    "ecc c/u": (True, _ecc),
    "remap": (True, _remap),
    "xid": (True, _xids),
}
# What goes last when there is no room: the hardware's health in a scan, memory in a live view.
SCAN_ORDER = (
    "gpu",
    "verdict",
    "memory",
    "headroom",
    "xid",
    "active",
    "temp",
    "pcie",
    "ecc c/u",
    "remap",
    "power",
    "stranded",
    "limited by",
    "name",
    "releasable",
)
TOP_ORDER = (
    "gpu",
    "verdict",
    "memory",
    "headroom",
    "stranded",
    "active",
    "limited by",
    "releasable",
    "temp",
    "power",
    "xid",
    "pcie",
    "ecc c/u",
    "name",
    "remap",
)
