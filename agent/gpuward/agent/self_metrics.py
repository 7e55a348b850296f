"""What the agent counts about itself, through ``prometheus_client`` like any Python service."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from gpuward.agent.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric


class SelfMetric(NamedTuple):
    """One number of the agent itself: a counter when ``name`` ends in ``_total``.

    With a ``label``, one number for each of its values.
    """

    name: str
    help: str
    read: Callable[[], float | Mapping[str, float]]
    label: str = ""


class SelfCollector(Collector):
    """Reads every ``SelfMetric`` at the time of the scrape, and says which build this is."""

    def __init__(self, metrics: Sequence[SelfMetric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        build = InfoMetricFamily("gpuward_build", "Version of gpuward.")
        build.add_metric((), {"version": VERSION, "python": platform.python_version()})
        yield build
        for metric in self._metrics:
            yield _family(metric)


def _family(metric: SelfMetric) -> Metric:
    is_counter = metric.name.endswith("_total")
    make = CounterMetricFamily if is_counter else GaugeMetricFamily
    labels = (metric.label,) if metric.label else ()
    family = make(f"gpuward_agent_{metric.name}", metric.help, labels=labels)
    read = metric.read()
    by_label = {"": read} if isinstance(read, (int, float)) else read
    for value in sorted(by_label):
        family.add_metric((value,) if metric.label else (), by_label[value])
    return family
