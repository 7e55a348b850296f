"""The table that turns one engine's metric names into ours, as types.

Each engine names, scales and labels the same few quantities in its own way, and renames them
between releases.  All of that is data: ``maps/*.toml``, a file for each engine, in the form that a
user writes for an engine of their own (``[engines.map]``).  Keys of ``figures`` and ``durations``
are ours: the signal is ``replica_<key>``, of a duration the two in ``COUNTERS``.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from gpuward.agent.engines.selector import selector

FigureName = Literal[
    "requests_total",
    "requests_failed_total",
    "requests_timed_out_total",
    "requests_waiting",
    "requests_running",
    "requests_limit",
    "kv_cache_usage_ratio",
    "preemptions_total",
    "tokens_total",
    "prompt_tokens_total",
    "prompts_total",
    "cached_prompt_tokens_total",
]
DurationName = Literal["latency", "first_token", "inter_token", "queue", "prefill", "decode"]

# The two counters of a duration: the sum of seconds, and how many it is of.
COUNTERS: dict[DurationName, tuple[str, str]] = {
    "latency": ("latency_seconds_total", "latencies_total"),
    "first_token": ("first_token_seconds_total", "first_tokens_total"),
    "inter_token": ("inter_token_seconds_total", "inter_tokens_total"),
    "queue": ("queue_seconds_total", "queued_total"),
    "prefill": ("prefill_seconds_total", "prefills_total"),
    "decode": ("decode_seconds_total", "decodes_total"),
}
# Durations whose buckets are read too, for a percentile; the others' lines are passed over.
WITH_PERCENTILE: tuple[DurationName, ...] = ("latency", "first_token", "inter_token")

Names = Annotated[
    tuple[str, ...], Meta(description='Series, newest name first: `name{label="value"}`.')
]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A term of a figure: the first of ``names`` that the page has."""

    names: Names
    factor: Annotated[float, Meta(description="What turns it into our unit.")] = 1.0
    across: Annotated[
        Literal["sum", "max"], Meta(description="What several series are together.")
    ] = "sum"
    zero_beside: Annotated[
        str,
        Meta(description="A metric beside which its absence is 0: it comes with its first event."),
    ] = ""

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("names is empty; name a metric")
        _check(self.names, self.factor)


class Duration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A duration: a histogram, or two counters."""

    histogram: Names = ()
    sum: Annotated[tuple[str, ...], Meta(description="Without a histogram: of the sum.")] = ()
    count: Annotated[tuple[str, ...], Meta(description="How many the sum is of.")] = ()
    factor: Annotated[float, Meta(description="Seconds in its unit: 0.001 of ms.")] = 1.0

    def __post_init__(self) -> None:
        if bool(self.histogram) == bool(self.sum) or bool(self.sum) != bool(self.count):
            raise ValueError("a duration is either histogram, or sum and count")
        _check((*self.histogram, *self.sum, *self.count), self.factor)


class EngineMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one engine calls its figures."""

    source: Annotated[str, Meta(description="Release and file that the names are from.")] = ""
    recognised_by: Annotated[
        tuple[str, ...], Meta(description="Metrics that only this engine has; any one of them.")
    ] = ()
    page: Annotated[str, Meta(description="Path of its metrics page.")] = "/metrics"
    health: Annotated[
        str, Meta(description="Path that answers 200 when it can serve; empty: none on this port.")
    ] = "/health"
    started: Annotated[
        tuple[str, ...], Meta(description="When its counters began, in Unix seconds.")
    ] = ("process_start_time_seconds",)
    model_label: Annotated[str, Meta(description="The label that names the model.")] = ""
    version_label: Annotated[
        str, Meta(description="The label that names the model's version, where there is one.")
    ] = ""
    version: Annotated[
        str,
        Meta(
            description="Path of a JSON object with the engine's `version`; asked for once after"
            " each start. Empty: it has none on this port."
        ),
    ] = ""
    rank_label: Annotated[
        str,
        Meta(description="The label that tells data-parallel ranks apart: each has its own queue."),
    ] = ""
    copies: Annotated[
        tuple[str, ...],
        Meta(description="Labels of ranks that all say the same; the largest counts."),
    ] = ()
    kv_cache_info: Annotated[
        str, Meta(description="The metric whose labels describe the KV cache.")
    ] = ""
    figures: Annotated[
        dict[FigureName, tuple[Figure, ...]],
        Meta(
            description="Terms of each figure, which are added up; those after the first need not"
            f" be there. Figures are {_listed(get_args(FigureName))}."
        ),
    ] = {}
    durations: Annotated[
        dict[DurationName, Duration],
        Meta(description=f"Durations are {_listed(get_args(DurationName))}."),
    ] = {}


def _check(names: tuple[str, ...], factor: float) -> None:
    for name in names:
        selector(name)
    if not 0 < factor < float("inf"):
        raise ValueError("factor must be above 0")
