"""Which endpoints the agent sends requests of its own to: the ``[[endpoints]]`` tables.

Only what is listed is asked, engines that are watched are not: a request costs the engine a place
in its batch, and only the operator knows through which gateway users come.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

SHORTEST_INTERVAL_S = 5.0
LONGEST_INTERVAL_S = 60.0
LONGEST_TIMEOUT_S = 30.0

Kind = Literal["completions", "chat", "sglang", "triton"]


class EndpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An endpoint to send requests of one token to: a gateway, or a replica directly."""

    service: Annotated[str, Meta(description="What users call, as in `[[engines]]`.")]
    url: Annotated[
        str,
        Meta(
            description="`http://host:port` or `https://host`, with the path that comes before"
            " /v1 where there is one. Authorities that a certificate may have are the system's,"
            " or those of the file that SSL_CERT_FILE names."
        ),
    ]
    kind: Annotated[
        Kind,
        Meta(
            description="What is asked: `completions` and `chat` are OpenAI's, `sglang` is"
            " /generate, `triton` the generate extension."
        ),
    ] = "completions"
    role: Annotated[
        Literal["replica", "gateway"],
        Meta(description="Whether it is one engine, or what users reach all engines through."),
    ] = "replica"
    model: Annotated[
        str, Meta(description="What requests name as their model; empty: they name none.")
    ] = ""
    interval_s: Annotated[
        float,
        Meta(
            description="Seconds between requests, 5 to 60, a fifth more or less at random; beyond"
            " 15 an outage may not be seen within a minute."
        ),
    ] = 15.0
    timeout_s: Annotated[
        float, Meta(description="Seconds that the whole answer may take, at most 30.")
    ] = 10.0
    canary_interval_s: Annotated[
        float,
        Meta(
            description="Seconds between requests of 16 tokens that are compared with what they"
            " were; 60 is good, 0: never. Only of a replica."
        ),
    ] = 0.0
    api_key_file: Annotated[
        str,
        Meta(description="Absolute path of a file with the key to send; read for each request."),
    ] = ""
    api_key_env: Annotated[
        str, Meta(description="Or the environment variable of the agent that has it.")
    ] = ""

    def __post_init__(self) -> None:
        if not self.service:
            raise ValueError("service is empty; name what users call")
        check_url(self.url)
        if not SHORTEST_INTERVAL_S <= self.interval_s <= LONGEST_INTERVAL_S:
            raise ValueError(
                f"interval_s must be {SHORTEST_INTERVAL_S:g} to {LONGEST_INTERVAL_S:g}"
            )
        if not 0 < self.timeout_s <= LONGEST_TIMEOUT_S:
            raise ValueError(f"timeout_s must be above 0, and at most {LONGEST_TIMEOUT_S:g}")
        if self.canary_interval_s and not self.canary_interval_s >= self.interval_s:
            raise ValueError("canary_interval_s must be 0, or at least interval_s")
        if self.canary_interval_s and self.role == "gateway":
            raise ValueError("canary_interval_s: behind a gateway answers are not of one replica")
        if self.kind == "triton" and not self.model:
            raise ValueError("kind triton needs a model: it is part of the path")
        check_key(self.api_key_file, self.api_key_env)

    @property
    def instance(self) -> str:
        """What tells this endpoint from others of its service, as an engine's address does."""
        return urlsplit(self.url).netloc


def check_key(file: str, env: str) -> None:
    """Raise ``ValueError`` where it is not clear which key is meant."""
    if file and env:
        raise ValueError("api_key_file and api_key_env: only one of them")
    if file and not Path(file).is_absolute():
        raise ValueError(f"api_key_file {file!r} is not an absolute path")


def check_url(url: str) -> None:
    """Raise ``ValueError`` for what cannot be asked; the text of it is not repeated.

    Whoever wrote a password into it shall not find it in a log.
    """
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    if not port_is_good or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("url is not http://host:port or https://host")
    if "@" in parts.netloc:
        raise ValueError("url has a user or password in it; use api_key_file")
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("url has more than a scheme, a host, a port and a path")
