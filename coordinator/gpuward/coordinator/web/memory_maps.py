"""What the incident's page and the JSON API show of memory maps.

Everything is drawn here, from numbers that were checked; an agent has no say in the markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gpuward.coordinator import map_request, store_maps
from gpuward.coordinator.web.views import Figure
from gpuward.memory_map import svg
from gpuward.memory_map.model import Totals, largest_groups, totals
from gpuward.memory_map.text import left_out_text, size_text, stream_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.coordinator.map_request import MapRequest
    from gpuward.coordinator.store import Record
    from gpuward.memory_map.model import Group, MemoryMap

# On a page there is less room than on a sheet of its own.
LINES = 12
# Drawings that are kept: an open page is fetched every few seconds.
KEPT = 16
NO_MEMORY = "The allocator held no memory on this GPU."
GAPS = "A bar is a range of addresses; a segment begins after a gap."
MORE = "There is more: the highest addresses did not fit into the answer."
SOON = "A map of the process is asked for within seconds."


@dataclass(frozen=True, slots=True)
class DrawnGroup:
    """The segments of one pool and stream; ``bars`` is an SVG element."""

    heading: str
    bars: Markup


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that is shown of a map; it depends on nothing but the map."""

    taken_at_s: float
    pid: int
    figures: tuple[Figure, ...]
    legend: tuple[svg.Part, ...]
    pictures: tuple[DrawnGroup, ...]
    notes: tuple[str, ...]
    sums: Totals
    groups: tuple[dict[str, Any], ...]
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class ShownMap:
    """A map with what an incident knows of it."""

    id: int
    title: str
    drawing: Drawing


@dataclass(frozen=True, slots=True)
class ShownProcess:
    """A process with its maps, newest first, and why there is none that is newer."""

    id: str
    name: str
    place: str
    pid: int
    maps: tuple[ShownMap, ...]
    trouble: str
    due_at_s: float | None
    is_waiting: bool
    may_ask: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """The maps of an incident; ``note`` says what is not there."""

    processes: tuple[ShownProcess, ...]
    note: str


def overview(record: Record, requests: Sequence[MapRequest], now_s: float) -> Overview | None:
    """Return what the page shows; ``None`` where there is nothing to say."""
    by_process: dict[str, list[MapRequest]] = {}
    for request in requests:
        by_process.setdefault(request.process.id, []).append(request)
    is_open = record.incident.is_open
    shown = tuple(_process(found, is_open=is_open) for found in by_process.values())
    note = _note(record, set(by_process), now_s)
    return Overview(shown, note) if shown or note else None


def as_json(request: MapRequest) -> dict[str, Any]:
    """Return a wish and its outcome; sizes in bytes."""
    process = request.process
    drawing = None if request.body is None else draw(request.body)
    return {
        "node": process.node,
        "gpu_uuid": process.gpu_uuid,
        "process_key": process.process_key,
        "pid": drawing.pid if drawing else process.pid,
        "on_request": request.on_request,
        "is_waiting": request.is_waiting,
        "due_at_s": request.due_at_s,
        "asked_at_s": request.asked_at_s,
        "refusal": request.refusal,
        "taken_at_s": drawing and drawing.taken_at_s,
        "is_truncated": drawing and drawing.is_truncated,
        "totals": drawing and _figures_json(drawing.sums),
        "groups": drawing and drawing.groups,
    }


@lru_cache(maxsize=KEPT)
def draw(body: bytes) -> Drawing:
    """Return the drawing of a packed map."""
    memory_map = store_maps.unpacked(body)
    sums = totals(memory_map.segments)
    found, _ = largest_groups(memory_map.segments)
    return Drawing(
        taken_at_s=memory_map.taken_at_s,
        pid=memory_map.pid,
        figures=tuple(_figures(sums)),
        legend=tuple(part for part in svg.legend(sums) if part.size),
        pictures=tuple(
            DrawnGroup(svg.heading(picture), Markup(svg.bars(picture)))  # noqa: S704 - our own
            for picture in svg.pictures(memory_map, rows=LINES)
        ),
        notes=tuple(_notes(memory_map)),
        sums=sums,
        groups=tuple(map(_group_json, found)),
        is_truncated=memory_map.is_truncated,
    )


def _process(requests: Sequence[MapRequest], *, is_open: bool) -> ShownProcess:
    """Return the process that all of ``requests``, oldest first, are about."""
    last, process = requests[-1], requests[-1].process
    waiting = next((request for request in requests if request.is_waiting), None)
    trouble = last.refusal
    if waiting is not None and not is_open:
        trouble = trouble or "the incident was resolved before there was an answer"
    return ShownProcess(
        id=process.id,
        name=process.process_key,
        place=f"node {process.node} · {process.gpu_uuid}"
        + (f" · pid {process.pid}" if process.pid else ""),
        pid=process.pid,
        maps=tuple(_map(request) for request in reversed(requests) if request.body is not None),
        trouble=trouble,
        due_at_s=None if waiting is None else waiting.due_at_s,
        is_waiting=waiting is not None and is_open,
        may_ask=waiting is None and is_open,
    )


def _map(request: MapRequest) -> ShownMap:
    title = "Fresh map" if request.on_request else "Map at the finding"
    return ShownMap(request.id, title, draw(request.body or b""))


def _note(record: Record, asked: set[str], now_s: float) -> str:
    if not record.incident.is_open:
        return ""
    if map_request.wanted(record.incident, record.findings, asked, now_s):
        return SOON
    concerned = map_request.concerned(record.incident, record.findings)
    left = sum(process.id not in asked for process in concerned)
    if left and len(asked) >= map_request.PROCESSES_LIMIT:
        return f"{left} more processes have memory findings; they were not asked for a map."
    return ""


def _figures(sums: Totals) -> Iterator[Figure]:
    yield Figure("reserved from the device", size_text(sums.reserved))
    yield Figure("active", size_text(sums.allocated + sums.pending))
    yield Figure("stranded: free, but pinned", size_text(sums.stranded), is_bad=sums.stranded > 0)
    yield Figure("releasable by empty_cache()", size_text(sums.releasable))
    yield Figure("largest free block", size_text(sums.largest_hole))


def _notes(memory_map: MemoryMap) -> Iterator[str]:
    yield from left_out_text(memory_map)
    if memory_map.is_truncated:
        yield MORE
    yield GAPS if memory_map.segments else NO_MEMORY


def _group_json(group: Group) -> dict[str, Any]:
    stream = stream_text(group.stream)
    return {"pool": group.pool, "stream": stream, **_figures_json(totals(group.segments))}


def _figures_json(sums: Totals) -> dict[str, int]:
    return {
        "segments": sums.segments,
        "blocks": sums.blocks,
        "reserved_bytes": sums.reserved,
        "allocated_bytes": sums.allocated,
        "pending_free_bytes": sums.pending,
        "releasable_bytes": sums.releasable,
        "stranded_bytes": sums.stranded,
        "private_free_bytes": sums.kept,
        "requested_bytes": sums.requested,
        "largest_free_block_bytes": sums.largest_hole,
    }
