"""Detect what a GPU's driver says outright is wrong: one row a flag.

These are not measurements to be judged but statements: a row remap failed, the InfoROM is corrupt,
the GPU wants a reset.  NVIDIA's guides say what each asks for ("GPU Memory Error Management",
"Recovery action"); research on peers says which of them page without need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
)
from gpuward.agent.series_key import series_key
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.window import Window

# NVML's recovery actions that mean the GPU cannot go on: reset, reboot, drain and reset, bus reset,
# system reboot.  The others (drain peer-to-peer traffic, recover the IMEX domain, and numbers newer
# than this table) wait for a person.
UNUSABLE = frozenset({1, 2, 4, 6, 7})
FABRIC_COMPLETED = 3
# The InfoROM has room for 64; DCGM fails a card from this on.
MOST_RETIRED_PAGES = 63


@dataclass(frozen=True, slots=True)
class Flag:
    """One statement: what it is about, when it is bad, and in which words.

    ``judge`` returns ``None`` for a value that is in order; ``says`` gets index and value.
    """

    kind: Kind
    signal: str
    judge: Callable[[float], Result | None]
    says: str

    def detect(self, window: Window) -> Iterator[Finding]:
        """Yield one finding per GPU whose flag is bad; unknown while it is missing or stale."""
        for gpu in window.gpus:
            if self.signal in gpu.unsupported:
                continue
            sample = window.latest(series_key(self.signal, gpu.uuid))
            if sample is None:
                text = f"{self.signal} of GPU {gpu.index} is unknown."
                subject = subject_of(window, gpu=gpu.uuid)
                yield Finding(self.kind.name, subject, text, outcome=Outcome.UNKNOWN)
            elif (result := self.judge(sample.value)) is not None:
                yield Finding(
                    kind=self.kind.name,
                    subject=subject_of(window, gpu=gpu.uuid),
                    summary=self.says.format(gpu=gpu.index, value=int(sample.value)),
                    result=result,
                    evidence=(
                        Evidence(self.signal, sample.value, source="nvml", at_s=sample.at_s),
                    ),
                )


def _kind(
    name: str,
    loud: FindingClass,
    action: Action,
    meaning: str,
    *,
    raise_after_s: float = 0.0,
    page_when_failed: bool = False,
) -> Kind:
    # Flags are read every 30 s, so two readings in order clear one.
    return Kind(
        name,
        loud,
        CauseDomain.GPU,
        action,
        meaning,
        raise_after_s,
        clear_after_s=60.0,
        page_when_failed=page_when_failed,
    )


def _when_set(result: Result) -> Callable[[float], Result | None]:
    return lambda value: result if value > 0 else None


def _when_zero(result: Result) -> Callable[[float], Result | None]:
    return lambda value: result if value == 0 else None


def _recovery(value: float) -> Result | None:
    if value == 0:
        return None
    return Result.FAIL if value in UNUSABLE else Result.WARN


def _fabric_state(value: float) -> Result | None:
    # 0: the driver cannot say.
    return None if value in {0, FABRIC_COMPLETED} else Result.FAIL


FLAGS = (
    Flag(
        _kind(
            "gpu.memory.remap_pending",
            FindingClass.TICKET,
            Action.RESET_GPU,
            "A faulty row of memory waits for a reset to be replaced by a spare one.",
        ),
        "gpu_row_remap_pending",
        _when_set(Result.WARN),
        "GPU {gpu} needs a reset to replace a faulty row of memory; what runs is not affected.",
    ),
    Flag(
        _kind(
            "gpu.memory.remap_failed",
            FindingClass.PAGE,
            Action.REPLACE_HARDWARE,
            "A faulty row of memory could not be replaced: the card is to be exchanged.",
        ),
        "gpu_row_remap_failed",
        _when_set(Result.FAIL),
        "GPU {gpu} could not replace a faulty row of memory.",
    ),
    Flag(
        _kind(
            "gpu.memory.remap_exhausted",
            FindingClass.TICKET,
            Action.REPLACE_HARDWARE,
            "A bank of memory has no spare row left: its next fault cannot be mended.",
        ),
        "gpu_row_remap_banks_exhausted",
        _when_set(Result.WARN),
        "GPU {gpu} has {value} banks of memory without a spare row.",
    ),
    Flag(
        _kind(
            "gpu.memory.repair_pending",
            FindingClass.TICKET,
            Action.RESET_GPU,
            "A repair of memory waits for a reset.",
        ),
        "gpu_repair_pending",
        _when_set(Result.WARN),
        "GPU {gpu} needs a reset to repair its memory.",
    ),
    Flag(
        _kind(
            "gpu.memory.retired_pages_pending",
            FindingClass.TICKET,
            Action.RESET_GPU,
            "A faulty page of memory waits for a reset to be retired.",
        ),
        "gpu_retired_pages_pending",
        _when_set(Result.WARN),
        "GPU {gpu} needs a reset to retire a faulty page of memory.",
    ),
    Flag(
        _kind(
            "gpu.memory.retired_pages_full",
            FindingClass.TICKET,
            Action.REPLACE_HARDWARE,
            "So many pages of memory are retired that the next faulty one cannot be.",
        ),
        "gpu_retired_pages",
        lambda pages: Result.WARN if pages >= MOST_RETIRED_PAGES else None,
        "GPU {gpu} has retired {value} pages of memory: there is no room for more.",
    ),
    Flag(
        _kind(
            "gpu.memory.unrepairable",
            FindingClass.PAGE,
            Action.REPLACE_HARDWARE,
            "The driver says that the memory cannot be repaired: the card is to be exchanged.",
        ),
        "gpu_memory_unrepairable",
        _when_set(Result.FAIL),
        "The memory of GPU {gpu} cannot be repaired.",
    ),
    Flag(
        _kind(
            "gpu.ecc.sram_threshold",
            FindingClass.PAGE,
            Action.REPLACE_HARDWARE,
            "Uncorrected errors of SRAM have passed the threshold of an inspection.",
        ),
        "gpu_ecc_sram_threshold_exceeded",
        _when_set(Result.FAIL),
        "GPU {gpu} has more SRAM errors than a healthy one may have.",
    ),
    Flag(
        _kind(
            "gpu.inforom.corrupt",
            FindingClass.TICKET,
            Action.REPLACE_HARDWARE,
            "The InfoROM, which keeps the card's identity and error history, is corrupt.",
        ),
        "gpu_inforom_valid",
        _when_zero(Result.WARN),
        "The InfoROM of GPU {gpu} is corrupt.",
    ),
    Flag(
        _kind(
            "gpu.fabric.unhealthy",
            FindingClass.PAGE,
            Action.DRAIN_NODE,
            "The NVLink fabric calls its connection to a GPU unhealthy.",
            raise_after_s=30.0,
        ),
        "gpu_fabric_healthy",
        _when_zero(Result.FAIL),
        "The NVLink fabric calls GPU {gpu} unhealthy.",
    ),
    Flag(
        _kind(
            "gpu.fabric.not_joined",
            FindingClass.PAGE,
            Action.DRAIN_NODE,
            "A GPU has not joined the NVLink fabric, so it cannot reach its peers over it.",
            # Joining takes a while after a boot or a reset.
            raise_after_s=300.0,
        ),
        "gpu_fabric_state",
        _fabric_state,
        "GPU {gpu} has not joined the NVLink fabric: state {value}.",
    ),
    Flag(
        _kind(
            "gpu.recovery_needed",
            FindingClass.TICKET,
            Action.RESET_GPU,
            "The driver advises a recovery: of the GPU, its bus or the node.",
            page_when_failed=True,
        ),
        "gpu_recovery_action",
        _recovery,
        "The driver advises recovery action {value} for GPU {gpu}.",
    ),
)
