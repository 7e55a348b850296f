"""An engine to watch: a table of ``[[engines]]`` in the agent's configuration."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gpuward.agent.engines.engine_map import EngineMap

Kind = Literal[
    "auto", "vllm", "sglang", "trtllm", "triton", "tgi", "ray", "llama.cpp", "dynamo", "openmetrics"
]

# Of fewer than half it is no objective; of more, a month may hold no slow request.
LEAST_OBJECTIVE, MOST_OBJECTIVE = 0.5, 0.9999


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An engine to watch: the ``[[engines]]`` table of the agent's configuration."""

    service: Annotated[
        str, Meta(description="What users call; engines of one service are judged together.")
    ]
    url: Annotated[
        str,
        Meta(description="`http://host:port`, or `https://`, where it serves its metrics page."),
    ]
    kind: Annotated[
        Kind,
        Meta(description="Whose names its metrics have; `openmetrics`: those of `map`."),
    ] = "auto"
    model: Annotated[
        str, Meta(description="Of a server of several models, the one that this service is.")
    ] = ""
    health_url: Annotated[
        str,
        Meta(
            description="`http://host:port/path` that answers 200 when it can serve, where that is"
            " not on the port of its page: Triton's, Ray's."
        ),
    ] = ""
    verify_certificate: Annotated[
        bool,
        Meta(
            description="Whether an engine behind TLS needs a certificate for that host from an"
            " authority that is trusted: the system's, or those in the file that SSL_CERT_FILE"
            " names. Without, one that it signed itself will do; nothing secret is ever sent."
        ),
    ] = True
    objective_s: Annotated[
        float,
        Meta(description="Seconds from end to end beyond which a request misses the objective."),
    ] = 10.0
    objective_ratio: Annotated[
        float,
        Meta(description="Share of requests that must meet it, 0.5 to 0.9999; the rest is budget."),
    ] = 0.99
    timeout_s: Annotated[float, Meta(description="Seconds that the engine has to answer.")] = 2.0
    map: Annotated[
        EngineMap,
        Meta(description="What an engine that gpuward has no map of calls its figures."),
    ] = EngineMap()

    def __post_init__(self) -> None:
        if not self.service:
            raise ValueError("service is empty; name what users call")
        if not _is_address(self.url):
            raise ValueError(
                f"url {self.url!r} is not http://host:port or https://host:port of an engine"
                " on this node"
            )
        if self.health_url and not _is_address(self.health_url):
            raise ValueError(f"health_url {self.health_url!r} is not http(s)://host:port/path")
        if (self.kind == "openmetrics") is not bool(self.map.figures or self.map.durations):
            raise ValueError("map is for kind openmetrics, which needs it")
        if self.objective_s <= 0 or self.timeout_s <= 0:
            raise ValueError("objective_s and timeout_s must be above 0")
        if not LEAST_OBJECTIVE <= self.objective_ratio <= MOST_OBJECTIVE:
            raise ValueError(
                f"objective_ratio must be {LEAST_OBJECTIVE} to {MOST_OBJECTIVE}, 0.99 for 99 %"
            )

    def __hash__(self) -> int:
        # Dictionaries of a map have no hash.
        return hash((self.service, self.url))

    @property
    def instance(self) -> str:
        """What tells this engine from others of its service."""
        return urlsplit(self.url).netloc


class DiscoveryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the agent looks for by itself."""

    engines: Annotated[
        bool,
        Meta(
            description="Whether engines that are not configured are watched too: those whose"
            " process is on a GPU and listens on this host or in a container of it, under their"
            " model's name."
        ),
    ] = True
    verify_certificates: Annotated[
        bool,
        Meta(
            description="Whether engines behind TLS are watched only where their certificate is"
            " trusted and names the address, which those for a service's name do not; that the"
            " socket is the engine's own is checked in any case."
        ),
    ] = True


def _is_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
