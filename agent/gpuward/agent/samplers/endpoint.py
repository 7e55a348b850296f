"""Send requests of few tokens to endpoints, as users do, and sample what they meet.

An engine's counters miss what never reaches it: errors of a gateway, and requests that hang.  So
each endpoint is asked now and then for one token.  At most one request to an endpoint is under way,
and sixteen in all: one that hangs is given up at its time-out, and no further one is sent before.
Where a request fails, the next one comes soon, so that two in a row tell a failure from a mishap
well within a minute; then the pace is as before.  Replicas are left alone while their engine starts
and while the node is in maintenance.

The time-out is measured with the sampler's clock, turn by turn.  A key is read from its file for
each request and kept nowhere; no text of an answer is either.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.model import Batch, ComponentHealth, Result
from gpuward.agent.samplers.endpoint_http import Answered, Lost, send
from gpuward.agent.samplers.endpoint_key import KeyUnreadableError, read_key
from gpuward.agent.samplers.endpoint_request import CANARY_TOKENS, ask_build, write
from gpuward.agent.samplers.endpoint_watched import Met, Outcome, Watched, outcome_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from gpuward.agent.model import Sample
    from gpuward.agent.samplers.endpoint_canary import Canaries
    from gpuward.agent.samplers.endpoint_config import EndpointConfig
    from gpuward.agent.service_totals import ServiceTotals
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

MOST_AT_ONCE = 16
SPREAD = 0.2
CONFIRM_S = 5.0
# That an endpoint is watched is said so often, whatever becomes of its requests.
ROLE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of a request; of a canary also what tells the engine's build, if it did."""

    answer: Answered | Lost
    build: str | None = None


@dataclass(slots=True)
class _Turn:
    """When an endpoint is asked, and the request that is under way."""

    watched: Watched
    due_s: float
    canary_due_s: float
    asked_s: float = 0.0
    is_canary: bool = False
    request: asyncio.Task[_Result] | None = None
    canary_evidence: float | None = None


class EndpointSampler:
    """Asks ``endpoints``.

    ``canaries``: what compares answers; ``services``: what engines said last; ``is_maintained``:
    whether the node is in maintenance; ``may_load``: whether an engine may be starting there.
    """

    name = "endpoint"
    period_s = 1.0

    def __init__(
        self,
        endpoints: Sequence[EndpointConfig],
        clock: Clock,
        *,
        canaries: Canaries,
        services: Callable[[], Sequence[ServiceTotals]],
        is_maintained: Callable[[], bool],
        may_load: Callable[[EndpointConfig], bool],
        jitter: random.Random,
    ) -> None:
        self._clock = clock
        self._canaries = canaries
        self._services = services
        self._is_maintained = is_maintained
        self._jitter = jitter
        self._turns = [_Turn(Watched(it, may_load), 0.0, it.canary_interval_s) for it in endpoints]
        self._requests = asyncio.TaskGroup()
        self._role_s = float("-inf")

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for turn in self._turns:
            if turn.request is not None:
                turn.request.cancel()
        await self._requests.__aexit__(None, None, None)

    @property
    def health(self) -> ComponentHealth:
        """Unknown while requests are rejected that were never answered well."""
        reasons = "; ".join(filter(None, (turn.watched.trouble for turn in self._turns)))
        return ComponentHealth(self.name, Result.UNKNOWN if reasons else Result.OK, reasons)

    async def sample(self, now_s: float) -> Batch:
        """Return what requests met that are over, and send those that are due."""
        samples = list(self._roles(now_s))
        for turn in self._turns:
            if turn.request is not None:
                samples += self._harvest(turn, now_s)
        for turn in sorted(self._turns, key=lambda turn: turn.due_s):
            if turn.request is None and now_s >= turn.due_s:
                samples += self._ask(turn, now_s)
        return Batch(samples=tuple(samples))

    def _roles(self, now_s: float) -> Iterator[Sample]:
        if now_s - self._role_s < ROLE_EVERY_S:
            return
        self._role_s = now_s
        for turn in self._turns:
            is_gateway = turn.watched.config.role == "gateway"
            yield turn.watched.sample("endpoint_gateway", float(is_gateway), now_s)
            # Not looking for a while takes nothing away from what was seen.
            if turn.canary_evidence is not None:
                signal = "endpoint_canary_evidence_ratio"
                yield turn.watched.sample(signal, turn.canary_evidence, now_s)

    def _ask(self, turn: _Turn, now_s: float) -> tuple[Sample, ...]:
        """Send the request that is due, if it may be sent."""
        config = turn.watched.config
        under_way = sum(other.request is not None for other in self._turns)
        if under_way >= MOST_AT_ONCE or self._is_suspended(turn.watched):
            return ()
        turn.is_canary = config.canary_interval_s > 0 and now_s >= turn.canary_due_s
        turn.asked_s = now_s
        try:
            key = read_key(config.api_key_file, config.api_key_env)
        except KeyUnreadableError as error:
            return self._note(turn, Outcome(Met.NOTHING, str(error)), now_s)
        turn.request = self._requests.create_task(
            self._request(config, key, is_canary=turn.is_canary)
        )
        return ()

    async def _request(self, config: EndpointConfig, key: str, *, is_canary: bool) -> _Result:
        request = write(config.kind, config.model, CANARY_TOKENS if is_canary else 1)
        answer = await send(config.url, request, key=key, clock=self._clock)
        if not is_canary:
            return _Result(answer)
        asked = ask_build(config.kind, config.model)
        build = await send(config.url, asked, key=key, clock=self._clock)
        if isinstance(build, Lost) or build.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return _Result(answer)
        # An engine that has no such page always has none.
        is_told = build.status == HTTPStatus.OK
        return _Result(answer, build.body.decode("latin-1") if is_told else "")

    def _is_suspended(self, watched: Watched) -> bool:
        """Return whether the endpoint must be left alone now.

        An engine that has answered and says that it is not ready is no engine that starts: vLLM's
        says so when it has died.
        """
        config = watched.config
        if config.role == "gateway":
            return False
        starts = not watched.was_good and any(
            not totals.ready
            for totals in self._services()
            if (totals.service, totals.instance) == (config.service, config.instance)
        )
        return starts or self._is_maintained()

    def _harvest(self, turn: _Turn, now_s: float) -> tuple[Sample, ...]:
        """Return the samples of a request that is over, or has had its time."""
        request, timeout_s = turn.request, turn.watched.config.timeout_s
        assert request is not None  # noqa: S101 - for the type
        build = None
        if request.done():
            result = request.result()
            outcome, build = outcome_of(result.answer), result.build
            if turn.is_canary:
                # Not the time of one token.
                outcome = replace(outcome, seconds=None)
        elif now_s - turn.asked_s >= timeout_s:
            request.cancel()
            outcome = Outcome(Met.TIMED_OUT, f"no answer within {timeout_s:g} s")
        else:
            return ()
        turn.request = None
        return (*self._note(turn, outcome, now_s), *self._compared(turn, outcome, build, now_s))

    def _compared(
        self, turn: _Turn, outcome: Outcome, build: str | None, now_s: float
    ) -> Iterator[Sample]:
        """Yield how the answer of a canary agrees with earlier ones."""
        watched, config, said = turn.watched, turn.watched.config, outcome.said
        if said is None or build is None:
            return
        known = (config.kind, config.model, said.model, build)
        found = self._canaries.note(config.service, config.instance, known, said.words)
        turn.canary_evidence = None if found is None else found.evidence_ratio
        if found is not None:
            yield watched.sample("endpoint_canary_agreement_ratio", found.ratio, now_s)
            yield watched.sample("endpoint_canary_usual_ratio", found.usual_ratio, now_s)
            yield watched.sample("endpoint_canary_evidence_ratio", found.evidence_ratio, now_s)

    def _note(self, turn: _Turn, outcome: Outcome, now_s: float) -> tuple[Sample, ...]:
        watched, config = turn.watched, turn.watched.config
        was = watched.last
        samples = watched.note(outcome, now_s)
        if was is None or was.met is not outcome.met:
            level = log.info if outcome.met is Met.GOOD else log.warning
            level(
                "endpoint.answered" if outcome.met is Met.GOOD else "endpoint.not_answered",
                service=config.service,
                endpoint=config.instance,
                reason=outcome.reason,
            )
        spread = 1 + self._jitter.uniform(-SPREAD, SPREAD)
        turn.due_s = turn.asked_s + config.interval_s * spread
        if watched.bad_in_row == 1:
            turn.due_s = now_s + CONFIRM_S
        if turn.is_canary:
            turn.canary_due_s = turn.asked_s + config.canary_interval_s * spread
        return samples
