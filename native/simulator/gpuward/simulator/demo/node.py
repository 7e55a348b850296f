"""What the agent says of its node, read from its ``/metrics`` as Prometheus would read them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuward.simulator import http_client

_SERIES = re.compile(r"(?P<name>[a-z_:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Series:
    """One series with its value."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """One scrape of the agent."""

    series: tuple[Series, ...]

    def named(self, name: str, **labels: str) -> list[Series]:
        """Return the series of that name that carry at least these labels."""
        return [
            one for one in self.series if one.name == name and labels.items() <= one.labels.items()
        ]

    def total(self, name: str) -> float:
        return sum(one.value for one in self.named(name))

    def label(self, name: str, label: str) -> str:
        """Return a label of the first series of that name; empty when there is none."""
        return next((one.labels.get(label, "") for one in self.named(name)), "")

    def has_finding(self, kind: str) -> bool:
        return bool(self.named("gpuward_finding_open", kind=kind))


async def scrape(address: str) -> Metrics:
    """Return the agent's metrics; raises ``Unreachable``."""
    reply = await http_client.request(address, "GET", "/metrics")
    return parse(reply.body.decode())


def parse(text: str) -> Metrics:
    """Return the series of ``text``; comments and lines that are none are left out."""
    found = (_SERIES.fullmatch(line) for line in text.splitlines())
    return Metrics(
        tuple(
            Series(
                match["name"],
                dict(_LABEL.findall(match["labels"] or "")),
                float(match["value"]),
            )
            for match in found
            if match
        )
    )
