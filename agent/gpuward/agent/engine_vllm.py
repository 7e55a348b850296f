"""Read the traffic of a vLLM server out of its metrics page. Pure.

Names drift between releases, so each quantity has a list of names, newest first; one that the page
has under none of them is ``None``, never 0.  Traps that this knows:

* ``request_success_total`` counts every finished request, errors and aborts included; an abort is a
  client that left, neither failed nor timed out.
* Requests refused at admission are in no other counter: they are requests, and failed ones.
* One server has a series for each data-parallel rank (label ``engine``): sums, not the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent import engine_kv_cache
from gpuward.agent.model_name import model_name
from gpuward.agent.openmetrics import by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpuward.agent.engine_kv_cache import KvCache
    from gpuward.agent.openmetrics import Page, Series

FINISHED = ("vllm:request_success_total",)
REFUSED = ("vllm:admission_rejections_total",)
LATENCY = ("vllm:e2e_request_latency_seconds",)
TOKENS = ("vllm:generation_tokens_total",)
WAITING = ("vllm:num_requests_waiting",)
RUNNING = ("vllm:num_requests_running",)
STARTED = ("process_start_time_seconds",)
# All that is read of a page; most of its lines are passed over unparsed.
PREFIXES = (
    *(*FINISHED, *REFUSED, *LATENCY, *TOKENS, *WAITING, *RUNNING, *STARTED),
    *engine_kv_cache.PREFIXES,
)
FAILED_REASONS = frozenset({"error"})


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one scrape says, cumulative since ``started_wall_s``; ``None`` where it says nothing."""

    requests: int
    failed: int
    over_objective: int | None
    tokens: int | None
    waiting: int | None
    running: int | None
    started_wall_s: float | None
    # Empty when the page names none, or several.
    model: str = ""
    kv_cache: KvCache | None = None


def read(samples: Sequence[tuple[Series, float]], objective_s: float) -> Traffic | None:
    """Return the traffic on a page, ``None`` when the page is not that of a vLLM server."""
    page = by_name(samples)
    finished = _total(page, FINISHED)
    if finished is None:
        return None
    errors = _total(page, FINISHED, _is_failure) or 0
    refused = _total(page, REFUSED) or 0
    started = [value for name in STARTED for _, value in page.get(name, ())]
    return Traffic(
        requests=finished + refused,
        failed=errors + refused,
        over_objective=_over_objective(page, objective_s),
        tokens=_total(page, TOKENS),
        waiting=_total(page, WAITING),
        running=_total(page, RUNNING),
        started_wall_s=min(started, default=None),
        model=_model(page),
        kv_cache=engine_kv_cache.read(page),
    )


def _model(page: Page) -> str:
    finished = [series for name in FINISHED for series, _ in page.get(name, ())]
    names = {series.labels.get("model_name", "") for series in finished}
    return model_name(names.pop()) if len(names) == 1 else ""


def _is_failure(labels: dict[str, str]) -> bool:
    return labels.get("finished_reason") in FAILED_REASONS


def _total(
    page: Page,
    names: Sequence[str],
    wanted: Callable[[dict[str, str]], bool] = lambda _: True,
) -> int | None:
    """Return the sum over label sets of the first name that the page has."""
    for name in names:
        if name in page:
            return _whole(value for series, value in page[name] if wanted(series.labels))
    return None


def _over_objective(page: Page, objective_s: float) -> int | None:
    """Return how many requests lie above the bucket edge nearest to the objective, not below it.

    Exact, where a quantile is a guess inside a bucket: it undercounts only by the requests between
    the objective and that edge.  Above the last edge nothing can be told from the rest: 0.
    """
    for name in LATENCY:
        edges: dict[float, float] = {}
        for series, value in page.get(f"{name}_bucket", ()):
            edge = _edge(series.labels.get("le", ""))
            edges[edge] = edges.get(edge, 0.0) + value
        if edges:
            at_or_above = [edge for edge in edges if edge >= objective_s]
            everything = max(edges.values())
            below = edges[min(at_or_above)] if at_or_above else everything
            return _whole([everything - below])
    return None


def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _whole(values: Iterable[float]) -> int:
    """Return the sum as a count; what is no count (negative, NaN, infinite) is left out."""
    return sum(int(value) for value in values if 0 <= value < float("inf"))
