"""The table that turns one engine's metric names into ours, as types.

Each engine names, scales and labels the same few quantities in its own way, and renames them
between releases.  All of that is data: ``maps/*.toml``, a file for each engine, in the form that a
user writes for an engine of their own (``[engines.map]``).  Keys of ``figures`` and ``durations``
are ours: the signal ``replica_<key>``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

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

Names = Annotated[tuple[str, ...], Meta(min_length=1)]
Where = dict[str, tuple[str, ...]]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure, or one term of a sum: the first of ``names`` that the page has."""

    names: Annotated[Names, Meta(description="Names of the metric, newest first.")]
    where: Annotated[Where, Meta(description="Only series whose label has one of the values.")] = {}
    factor: Annotated[float, Meta(description="What turns it into our unit; -1 subtracts.")] = 1.0
    across: Annotated[
        Literal["sum", "max"], Meta(description="What several series are together.")
    ] = "sum"


class Duration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A duration: a histogram, or two counters."""

    histogram: Annotated[tuple[str, ...], Meta(description="Names, newest first.")] = ()
    sum: Annotated[tuple[str, ...], Meta(description="Without a histogram: of the sum.")] = ()
    count: Annotated[tuple[str, ...], Meta(description="How many the sum is of.")] = ()
    where: Annotated[Where, Meta(description="Only series whose label has one of the values.")] = {}
    factor: Annotated[float, Meta(description="Seconds in its unit: 0.001 of ms.")] = 1.0

    def __post_init__(self) -> None:
        if bool(self.histogram) == bool(self.sum) or bool(self.sum) != bool(self.count):
            raise ValueError("a duration is either histogram, or sum and count")


class EngineMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one engine calls its figures."""

    source: Annotated[str, Meta(description="Release and file that the names are from.")] = ""
    recognised_by: Annotated[
        tuple[str, ...], Meta(description="Metrics that only this engine has; any one of them.")
    ] = ()
    health: Annotated[str, Meta(description="Path that answers 200 when it can serve.")] = "/health"
    started: Annotated[
        tuple[str, ...], Meta(description="When its counters began, in Unix seconds.")
    ] = ("process_start_time_seconds",)
    model_label: Annotated[str, Meta(description="The label that names the model.")] = ""
    copies: Annotated[
        tuple[str, ...],
        Meta(description="Labels of ranks that all say the same; the largest counts."),
    ] = ()
    kv_cache_info: Annotated[
        str, Meta(description="The metric whose labels describe the KV cache.")
    ] = ""
    figures: Annotated[
        dict[FigureName, Figure | tuple[Figure, ...]],
        Meta(description="Figures; several terms are added, those after the first if present."),
    ] = {}
    durations: Annotated[dict[DurationName, Duration], Meta(description="Durations.")] = {}

    def terms(self, name: FigureName) -> tuple[Figure, ...]:
        """Return the terms of a figure, none when the engine does not tell it."""
        found = self.figures.get(name, ())
        return (found,) if isinstance(found, Figure) else found
