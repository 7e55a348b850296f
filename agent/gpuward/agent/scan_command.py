"""The work of `gpuward agent scan`: look once, say what there is, is wrong and is not known."""

from __future__ import annotations

import asyncio
import os
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent import wire
from gpuward.agent.look import boot_id, look
from gpuward.agent.node_text import SCAN_ORDER, finding_lines, gpu_count, gpu_table, unchecked_lines
from gpuward.agent.node_view import NodeView, node_view
from gpuward.agent.node_view_gpus import Loudness, Verdict
from gpuward.agent.process_identity import sees_every_pid
from gpuward.agent.text_table import Tone, painted
from gpuward.agent.unchecked import Rights, unchecked
from gpuward.daemon import log
from gpuward.daemon.clock import SystemClock
from gpuward.memory_map.text import plain, taken_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.config import AgentConfig

# Of the JSON: changes only when a field changes its meaning or goes.
SCHEMA = 1


class Status(IntEnum):
    """The exit status of a scan."""

    NOTHING = 0
    TICKET = 1
    PAGE = 2
    COULD_NOT_LOOK = 3


def scan(config: AgentConfig) -> NodeView:
    """Look at this node for some seconds and return what there is."""
    # What the parts log about themselves is in the answer.
    log.configure(level="critical")
    seen = asyncio.run(look(config, clock=SystemClock(), boot_id=boot_id()))
    rights = Rights(
        is_root=os.geteuid() == 0,
        sees_every_pid=sees_every_pid(Path("/proc")),
        has_engines=bool(config.engines or seen.snapshot.services),
    )
    return node_view(
        wire.snapshot_message(seen.snapshot),
        xids=seen.xids,
        unchecked=unchecked(seen.snapshot, seen.unknown, rights),
    )


def status(view: NodeView) -> Status:
    """Return the exit status: a page before all else, and not to have looked before a ticket."""
    if view.loudest is Loudness.PAGE:
        return Status.PAGE
    is_blind = any(row.verdict is Verdict.UNKNOWN for row in view.gpus)
    if not view.driver_up or not view.gpus or is_blind:
        return Status.COULD_NOT_LOOK
    return Status.TICKET if view.loudest is Loudness.TICKET else Status.NOTHING


def as_json(view: NodeView) -> bytes:
    """Return ``view`` with sorted keys, base units and ``null`` for what is not known."""
    fields = {"schema": SCHEMA, "status": status(view).name.lower(), **msgspec.to_builtins(view)}
    for row in fields["findings"]:
        row["loudness"] = Loudness(row["loudness"]).name.lower()
    return msgspec.json.format(msgspec.json.encode(fields, order="sorted"))


def as_text(view: NodeView, *, width: int, colours: bool) -> str:
    """Return ``view`` for a terminal of ``width`` columns."""
    return "\n".join(_lines(view, width, colours=colours))


def _lines(view: NodeView, width: int, *, colours: bool) -> Iterator[str]:
    version = view.driver_version if view.driver_up else "does not answer"
    yield plain(
        f"{view.node}  {taken_text(view.at_s)}  driver {version or 'unknown'}  {gpu_count(view)}"
    )
    if view.gpus:
        yield ""
        yield from gpu_table(view.gpus, SCAN_ORDER, width=width, colours=colours)
    yield ""
    if view.findings:
        yield painted("Findings", Tone.HEADING, colours=colours)
        yield from finding_lines(view.findings, width=width, colours=colours)
    elif status(view) is Status.COULD_NOT_LOOK:
        yield "Nobody could look, which is not the same as nothing being wrong."
    else:
        yield "No findings."
    yield ""
    yield painted("Not checked", Tone.HEADING, colours=colours)
    yield from unchecked_lines(view.unchecked, width=width)
