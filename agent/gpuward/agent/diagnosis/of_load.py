"""Evidence in the load of the GPUs: at a ceiling, idle while requests wait, used by strangers."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.per_gpu import on_every_gpu, seen_on
from gpuward.agent.diagnosis.seen import UNKNOWN
from gpuward.agent.saturation import Verdict, judge_load

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.seen import Seen
    from gpuward.agent.saturation import Judgement

MINUTE_S = 60.0
UTILIZATION = "process_gpu_utilization_ratio"
# Below it a stranger's kernels take less than the noise of a step.
STRANGER_RATIO = 0.1


@on_every_gpu
def saturated(case: Case, gpu: str) -> Seen:
    """Look whether the GPU is at a ceiling while requests wait or are slow, and at which."""
    judgement = _judgement(case, gpu)
    if judgement is None:
        return UNKNOWN
    load = judgement.loads.get(judgement.limiter)
    return seen_on(
        case,
        gpu,
        load.recent if load else 0.0,
        "ratio",
        1.0,
        is_there=judgement.verdict is Verdict.SATURATED,
        text=judgement.limiter.words if load else "",
        source="saturation",
    )


@on_every_gpu
def host_bound(case: Case, gpu: str) -> Seen:
    """Look whether requests wait although the GPU has room: what feeds it is late."""
    judgement = _judgement(case, gpu)
    if judgement is None or judgement.service is None:
        return UNKNOWN
    waiting, is_there = judgement.service.waiting, judgement.verdict is Verdict.STALLED
    return seen_on(case, gpu, waiting, "1", is_there=is_there, source="saturation")


@on_every_gpu
def stranger_computes(case: Case, gpu: str) -> Seen:
    """Look whether a process that is not of the replica keeps the GPU busy."""
    since_s = case.window.now_s - MINUTE_S
    keys = [key for key in case.window.keys(UTILIZATION) if key.gpu == gpu]
    if not keys:
        return UNKNOWN
    shares = {
        key.process: median(figures)
        for key in keys
        if key.process not in case.processes and (figures := case.window.figures(key, since_s))
    }
    busiest = max(shares, key=lambda process: (shares[process], process), default="")
    return seen_on(
        case,
        gpu,
        shares.get(busiest, 0.0),
        "ratio",
        STRANGER_RATIO,
        text=f"process {busiest}" if busiest else "",
        window_s=MINUTE_S,
    )


def _judgement(case: Case, gpu: str) -> Judgement | None:
    known = next((each for each in case.window.gpus if each.uuid == gpu), None)
    return None if known is None else judge_load(case.window, known)
