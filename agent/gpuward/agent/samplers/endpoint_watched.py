"""What is known of one endpoint: what its requests met so far, and the samples of that.  Pure.

A bad answer counts against the endpoint only where it is beyond doubt that the request was good.
One that was refused as wrong (4xx), or whose certificate was, may be our own mistake until the same
request has once been answered well; a key that is over its quota is nobody's trouble but ours; and
where nobody listens yet, an engine may still be loading its model, a gateway but be restarted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.replica_silence import LOADED_WITHIN_S, RESTARTED_WITHIN_S
from gpuward.agent.samplers.endpoint_http import Answered, Lost
from gpuward.agent.samplers.endpoint_request import AnswerError, Said, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.samplers.endpoint_config import EndpointConfig

OUR_LIMIT = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})


class Met(Enum):
    """What a request met."""

    GOOD = "answered"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    UNREACHABLE = "nobody listens there"
    # The endpoint says that the request is wrong, or we do not trust it.
    REJECTED = "rejected"
    # Nothing was learnt.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request; ``reason`` is for a person, and holds no secret."""

    met: Met
    reason: str = ""
    status: int = 0
    seconds: float | None = None
    first_token_seconds: float | None = None
    said: Said | None = None


def outcome_of(result: Answered | Lost) -> Outcome:
    """Return what ``result`` says of the endpoint."""
    if isinstance(result, Lost):
        met = {Lost.UNREACHABLE: Met.UNREACHABLE, Lost.TLS: Met.REJECTED}.get(result, Met.FAILED)
        return Outcome(met, result.value)
    status = result.status
    if status in OUR_LIMIT:
        return Outcome(Met.NOTHING, f"status {status}: our own requests are too many", status)
    if status != HTTPStatus.OK:
        of_ours = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        return Outcome(Met.REJECTED if of_ours else Met.FAILED, f"status {status}", status)
    try:
        said = read(result.body)
    except AnswerError as error:
        return Outcome(Met.FAILED, f"status {status}, but {error}", status)
    return Outcome(Met.GOOD, "", status, result.seconds, result.first_token_seconds, said)


class Watched:
    """One endpoint; ``note`` what each request met, and take ``samples``.

    ``may_load``: whether a process may be there that is to become this one.
    """

    def __init__(
        self, config: EndpointConfig, may_load: Callable[[EndpointConfig], bool] = lambda _: True
    ) -> None:
        self.config = config
        self._may_load = may_load
        self._sent = 0
        self._counts = dict.fromkeys(Met, 0)
        self._first_s: float | None = None
        self.was_good = False
        self.last: Outcome | None = None
        # Failures since it was last good.
        self.bad_in_row = 0

    def note(self, outcome: Outcome, now_s: float) -> tuple[Sample, ...]:
        """Return the samples of ``outcome``, a request that was over at ``now_s``."""
        self._first_s = now_s if self._first_s is None else self._first_s
        self._sent += outcome.met is not Met.NOTHING or bool(outcome.status)
        self._counts[outcome.met] += 1
        self.last = outcome
        is_up = self._is_up(outcome.met, now_s)
        if is_up is not None:
            self.bad_in_row = 0 if is_up else self.bad_in_row + 1
            self.was_good |= is_up
        figures = self._figures(outcome, is_up=is_up)
        return tuple(self.sample(signal, value, now_s) for signal, value in figures)

    def sample(self, signal: str, value: float, now_s: float) -> Sample:
        """Return a sample of this endpoint."""
        key = SeriesKey(signal, service=self.config.service, endpoint=self.config.instance)
        return Sample(key, now_s, value)

    @property
    def trouble(self) -> str:
        """Return why nothing is known of it; empty when something is."""
        if self.last is None or self.last.met not in {Met.REJECTED, Met.NOTHING}:
            return ""
        if self.last.met is Met.REJECTED and self.was_good:
            return ""
        return f"{self.config.instance}: {self.last.reason}"

    def _is_up(self, met: Met, now_s: float) -> bool | None:
        """Return whether the endpoint works; ``None`` where ``met`` does not tell."""
        if met in {Met.GOOD, Met.FAILED, Met.TIMED_OUT}:
            return met is Met.GOOD
        if met is Met.NOTHING:
            return None
        if self.was_good:
            return False
        is_late = met is Met.UNREACHABLE and now_s - (self._first_s or now_s) >= self._patience_s()
        return False if is_late else None

    def _patience_s(self) -> float:
        is_engine = self.config.role == "replica"
        return LOADED_WITHIN_S if is_engine and self._may_load(self.config) else RESTARTED_WITHIN_S

    def _figures(self, outcome: Outcome, *, is_up: bool | None) -> Iterator[tuple[str, float]]:
        counts = self._counts
        yield "endpoint_probes_total", float(self._sent)
        yield "endpoint_probes_failed_total", float(counts[Met.FAILED] + counts[Met.REJECTED])
        yield "endpoint_probes_timed_out_total", float(counts[Met.TIMED_OUT])
        yield "endpoint_probes_unreachable_total", float(counts[Met.UNREACHABLE])
        if is_up is not None:
            yield "endpoint_up", float(is_up)
        if outcome.status:
            yield "endpoint_status", float(outcome.status)
        if outcome.seconds is not None:
            yield "endpoint_probe_seconds", outcome.seconds
        if outcome.first_token_seconds is not None:
            yield "endpoint_first_token_seconds", outcome.first_token_seconds
