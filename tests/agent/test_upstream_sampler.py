"""Upstreams over loopback: there or not, how long they take, and what is usual of them."""

from __future__ import annotations

import asyncio
from textwrap import indent

import pytest

from gpuward.agent.model import Batch, Result
from gpuward.agent.samplers.ingress_page import CountersPage
from gpuward.agent.samplers.upstream import UpstreamSampler
from gpuward.agent.samplers.upstream_config import COUNTERS, UpstreamConfig
from gpuward.agent.samplers.upstream_usual import Usual
from gpuward.agent.window import Readings
from gpuward.daemon.config import ConfigError, parse

# Each line goes on from the name of the histogram.
OTEL = """\
count{server_address="db",http_response_status_code="200"} 90
count{server_address="db",http_response_status_code="429"} 4
count{server_address="db",http_response_status_code="503",error_type="503"} 5
count{server_address="db",error_type="timeout"} 1
count{server_address="x",http_response_status_code="500"} 9
sum{server_address="db",http_response_status_code="200"} 2.5
"""
OTEL = indent(OTEL, "http_client_request_duration_seconds_")
GEN_AI = """\
count{gen_ai_provider_name="db"} 90
count{gen_ai_provider_name="db",error_type="429"} 1
count{gen_ai_provider_name="db",error_type="RateLimitError"} 3
count{gen_ai_provider_name="db",error_type="timeout"} 6
sum{gen_ai_provider_name="db"} 2.5
"""
GEN_AI = indent(GEN_AI, "gen_ai_client_operation_duration_seconds_")


@pytest.mark.parametrize(
    ("kind", "match", "page"),
    [
        pytest.param("otel", 'server_address="db"', OTEL, id="HTTP"),
        pytest.param("otel_gen_ai", 'gen_ai_provider_name="db"', GEN_AI, id="generative AI"),
    ],
)
def test_what_callers_count(kind, match, page):
    assert CountersPage(COUNTERS[kind], match).read(page) == {
        "requests_total": 100.0,
        "requests_failed_total": 6.0,
        "requests_throttled_total": 4.0,
        "latency_seconds_total": 2.5,
        "latencies_total": 100.0,
    }


@pytest.fixture
def sampler_of(clock, tmp_path, written):
    """Build a sampler whose window holds what it sampled; each has the same file."""

    def build(*upstreams):
        readings = Readings()
        sampler = UpstreamSampler(upstreams, clock, readings.window, tmp_path / "usual.json")

        async def turn(now_s):
            batch = await sampler.sample(now_s)
            readings.apply("upstream", Batch(samples=batch.samples), now_s)
            written()
            return {sample.key.signal: sample.value for sample in batch.samples}

        return sampler, turn

    return build


def upstream(llm, **changes):
    return UpstreamConfig(**{"name": "vectors", "kind": "http", "url": llm.url, **changes})


async def test_tcp(llm, sampler_of):
    _, turn = sampler_of(upstream(llm, kind="tcp", url=f"tcp://{llm.address}"))
    there = await turn(1_000.0)
    await llm.listen_no_more()
    gone = await turn(1_010.0)

    assert there["upstream_up"] == 1.0
    assert "upstream_probe_seconds" in there
    assert gone == {"upstream_up": 0.0}


async def test_http(llm, sampler_of):
    """Whoever says that we may not look is there."""
    _, turn = sampler_of(upstream(llm, url=f"{llm.url}/metrics"))

    assert (await turn(1_000.0))["upstream_up"] == 1.0


@pytest.mark.parametrize(
    ("answer", "up"),
    [
        pytest.param(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n", 1.0, id="needs a key"),
        pytest.param(b"HTTP/1.1 499 X\r\nContent-Length: 0\r\n\r\n", 1.0, id="499"),
        pytest.param(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", 0.0, id="500"),
        pytest.param(b"SSH-2.0\r\n\r\n", 0.0, id="another protocol"),
        pytest.param(None, 0.0, id="hangs"),
    ],
)
async def test_http_answers(sampler_of, llm, answer, up):
    heads = []

    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        _, turn = sampler_of(upstream(llm, url=url, timeout_s=0.2))
        assert (await turn(1_000.0))["upstream_up"] == up

    assert heads[0].startswith(b"GET / HTTP/1.1\r\n")


async def test_no_key_can_be_had(llm, sampler_of):
    """Then nothing is known of the upstream, and why is told."""
    sampler, turn = sampler_of(upstream(llm, api_key_file="/nowhere/key"))

    assert await turn(1_000.0) == {}
    assert sampler.health.reason == "vectors: /nowhere/key: No such file or directory"


async def test_callers_page(llm, sampler_of):
    llm.page = OTEL
    sampler, turn = sampler_of(upstream(llm, kind="otel", url=f"{llm.url}/metrics"))
    figures = await turn(1_000.0)
    llm.page = None

    assert figures["upstream_requests_total"] == 109.0
    assert await turn(1_010.0) == {}
    assert sampler.health.result is Result.UNKNOWN
    assert "vectors: status 404" in sampler.health.reason


async def test_what_is_usual_of_callers_is_learnt(llm, sampler_of):
    """A second for each request, for ten minutes and more."""
    _, turn = sampler_of(upstream(llm, kind="otel", url=f"{llm.url}/metrics"))
    name = "http_client_request_duration_seconds"
    figures = {}
    for number in range(80):
        llm.page = f"{name}_count 1{number:03d}0\n{name}_sum 1{number:03d}0\n"
        figures = await turn(1_000.0 + 10 * number)

    assert figures["upstream_latency_usual_seconds"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("content", "is_known"),
    [
        pytest.param(None, True, id="as it was written"),
        pytest.param(b"{", False, id="half of it"),
        pytest.param(b"\xff", False, id="garbage"),
        pytest.param(b'{"a": {"turns": "many"}}', False, id="another type"),
    ],
)
async def test_what_is_usual_outlives_the_agent(llm, sampler_of, tmp_path, content, is_known):
    """Five minutes of learning are lost at most."""
    config = upstream(llm, kind="tcp", url=f"tcp://{llm.address}")
    _, turn = sampler_of(config)
    for number in range(91):
        await turn(1_000.0 + 10 * number)
    if content is not None:
        (tmp_path / "usual.json").write_bytes(content)
    _, turn = sampler_of(config)

    assert ("upstream_probe_usual_seconds" in await turn(5_000.0)) is is_known


async def test_a_full_disk_is_no_end(llm, sampler_of, tmp_path):
    """A folder where the file should be: what is usual is known as long as the agent lives."""
    (tmp_path / "usual.json").mkdir()
    _, turn = sampler_of(upstream(llm, kind="tcp", url=f"tcp://{llm.address}"))
    for number in range(60):
        figures = await turn(1_000.0 + 10 * number)

    assert "upstream_probe_usual_seconds" in figures


def test_usual():
    """Sixty turns, then slowly; what is slow moves it ten times slower still."""
    usual = Usual()
    for _ in range(59):
        usual.note(0.1)
    assert usual.seconds is None
    usual.note(0.1)
    assert usual.seconds == pytest.approx(0.1)
    for _ in range(360):
        usual.note(1.0)
    assert 0.1 < usual.seconds < 0.15
    for _ in range(20_000):
        usual.note(1.0)
    assert usual.seconds > 0.9


def test_usual_follows_what_is_a_little_slower():
    usual = Usual()
    for seconds in [0.1] * 60 + [0.19] * 1_500:
        usual.note(seconds)

    assert usual.seconds > 0.18


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param('name = ""\nkind = "tcp"\nurl = "tcp://a:1"', "name", id="no name"),
        pytest.param('name = "a b"\nkind = "tcp"\nurl = "tcp://a:1"', "name", id="a blank"),
        pytest.param('name = "a"\nkind = "tcp"\nurl = "tcp://a"', "tcp://host", id="no port"),
        pytest.param('name = "a"\nkind = "tcp"\nurl = "http://a:1"', "tcp://host", id="scheme"),
        pytest.param('name = "a"\nkind = "tcp"\nurl = "tcp://u:p@a:1"', "tcp://host", id="user"),
        pytest.param('name = "a"\nkind = "http"\nurl = "tcp://a:1"', "url is not", id="no page"),
        pytest.param(
            'name = "a"\nkind = "http"\nurl = "http://a"\nmatch = \'a="b"\'', "match", id="match"
        ),
        pytest.param(
            'name = "a"\nkind = "http"\nurl = "http://a"\ntimeout_s = 5.1', "at most 5", id="time"
        ),
    ],
)
def test_config_that_cannot_be_used(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        parse(settings, UpstreamConfig, name="agent.toml")
