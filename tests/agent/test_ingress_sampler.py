"""Counters of ingresses, each in its own words, come out as the same signals."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.model import Result
from gpuward.agent.samplers.ingress import IngressSampler
from gpuward.agent.samplers.ingress_config import COUNTERS, IngressConfig
from gpuward.agent.samplers.ingress_page import CountersPage
from gpuward.daemon.config import ConfigError, parse

# Shapes as the projects' own documents and pages show them.
ENVOY = """\
# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name="chat"} 100
envoy_cluster_upstream_rq_completed{envoy_cluster_name="other"} 7
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="chat"} 90
envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="chat"} 2
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="chat"} 8
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="other"} 7
envoy_cluster_upstream_rq_timeout{envoy_cluster_name="chat"} 3
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="chat",le="0.5"} 0
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="chat"} 5532
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="chat"} 100
"""
NGINX = """\
nginx_ingress_controller_requests{ingress="chat",status="200"} 90
nginx_ingress_controller_requests{ingress="chat",status="404"} 2
nginx_ingress_controller_requests{ingress="chat",status="502"} 5
nginx_ingress_controller_requests{ingress="chat",status="504"} 3
nginx_ingress_controller_requests{ingress="",status="404"} 900
nginx_ingress_controller_request_duration_seconds_sum{ingress="chat",status="200"} 5.5
nginx_ingress_controller_request_duration_seconds_sum{ingress="chat",status="504"} 0.032
nginx_ingress_controller_request_duration_seconds_count{ingress="chat",status="200"} 97
nginx_ingress_controller_request_duration_seconds_count{ingress="chat",status="504"} 3
"""
LITELLM = """\
litellm_proxy_total_requests_metric_total{requested_model="chat",user="None"} 60.0
litellm_proxy_total_requests_metric_total{requested_model="chat",user="a"} 40.0
litellm_proxy_failed_requests_metric_total{requested_model="chat",exception_status="429"} 9.0
litellm_proxy_failed_requests_metric_total{requested_model="chat",exception_status="500"} 4.0
litellm_proxy_failed_requests_metric_total{requested_model="chat",exception_status="None"} 1.0
litellm_proxy_failed_requests_metric_total{requested_model="chat",exception_status="408"} 3.0
litellm_request_total_latency_metric_sum{requested_model="chat"} 5.532
litellm_request_total_latency_metric_count{requested_model="chat"} 100.0
"""


@pytest.mark.parametrize(
    ("kind", "match", "page"),
    [
        pytest.param("envoy", 'envoy_cluster_name="chat"', ENVOY, id="Envoy"),
        pytest.param("nginx", 'ingress="chat"', NGINX, id="ingress-nginx"),
        pytest.param("litellm", 'requested_model="chat"', LITELLM, id="LiteLLM"),
    ],
)
def test_all_of_them_say_the_same(kind, match, page):
    counters = CountersPage(COUNTERS[kind], match).read(page)

    assert counters == {
        "requests_total": 100.0,
        "requests_failed_total": 8.0,
        "requests_timed_out_total": 3.0,
        "latency_seconds_total": pytest.approx(5.532),
        "latencies_total": 100.0,
    }


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param("", {}, id="nothing yet"),
        pytest.param(
            'nginx_ingress_controller_requests{status="200"} 5\n',
            {"requests_total": 5, "requests_failed_total": 0, "requests_timed_out_total": 0},
            id="no failure yet is no failure",
        ),
        pytest.param(
            'nginx_ingress_controller_requests{status="200"} NaN\n'
            'nginx_ingress_controller_requests{status="201"} -3\n'
            'nginx_ingress_controller_requests{status="202"} 5\n',
            {"requests_total": 5, "requests_failed_total": 0, "requests_timed_out_total": 0},
            id="what is no count counts nothing",
        ),
    ],
)
def test_page(page, expected):
    assert expected == CountersPage(COUNTERS["nginx"], "").read(page)


def ingress(llm, **changes):
    return IngressConfig(**{"service": "chat", "url": llm.url, "kind": "nginx", **changes})


async def test_samples(llm, clock):
    llm.page = NGINX
    sampler = IngressSampler([ingress(llm, match='ingress="chat"')], clock)
    batch = await sampler.sample(1_000.0)

    found = {sample.key.signal: sample for sample in batch.samples}
    assert found["ingress_requests_failed_total"].value == 8.0
    assert found["ingress_requests_total"].key.service == "chat"
    assert found["ingress_requests_total"].key.endpoint == llm.address
    assert sampler.health.result is Result.OK


@pytest.mark.parametrize(
    ("page", "match", "reason"),
    [
        pytest.param(None, "", "status 404", id="no page"),
        pytest.param("nginx_ingress_controller_requests x\n", "", "line 1", id="no number"),
        pytest.param(NGINX, 'ingress="caht"', "counts no such request", id="a wrong label"),
    ],
)
async def test_trouble_is_told(llm, clock, page, match, reason):
    llm.page = page
    sampler = IngressSampler([ingress(llm, match=match)], clock)
    batch = await sampler.sample(1_000.0)

    assert batch.samples == ()
    assert sampler.health.result is Result.UNKNOWN
    assert reason in sampler.health.reason


async def test_nobody_listens(llm, clock):
    await llm.listen_no_more()
    sampler = IngressSampler([ingress(llm)], clock)
    await sampler.sample(1_000.0)

    assert "nobody listens there" in sampler.health.reason


async def test_a_page_that_hangs_holds_up_no_other(llm, clock):
    async def hang(reader, writer):
        await reader.read()
        writer.close()

    llm.page = NGINX
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        slow = ingress(llm, url=f"http://127.0.0.1:{port}", timeout_s=0.1)
        sampler = IngressSampler([slow, ingress(llm)], clock)
        batch = await sampler.sample(1_000.0)

    assert len(batch.samples) == 5
    assert "no page within 0.1 s" in sampler.health.reason


async def test_the_key_goes_along(llm, clock, monkeypatch):
    """Metrics of LiteLLM may need one; it is shown nowhere."""
    heads = []

    async def answer(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    monkeypatch.setenv("GPUWARD_TEST_KEY", "sk-secret")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        sampler = IngressSampler(
            [ingress(llm, url=url, kind="litellm", api_key_env="GPUWARD_TEST_KEY")], clock
        )
        await sampler.sample(1_000.0)

    assert heads[0].startswith(b"GET /metrics/ HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer sk-secret\r\n" in heads[0]
    assert "secret" not in str(sampler.health)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param('service = ""\nurl = "http://a"\nkind = "envoy"', "service", id="no service"),
        pytest.param('service = "s"\nurl = "a"\nkind = "envoy"', "url is not", id="no url"),
        pytest.param('service = "s"\nurl = "http://a"\nkind = "x"', "Invalid enum", id="kind"),
        pytest.param(
            'service = "s"\nurl = "http://a"\nkind = "envoy"\nmatch = "a=b"', "label", id="match"
        ),
        pytest.param(
            'service = "s"\nurl = "http://a"\nkind = "envoy"\ntimeout_s = 0', "above 0", id="time"
        ),
    ],
)
def test_config_that_cannot_be_used(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        parse(settings, IngressConfig, name="agent.toml")
