"""What inference waits for outside of the node: the ``[[upstreams]]`` tables.

Vector databases, feature stores and model providers are in no engine's counters.  Their callers
count what they wait (OpenTelemetry's ``http.client.request.duration`` and
``gen_ai.client.operation.duration``, as Prometheus names them); where nobody counts, a light
request of our own tells whether the upstream is there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gpuward.agent.samplers.endpoint_config import check_key, check_url
from gpuward.agent.samplers.ingress_page import Counter, matcher

Kind = Literal["tcp", "http", "otel", "otel_gen_ai"]

LONGEST_TIMEOUT_S = 5.0
_NAME = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_HTTP = "http_client_request_duration_seconds"
_GEN_AI = "gen_ai_client_operation_duration_seconds"
COUNTERS: dict[Kind, dict[str, Counter]] = {
    "otel": {
        "requests_total": Counter((f"{_HTTP}_count",)),
        # Without a status nothing came back at all.
        "requests_failed_total": Counter(
            (
                f'{_HTTP}_count{{http_response_status_code=~"5.."}}',
                f'{_HTTP}_count{{http_response_status_code="",error_type!=""}}',
            )
        ),
        "requests_throttled_total": Counter((f'{_HTTP}_count{{http_response_status_code="429"}}',)),
        "latency_seconds_total": Counter((f"{_HTTP}_sum",)),
        "latencies_total": Counter((f"{_HTTP}_count",)),
    },
    "otel_gen_ai": {
        "requests_total": Counter((f"{_GEN_AI}_count",)),
        "requests_failed_total": Counter((f'{_GEN_AI}_count{{error_type!~"|429|.*[Rr]ate.*"}}',)),
        "requests_throttled_total": Counter((f'{_GEN_AI}_count{{error_type=~"429|.*[Rr]ate.*"}}',)),
        "latency_seconds_total": Counter((f"{_GEN_AI}_sum",)),
        "latencies_total": Counter((f"{_GEN_AI}_count",)),
    },
}


class UpstreamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that inference on this node waits for: a vector database, a model provider."""

    name: Annotated[str, Meta(description="What people call it; unique.")]
    kind: Annotated[
        Kind,
        Meta(
            description="How it is watched: `tcp` connects, `http` gets a page (below 500 is good),"
            " `otel` and `otel_gen_ai` read what a caller's metrics page says of it."
        ),
    ]
    url: Annotated[
        str,
        Meta(
            description="`tcp://host:port`, the page to get, or the caller's metrics page with its"
            " path."
        ),
    ]
    match: Annotated[
        str,
        Meta(
            description="Labels of the caller's series that are of this upstream, as PromQL"
            ' writes them: `server_address="db"`; empty: all are.'
        ),
    ] = ""
    timeout_s: Annotated[float, Meta(description="Seconds that it may take, at most 5.")] = 2.0
    api_key_file: Annotated[
        str, Meta(description="Absolute path of a file with the key that the page needs.")
    ] = ""
    api_key_env: Annotated[
        str, Meta(description="Or the environment variable of the agent that has it.")
    ] = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("name must be 1 to 64 letters, digits, dots, colons, hyphens")
        if self.kind == "tcp":
            _check_tcp(self.url)
        else:
            check_url(self.url)
        matcher(self.match)
        if self.match and self.kind not in COUNTERS:
            raise ValueError(f"match is for a caller's metrics, not for kind {self.kind}")
        check_key(self.api_key_file, self.api_key_env)
        if not 0 < self.timeout_s <= LONGEST_TIMEOUT_S:
            raise ValueError(f"timeout_s must be above 0, and at most {LONGEST_TIMEOUT_S:g}")


def _check_tcp(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        is_good = False
    if not is_good or "@" in url or parts.path:
        raise ValueError("url is not tcp://host:port")
