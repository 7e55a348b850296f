"""What the agent counts about itself, through ``prometheus_client`` like any Python service."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gpuward.agent.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric


class SelfMetric(NamedTuple):
    """One number of the agent itself: a counter when ``name`` ends in ``_total``."""

    name: str
    help: str
    read: Callable[[], float]


class SelfCollector(Collector):
    """Reads every ``SelfMetric`` at the time of the scrape, and says which build this is."""

    def __init__(self, metrics: Sequence[SelfMetric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "gpuward_build_info", "Version of gpuward.", labels=("version", "python")
        )
        build.add_metric((VERSION, platform.python_version()), 1)
        yield build
        for metric in self._metrics:
            is_counter = metric.name.endswith("_total")
            family = CounterMetricFamily if is_counter else GaugeMetricFamily
            yield family(f"gpuward_agent_{metric.name}", metric.help, value=metric.read())
