"""Look at each GPU of a replica, and keep the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.seen import Seen, presence, worst

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.diagnosis.case import Case


def on_every_gpu(look: Callable[[Case, str], Seen]) -> Callable[[Case], Seen]:
    """Return what asks ``look`` of each GPU; unknown when nobody knows where the replica runs."""
    return lambda case: worst(look(case, gpu) for gpu in case.gpus)


def seen_on(
    case: Case,
    gpu: str,
    value: float,
    unit: str,
    limit: float | None = None,
    *,
    is_there: bool | None = None,
    text: str = "",
    source: str = "nvml",
    window_s: float = 0.0,
) -> Seen:
    """Return what was seen on ``gpu`` now: there from ``limit`` on, where nothing else is said."""
    if is_there is None:
        is_there = limit is not None and value >= limit
    return Seen(
        presence(is_there=is_there),
        value,
        unit,
        limit,
        text=text,
        gpu=gpu,
        source=source,
        at_s=case.window.now_s,
        window_s=window_s,
    )
