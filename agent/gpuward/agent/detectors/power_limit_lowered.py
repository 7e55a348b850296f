"""Note a GPU whose power limit is below the one it boots with.

Somebody may have meant it; as evidence it explains a low clock and a slow answer.
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
    Result,
    SeriesKey,
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

LIMIT = "gpu_power_limit_watts"
DEFAULT = "gpu_power_default_limit_watts"

KIND = Kind(
    name="gpu.power.limit_lowered",
    default_class=FindingClass.STORE,
    domain=CauseDomain.GPU,
    action=Action.NONE,
    meaning="The power limit of a GPU is below its default, so it is slower than its siblings.",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limit in force by the default."""

    lowered_ratio: float = 0.9


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU whose limit is below ``lowered_ratio`` of the default."""
    for gpu in window.gpus:
        limit = window.latest(SeriesKey(LIMIT, gpu=gpu.uuid))
        default = window.latest(SeriesKey(DEFAULT, gpu=gpu.uuid))
        if limit is None or default is None or limit.value >= limits.lowered_ratio * default.value:
            continue
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window, gpu=gpu.uuid),
            summary=f"GPU {gpu.index} may draw {limit.value:.0f} W instead of {default.value:.0f}.",
            result=Result.OK,
            evidence=(
                Evidence(LIMIT, limit.value, "watts", source="nvml", at_s=limit.at_s),
                Evidence(DEFAULT, default.value, "watts", source="nvml", at_s=default.at_s),
            ),
        )
