"""Sampling engines over real sockets: counters as they are, readiness, restarts, silence."""

from __future__ import annotations

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.model import Result, SeriesKey
from gpuward.agent.samplers.engine import EngineSampler
from gpuward.daemon.config import ConfigError, parse


class Engine:
    """A vLLM-shaped server whose page the test writes."""

    def __init__(self):
        self.requests = 10
        self.started = "process_start_time_seconds 500\n"
        self.health = 200
        self.page = None
        self.url = ""

    def text(self):
        return self.page or (
            f"{self.started}"
            f'vllm:request_success_total{{finished_reason="stop"}} {self.requests}\n'
            "vllm:num_requests_waiting 2\n"
        )

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        path = re.match(rb"GET (\S+) ", head)[1]
        if path == b"/health":
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.health)
        else:
            body = self.text().encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    def config(self, service="chat"):
        return EngineConfig(service=service, url=self.url, objective_s=5.0)


def of(batch, signal, service="chat"):
    return [s.value for s in batch.samples if s.key == SeriesKey(signal, service=service)]


async def test_totals(clock):
    """Totals are the engine's own counters, with the time that they count from."""
    async with Engine() as engine:
        batch = await EngineSampler([engine.config()], clock).sample(1_000.0)

    (totals,) = batch.services
    assert (totals.service, totals.instance) == ("chat", engine.url.removeprefix("http://"))
    assert (totals.requests, totals.failed, totals.waiting) == (10, 0, 2)
    assert totals.started_wall_s == 500.0
    assert totals.observed_wall_s == 1_800_000_000.0
    assert totals.ready
    assert of(batch, "service_requests_total") == [10.0]
    assert of(batch, "service_requests_waiting") == [2.0]
    assert of(batch, "service_requests_running") == []


async def test_what_a_page_said_last_is_kept_with_its_time(clock):
    """Others ask for it: the model, the size of the KV cache."""
    async with Engine() as engine:
        sampler = EngineSampler([engine.config()], clock)
        assert sampler.reading_of(engine.config()) is None
        engine.page = (
            f'{engine.text()}vllm:cache_config_info{{block_size="16",num_gpu_blocks="100"}} 1.0\n'
        )
        await sampler.sample(1_000.0)
        engine.page = "# nothing\n"
        await sampler.sample(1_001.0)

        at_s, reading = sampler.reading_of(engine.config())

    assert (at_s, reading.figures["requests_total"]) == (1_000.0, 10)
    assert (reading.kv_cache.blocks, reading.kv_cache.tokens) == (100, 1_600)


async def test_unhealthy_engine_is_not_ready(clock):
    """An engine that serves its page but not requests is not ready."""
    async with Engine() as engine:
        engine.health = 503
        batch = await EngineSampler([engine.config()], clock).sample(1_000.0)

    assert not batch.services[0].ready
    assert batch.services[0].requests == 10


@pytest.mark.parametrize(
    ("later_s", "is_ready"),
    [
        pytest.param(4.9, True, id="believed while its page is read"),
        pytest.param(5.0, False, id="asked again"),
    ],
)
async def test_an_engine_is_asked_every_five_seconds_whether_it_is_ready(clock, later_s, is_ready):
    async with Engine() as engine:
        sampler = EngineSampler([engine.config()], clock)
        await sampler.sample(1_000.0)
        engine.health = 503
        batch = await sampler.sample(1_000.0 + later_s)

    assert is_ready == batch.services[0].ready


async def test_an_engine_that_was_not_ready_is_asked_each_time(clock):
    async with Engine() as engine:
        sampler = EngineSampler([engine.config()], clock)
        engine.health = 503
        await sampler.sample(1_000.0)
        engine.health = 200
        batch = await sampler.sample(1_001.0)

    assert batch.services[0].ready


async def test_silent_engine(clock):
    """It stays for a minute, not ready, with what it last said, and no series; then it is gone."""
    with capture_logs() as logs:
        async with Engine() as engine:
            sampler = EngineSampler([engine.config()], clock)
            await sampler.sample(1_000.0)
        silent = await sampler.sample(1_060.0)
        gone = await sampler.sample(1_060.1)

    (totals,) = silent.services
    assert (totals.requests, totals.ready) == (10, False)
    assert totals.observed_wall_s == 1_800_000_000.0
    assert [(s.key.signal, s.value) for s in silent.samples] == [
        ("replica_ready", 0.0),
        ("replica_page_failures_total", 1.0),
        ("replica_silent_seconds", 60.0),
        ("replica_listens", 0.0),
    ]
    assert gone.services == ()
    assert [entry["event"] for entry in logs] == ["engine.recognised", "engine.unreachable"]
    assert sampler.health.result is Result.UNKNOWN


async def test_never_seen_engine_is_no_instance(clock):
    """What never answered has no counters to show."""
    config = EngineConfig(service="chat", url="http://127.0.0.1:1")
    batch = await EngineSampler([config], clock).sample(1_000.0)

    assert batch.services == ()
    assert [(s.key.signal, s.value) for s in batch.samples] == [
        ("replica_ready", 0.0),
        ("replica_page_failures_total", 1.0),
        ("replica_silent_seconds", 0.0),
        ("replica_listens", 0.0),
    ]


@pytest.mark.parametrize(
    ("started", "expected_s"),
    [
        pytest.param("process_start_time_seconds 600\n", 600.0, id="the engine says when"),
        pytest.param("process_start_time_seconds 500\n", 1_800_000_005.0, id="it says wrong"),
        pytest.param("", 1_800_000_005.0, id="it does not say"),
    ],
)
async def test_restart(clock, started, expected_s):
    """Counters that fall count from a new start."""
    async with Engine() as engine:
        sampler = EngineSampler([engine.config()], clock)
        await sampler.sample(1_000.0)
        await clock.advance(5.0)
        engine.requests, engine.started = 3, started
        (totals,) = (await sampler.sample(1_005.0)).services

    assert (totals.requests, totals.started_wall_s) == (3, expected_s)


async def test_start_is_kept(clock):
    """Without a start of its own, an engine counts from when it was first seen."""
    async with Engine() as engine:
        engine.started = ""
        sampler = EngineSampler([engine.config()], clock)
        await sampler.sample(1_000.0)
        await clock.advance(5.0)
        engine.requests = 12
        (totals,) = (await sampler.sample(1_005.0)).services

    assert totals.started_wall_s == 1_800_000_000.0


async def test_instances_are_summed(clock):
    """A service's series are sums; a silent instance keeps its part, for a sum must not fall."""
    async with Engine() as first:
        async with Engine() as second:
            second.requests = 100
            sampler = EngineSampler([first.config(), second.config()], clock)
            both = await sampler.sample(1_000.0)
        one = await sampler.sample(1_001.0)

    assert of(both, "service_requests_total") == [110.0]
    assert of(one, "service_requests_total") == [110.0]
    assert of(both, "service_requests_waiting") == [4.0]
    assert of(one, "service_requests_waiting") == [2.0]
    assert [totals.ready for totals in one.services] == [True, False]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        pytest.param("vllm:request_success_total oops\n", "line 1: expected a value", id="broken"),
        pytest.param("up 1\n", "no engine that gpuward knows", id="another server"),
    ],
)
async def test_page_that_cannot_be_used(clock, page, reason):
    """The reason is said, with the engine, and nothing is made up."""
    async with Engine() as engine:
        engine.page = page
        sampler = EngineSampler([engine.config()], clock)
        batch = await sampler.sample(1_000.0)

    assert batch.services == ()
    assert sampler.health.reason.startswith(engine.url.removeprefix("http://"))
    assert reason in sampler.health.reason


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        pytest.param('service = ""\nurl = "http://a:1"', "service is empty", id="no service"),
        pytest.param('service = "a"\nurl = "ftp://a:1"', "http://host:port", id="scheme"),
        pytest.param('service = "a"\nurl = "localhost:8000"', "http://host:port", id="no scheme"),
        pytest.param(
            'service = "a"\nurl = "http://a:1"\nobjective_s = 0', "above 0", id="objective"
        ),
        pytest.param(
            'service = "a"\nurl = "http://a:1"\nobjective_ratio = 0.49', "0.5 to 0.9999", id="half"
        ),
        pytest.param(
            'service = "a"\nurl = "http://a:1"\nobjective_ratio = 1', "0.99 for 99 %", id="all"
        ),
        pytest.param('service = "a"\nurl = "http://a:1"\nkind = "gpt"', "gpt", id="kind"),
        pytest.param(
            'service = "a"\nurl = "http://a:1"\nkind = "openmetrics"', "map is for", id="no map"
        ),
        pytest.param(
            'service = "a"\nurl = "http://a:1"\nkind = "vllm"\n'
            '[[map.figures.requests_total]]\nnames = ["a"]',
            "map is for",
            id="two maps",
        ),
        pytest.param(
            'service = "a"\nurl = "http://a:1"\nhealth_url = "a:1/health"',
            "health_url 'a:1/health'",
            id="health without a scheme",
        ),
        pytest.param('service = "a"\nurl = "http://a:1"\nkey = 1', "key", id="unknown key"),
    ],
)
def test_config_errors(toml, message):
    """A configuration that cannot work is refused with what is wrong."""
    with pytest.raises(ConfigError, match=message):
        parse(toml, EngineConfig, name="agent.toml")
