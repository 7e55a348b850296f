"""An engine to watch: a table of ``[[engines]]`` in the agent's configuration."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An engine to watch: the ``[[engines]]`` table of the agent's configuration."""

    service: Annotated[
        str, Meta(description="What users call; engines of one service are judged together.")
    ]
    url: Annotated[
        str,
        Meta(description="`http://host:port` where it serves /metrics and /health."),
    ]
    kind: Annotated[Literal["vllm"], Meta(description="Whose names its metrics have.")] = "vllm"
    objective_s: Annotated[
        float,
        Meta(description="Seconds from end to end beyond which a request misses the objective."),
    ] = 10.0
    timeout_s: Annotated[float, Meta(description="Seconds that the engine has to answer.")] = 2.0

    def __post_init__(self) -> None:
        if not self.service:
            raise ValueError("service is empty; name what users call")
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"url {self.url!r} is not http://host:port of an engine on this node")
        if self.objective_s <= 0 or self.timeout_s <= 0:
            raise ValueError("objective_s and timeout_s must be above 0")

    @property
    def instance(self) -> str:
        """What tells this engine from others of its service."""
        return urlsplit(self.url).netloc
