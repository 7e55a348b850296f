"""The two text formats of Prometheus: how each heads a family, and how its page ends.

Classic: exposition_formats.md of Prometheus, version 0.0.4.  OpenMetrics 1.0.0 names a counter's
family without ``_total`` and an info's without ``_info``, has a type for the latter, and tells the
unit where the name ends in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from gpuward.agent.negotiation import OPENMETRICS, OPENMETRICS_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

UNITS = frozenset({"bytes", "celsius", "hertz", "joules", "ratio", "seconds", "watts"})


@dataclass(frozen=True, slots=True)
class Format:
    """A text format; ``heading`` takes the name of a family's series and its help.

    ``ending`` makes the last families, from a registry of ``prometheus_client``, and ends the page.
    """

    content_type: str
    heading: Callable[[str, str], str]
    ending: Callable[[CollectorRegistry], bytes]


def _classic_heading(name: str, help_text: str) -> str:
    kind = "counter" if name.endswith("_total") else "gauge"
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"


def _openmetrics_heading(name: str, help_text: str) -> str:
    family, kind = name, "gauge"
    if name.endswith("_total"):
        family, kind = name.removesuffix("_total"), "counter"
    elif name.endswith("_info"):
        family, kind = name.removesuffix("_info"), "info"
    suffix = family.rpartition("_")[2]
    unit = f"# UNIT {family} {suffix}\n" if suffix in UNITS else ""
    return f"# HELP {family} {help_text}\n# TYPE {family} {kind}\n{unit}"


CLASSIC = Format("text/plain; version=0.0.4; charset=utf-8", _classic_heading, generate_latest)
OPEN = Format(
    f"{OPENMETRICS}; version={OPENMETRICS_VERSION}; charset=utf-8",
    _openmetrics_heading,
    generate_openmetrics,
)
