"""What a service calls and what is before it: its upstreams, and the gateway that users come by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis_replica import SERVICE
from diagnosis_surroundings import UPSTREAM_S

from gpuward.agent.model import Batch, Sample, SeriesKey
from gpuward.agent.samplers.upstream_usual import Usual
from gpuward.agent.upstream_state import recent_latency

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from diagnosis_plan import Plan
    from diagnosis_replica import Replica
    from diagnosis_strain import NodeStrain

    from gpuward.agent.window import Window

GATEWAY = "127.0.0.1:8080"
UPSTREAM_EVERY_S = 10
COUNTED = (
    "upstream_requests_total",
    "upstream_requests_throttled_total",
    "upstream_latency_seconds_total",
    "upstream_latencies_total",
)


class Surroundings:
    """Counters of upstreams, as the service's client counts them, and of the ingress."""

    def __init__(self, plan: Plan, replicas: Sequence[Replica], chance: random.Random) -> None:
        self._plan = plan
        self._replicas = replicas
        self._random = chance
        self._upstreams = {name: [0.0, 0.0, 0.0, 0.0] for name in UPSTREAM_S}
        self._gateway = [0.0, 0.0, 0.0]
        self._finished = self._refused = 0.0

    def second(self, second: int, strain: NodeStrain) -> Iterator[Sample]:
        yield from self._of_upstreams(second, strain)
        yield from self._of_gateway(float(second), strain)

    def _of_upstreams(self, second: int, strain: NodeStrain) -> Iterator[Sample]:
        """Yield what is known of each: what its callers count, or what own requests meet."""
        chance, now_s = self._random, float(second)
        rate = self._plan.demand.rate(now_s) * len(self._replicas)
        sigma = self._plan.habits.upstream_sigma
        for name, counters in self._upstreams.items():
            calls = max(0.0, rate * chance.gauss(1.0, 0.2))
            refused = calls * strain.upstream_throttled.get(name, 0.0)
            slower = strain.upstream_slower.get(name, 1.0)
            mean_s = UPSTREAM_S[name] * slower * chance.lognormvariate(0.0, sigma)
            counters[0] += calls
            counters[1] += refused
            counters[2] += mean_s * (calls - refused)
            counters[3] += calls - refused
            if second % UPSTREAM_EVERY_S:
                continue
            figures = dict(zip(COUNTED, counters, strict=True))
            figures["upstream_requests_failed_total"] = counters[1]
            if name in self._plan.habits.probed:
                figures = {"upstream_up": 1.0, "upstream_probe_seconds": mean_s}
            for signal, value in figures.items():
                yield Sample(SeriesKey(signal, endpoint=name), now_s, value)

    def _of_gateway(self, now_s: float, strain: NodeStrain) -> Iterator[Sample]:
        """Yield what the ingress counts: the engines' latency and that of all upstreams."""
        ended = sum(sum(one.engine.metrics.finished.values()) for one in self._replicas)
        spent = sum(one.engine.metrics.e2e.sum for one in self._replicas)
        beyond_s = sum(
            base_s * strain.upstream_slower.get(name, 1.0) for name, base_s in UPSTREAM_S.items()
        )
        more = max(0.0, ended - self._finished)
        self._refused += more * sum(strain.upstream_throttled.values())
        self._gateway[0] += more
        self._gateway[1] += max(0.0, spent - self._gateway[2]) + beyond_s * more
        self._finished, self._gateway[2] = ended, spent
        for signal, value in (
            ("ingress_requests_total", self._gateway[0]),
            ("ingress_requests_failed_total", float(int(self._refused))),
            ("ingress_latency_seconds_total", self._gateway[1]),
            ("ingress_latencies_total", self._gateway[0]),
        ):
            yield Sample(SeriesKey(signal, service=SERVICE, endpoint=GATEWAY), now_s, value)


class UpstreamUsual:
    """What the agent's sampler of upstreams learns of them, from what was said here of them."""

    name = "upstream_usual"
    period_s = float(UPSTREAM_EVERY_S)

    def __init__(self, window: Callable[[float], Window]) -> None:
        self._window = window
        self._usual = {name: Usual() for name in UPSTREAM_S}

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(self._learnt(self._window(now_s))))

    def _learnt(self, window: Window) -> Iterator[Sample]:
        for name, usual in self._usual.items():
            probe = window.latest(SeriesKey("upstream_probe_seconds", endpoint=name))
            kind = "latency" if probe is None else "probe"
            seconds = recent_latency(window, name) if probe is None else probe.value
            if seconds is not None:
                usual.note(seconds)
            if usual.seconds is not None:
                key = SeriesKey(f"upstream_{kind}_usual_seconds", endpoint=name)
                yield Sample(key, window.now_s, usual.seconds)
