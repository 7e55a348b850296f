"""Say what a look at the node did not see, and why.  Pure.

A table without a fault reads as health.  It is only as good as what was looked at: signals that a
product lacks, a log that may not be read, processes without a tap, and all that takes longer than
two seconds to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from gpuward.agent.coverage import TAPS_READABLE, are_readable, coverage
from gpuward.agent.node_view import Unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.model import Finding, Gpu, Snapshot

# What every look at a GPU must show, unless the product lacks it.
VITAL = (
    "gpu_memory_used_bytes",
    "gpu_temperature_celsius",
    "gpu_power_draw_watts",
    "gpu_clock_event_reasons",
    "gpu_ecc_uncorrected_total",
    "gpu_row_remap_failed",
    "gpu_pcie_link_width",
)
# Stands for the GPUs that one sentence is about.
_GPU = "\0"
TAKES_LONGER = (
    Unchecked(
        "rates, trends and comparisons",
        "ECC rates, leaks, clocks under load and fragmentation over time need minutes:"
        " a running agent judges them",
    ),
    Unchecked("latency of a launch", "a scan measures nothing itself: a running agent does"),
)


@dataclass(frozen=True, slots=True)
class Rights:
    """What the process that looked may see."""

    is_root: bool
    sees_every_pid: bool
    has_engines: bool


def unchecked(
    snapshot: Snapshot, unknown: Sequence[Finding], rights: Rights
) -> tuple[Unchecked, ...]:
    """Return everything that was not looked at, the gravest first."""
    return (
        *_driver(snapshot),
        *_not_judged(snapshot, unknown),
        *_vital(snapshot),
        *_rights(rights),
        *_untapped(snapshot),
        *_unsupported(snapshot.gpus),
        *TAKES_LONGER,
    )


def indexes_text(indexes: Sequence[int]) -> str:
    """Return ``GPU 3`` or ``GPUs 0-3, 6``."""
    numbered = enumerate(sorted(indexes))
    runs = [
        [index for _, index in run] for _, run in groupby(numbered, lambda item: item[1] - item[0])
    ]
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"GPU{'s' if len(indexes) > 1 else ''} {', '.join(words)}"


def _driver(snapshot: Snapshot) -> Iterator[Unchecked]:
    driver = snapshot.driver
    if not driver.up:
        yield Unchecked("GPUs", driver.reason or "the driver has not answered")


def _not_judged(snapshot: Snapshot, unknown: Sequence[Finding]) -> Iterator[Unchecked]:
    """Yield what could not be judged, of several GPUs in one line."""
    indexes = {gpu.uuid: gpu.index for gpu in snapshot.gpus}
    kinds: dict[str, dict[str, None]] = {}
    gpus: dict[str, set[int]] = {}
    for finding in unknown:
        index = indexes.get(finding.subject.gpu)
        words = finding.summary.rstrip(".").replace(f"GPU {index}", _GPU)
        kinds.setdefault(words, {})[finding.kind] = None
        gpus.setdefault(words, set()).update(() if index is None else (index,))
    for words, of in kinds.items():
        why = words.replace(_GPU, indexes_text(sorted(gpus[words])))
        yield Unchecked(", ".join(of), why)


def _vital(snapshot: Snapshot) -> Iterator[Unchecked]:
    shown = {(key.signal, key.gpu) for key in snapshot.samples}
    for signal in VITAL:
        silent = [
            gpu.index
            for gpu in snapshot.gpus
            if (signal, gpu.uuid) not in shown and signal not in gpu.unsupported
        ]
        if silent:
            yield Unchecked(signal, f"{indexes_text(silent)} did not say")


def _rights(rights: Rights) -> Iterator[Unchecked]:
    if not rights.is_root:
        yield Unchecked("names of other users' processes", "not run as root")
    if not rights.sees_every_pid:
        yield Unchecked(
            "whose memory is whose",
            "in a PID namespace of its own, where the driver's pids mean nothing:"
            " run on the host, or with its PID namespace",
        )
    if not rights.has_engines:
        yield Unchecked(
            "inference servers", "none was found, and none is configured under [[engines]]"
        )


def _untapped(snapshot: Snapshot) -> Iterator[Unchecked]:
    for process in snapshot.processes:
        seen = coverage(
            is_seen=process.tapped,
            has_tap=process.tapped,
            is_degraded=False,
            engine=process.engine,
            are_taps_readable=are_readable(snapshot.samples.get(TAPS_READABLE)),
        )
        if seen.reason:
            about = f"allocator of {process.key} (pid {process.pid})"
            yield Unchecked(about, seen.reason)


def _unsupported(gpus: Sequence[Gpu]) -> Iterator[Unchecked]:
    by_lack: dict[tuple[str, frozenset[str]], list[int]] = {}
    for gpu in gpus:
        if gpu.unsupported:
            by_lack.setdefault((gpu.name, gpu.unsupported), []).append(gpu.index)
    for (name, lack), indexes in by_lack.items():
        about = f"{len(lack)} signals of {indexes_text(indexes)}"
        yield Unchecked(about, f"{name} or its driver lacks them: {', '.join(sorted(lack))}")
