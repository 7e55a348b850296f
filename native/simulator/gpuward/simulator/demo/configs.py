"""The configuration files of the demo's coordinator and agent, as an operator would write them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class People:
    """Who is on call for infrastructure."""

    primary: str
    secondary: str
    lead: str
    expert: str
    executive: str


PEOPLE = People(
    primary="ada", secondary="grace", lead="edsger", expert="barbara", executive="margaret"
)

_COORDINATOR = Template("""\
# The coordinator of a small team: one person holds a place in every rotation.
people = [
    { name = $primary, channels = ["pager", "chat"] },
    { name = $secondary, channels = ["pager"] },
    { name = $lead, channels = ["pager"] },
    { name = $expert, channels = ["pager"] },
    { name = $executive, channels = ["pager"] },
]
notifiers = [
    { type = "file", name = "pager", path = $pages },
    { type = "file", name = "chat", path = $pages },
]

[state]
directory = $state

[grpc]
address = "127.0.0.1:$grpc_port"

[http]
address = "127.0.0.1:$web_port"

[escalation]
speed = $speed
executive = $executive

[rotations]
infrastructure = { primary = $primary, secondary = $secondary, lead = $lead }
ml = { primary = $expert }
data = { primary = $expert }

[experts]
capacity = $expert
""")

_AGENT = Template("""\
# The agent of a node with eight simulated GPUs.
[node]
name = "gpu-node-1"

[state]
directory = $state

[http]
address = "127.0.0.1:$http_port"

[grpc]
address = "127.0.0.1:$grpc_port"

[coordinator]
address = $coordinator
report_interval_s = 1.0

[tap]
directory = $tap

[kmsg]
path = $kmsg
""")

_ENGINE = Template("""
[[engines]]
service = $service
url = $url
objective_s = 5.0
""")


def agent(
    *,
    state: Path,
    grpc_port: int,
    http_port: int,
    coordinator: str,
    tap: Path,
    kmsg: Path,
    engines: Iterable[str],
    service: str,
) -> str:
    """Return the agent's TOML; ``engines`` are "host:port"."""
    head = _AGENT.substitute(
        state=_text(state),
        grpc_port=grpc_port,
        http_port=http_port,
        coordinator=_text(coordinator),
        tap=_text(tap),
        kmsg=_text(kmsg),
    )
    tables = (
        _ENGINE.substitute(service=_text(service), url=_text(f"http://{address}"))
        for address in engines
    )
    return head + "".join(tables)


def coordinator(*, state: Path, grpc_port: int, web_port: int, pages: Path, speed: float) -> str:
    """Return the coordinator's TOML; pages go to the file ``pages``."""
    people = {place: _text(name) for place, name in asdict(PEOPLE).items()}
    return _COORDINATOR.substitute(
        people,
        state=_text(state),
        grpc_port=grpc_port,
        web_port=web_port,
        pages=_text(pages),
        speed=float(speed),
    )


def _text(value: object) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(str(value))
