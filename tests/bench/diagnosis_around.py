"""What a service calls and what is before it: its upstreams, and the gateway that users come by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis_replica import SERVICE
from diagnosis_surroundings import UPSTREAM_S

from gpuward.agent.model import Sample, SeriesKey

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from diagnosis_plan import Plan
    from diagnosis_replica import Replica
    from diagnosis_strain import NodeStrain

GATEWAY = "127.0.0.1:8080"


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
            figures = {
                "upstream_requests_total": counters[0],
                "upstream_requests_failed_total": counters[1],
                "upstream_requests_throttled_total": counters[1],
                "upstream_latency_seconds_total": counters[2],
                "upstream_latencies_total": counters[3],
            }
            if second % 15 == 0:
                figures["upstream_up"] = 1.0
                figures["upstream_probe_seconds"] = mean_s * chance.uniform(0.2, 0.4)
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
