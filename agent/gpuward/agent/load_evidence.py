"""What a finding about a GPU's load rests on, and how it is found: by the verdict sampled last.

The verdict is worked out every few seconds; detectors, which are asked every second, only look at
it, and work out the details of those GPUs that they speak of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.model import Evidence, Finding, Outcome, SeriesKey
from gpuward.agent.saturation import judge_load
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.kind import Kind
    from gpuward.agent.model import Gpu
    from gpuward.agent.saturation import Judgement, Verdict
    from gpuward.agent.window import Window

VERDICT = "gpu_load_verdict"


def judged(window: Window, wanted: Verdict) -> Iterator[tuple[Gpu, Judgement]]:
    """Yield each GPU whose last verdict is ``wanted``, and still is."""
    for gpu in window.gpus:
        verdict = window.latest(SeriesKey(VERDICT, gpu=gpu.uuid))
        if verdict is None or verdict.value != wanted:
            continue
        judgement = judge_load(window, gpu)
        if judgement is not None and judgement.verdict is wanted:
            yield gpu, judgement


def unknown(window: Window, kind: Kind) -> Iterator[Finding]:
    """Yield one finding of ``kind`` per GPU that nothing is known of just now."""
    for gpu in window.gpus:
        if not gpu.mig and window.latest(SeriesKey(VERDICT, gpu=gpu.uuid)) is None:
            text = f"The load of GPU {gpu.index} is unknown."
            subject = subject_of(window, gpu=gpu.uuid)
            yield Finding(kind.name, subject, text, outcome=Outcome.UNKNOWN)


def evidence_of(judgement: Judgement) -> tuple[Evidence, ...]:
    """Return the limiter, the loads of all resources, and how the service fares."""
    return (
        Evidence("gpu_limiter", text=judgement.limiter.words, source="saturation"),
        *(
            Evidence(f"gpu_{limiter.name.lower()}_load", load.recent, "ratio", source="saturation")
            for limiter, load in judgement.loads.items()
        ),
        *_of_service(judgement),
    )


def _of_service(judgement: Judgement) -> Iterator[Evidence]:
    service = judgement.service
    if service is None:
        return
    figures = (
        ("requests_waiting", service.waiting, "1"),
        ("requests_running", service.running, "1"),
        ("tokens_per_second", service.tokens_per_second, "1/s"),
        ("requests_over_objective_ratio", service.over_objective_ratio, "ratio"),
    )
    for name, value, unit in figures:
        if value is not None:
            yield Evidence(name, value, unit, source="engine")
