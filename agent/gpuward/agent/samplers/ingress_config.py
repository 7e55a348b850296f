"""Which ingresses the agent reads the pages of, and what each calls its counters.

Sources: Envoy, docs/root/configuration/upstream/cluster_manager/cluster_stats.rst, as its
/stats/prometheus writes them (times in milliseconds); ingress-nginx, docs/user-guide/monitoring.md;
LiteLLM, docs/proxy/prometheus.  All of them count an answer of 500 or more as the ingress gave it,
so also one that no engine ever saw.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gpuward.agent.samplers.endpoint_config import LONGEST_TIMEOUT_S, check_key, check_url
from gpuward.agent.samplers.ingress_page import Counter, matcher

Kind = Literal["envoy", "nginx", "litellm"]

PAGES: dict[Kind, str] = {
    "envoy": "/stats/prometheus",
    "nginx": "/metrics",
    "litellm": "/metrics/",
}
COUNTERS: dict[Kind, dict[str, Counter]] = {
    "envoy": {
        "requests_total": Counter(("envoy_cluster_upstream_rq_completed",)),
        "requests_failed_total": Counter(
            ('envoy_cluster_upstream_rq_xx{envoy_response_code_class="5"}',)
        ),
        "requests_timed_out_total": Counter(("envoy_cluster_upstream_rq_timeout",)),
        "latency_seconds_total": Counter(("envoy_cluster_upstream_rq_time_sum",), 0.001),
        "latencies_total": Counter(("envoy_cluster_upstream_rq_time_count",)),
    },
    "nginx": {
        "requests_total": Counter(("nginx_ingress_controller_requests",)),
        "requests_failed_total": Counter(('nginx_ingress_controller_requests{status=~"5.."}',)),
        "requests_timed_out_total": Counter(('nginx_ingress_controller_requests{status="504"}',)),
        "latency_seconds_total": Counter(
            ("nginx_ingress_controller_request_duration_seconds_sum",)
        ),
        "latencies_total": Counter(("nginx_ingress_controller_request_duration_seconds_count",)),
    },
    "litellm": {
        "requests_total": Counter(("litellm_proxy_total_requests_metric_total",)),
        # What the client did wrong, or had too much of, is no failure of the service.
        "requests_failed_total": Counter(
            (
                'litellm_proxy_failed_requests_metric_total{exception_status!~"4.."}',
                'litellm_proxy_failed_requests_metric_total{exception_status="408"}',
            )
        ),
        "requests_timed_out_total": Counter(
            ('litellm_proxy_failed_requests_metric_total{exception_status="408"}',)
        ),
        "latency_seconds_total": Counter(("litellm_request_total_latency_metric_sum",)),
        "latencies_total": Counter(("litellm_request_total_latency_metric_count",)),
    },
}


class IngressConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An ingress whose counters tell how users' requests end."""

    service: Annotated[str, Meta(description="What users call, as in `[[engines]]`.")]
    url: Annotated[
        str,
        Meta(description="`http://host:port` of its metrics: the admin port of Envoy, say."),
    ]
    kind: Annotated[
        Kind, Meta(description="Whose names they have; `nginx` is the Kubernetes ingress-nginx.")
    ]
    match: Annotated[
        str,
        Meta(
            description="Labels of the series that are of this service, as PromQL writes them:"
            ' `envoy_cluster_name="chat"`; empty: all are.'
        ),
    ] = ""
    timeout_s: Annotated[float, Meta(description="Seconds that the page may take.")] = 2.0
    api_key_file: Annotated[
        str, Meta(description="Absolute path of a file with the key that the page needs.")
    ] = ""
    api_key_env: Annotated[
        str, Meta(description="Or the environment variable of the agent that has it.")
    ] = ""

    def __post_init__(self) -> None:
        if not self.service:
            raise ValueError("service is empty; name what users call")
        check_url(self.url)
        matcher(self.match)
        check_key(self.api_key_file, self.api_key_env)
        if not 0 < self.timeout_s <= LONGEST_TIMEOUT_S:
            raise ValueError(f"timeout_s must be above 0, and at most {LONGEST_TIMEOUT_S:g}")

    @property
    def instance(self) -> str:
        """What tells this ingress from others of its service."""
        return urlsplit(self.url).netloc
