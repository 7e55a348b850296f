"""What is told of an engine as a replica: by whom, when, and when not."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.model import SeriesKey
from gpuward.agent.samplers.engine import EngineSampler
from gpuward.agent.signals import SIGNALS

FOLDER = Path(__file__).parents[1] / "fixtures" / "engines"


class Engine:
    """A server of one page, which the test may change."""

    def __init__(self, page, *, ready=True):
        self.page = page
        self.ready = ready
        self.asked = []

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if self.page is None:
            writer.close()
            return
        path = re.match(rb"GET (\S+) ", head)[1].decode()
        self.asked.append(path)
        body = self.page.encode() if "metrics" in path else b""
        status = 200 if "metrics" in path or self.ready else 503
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    def sampler(self, clock, **settings):
        config = EngineConfig(
            service="chat", url=f"http://{self.address}", objective_s=5.0, **settings
        )
        return EngineSampler([config], clock)


def replica(batch, engine):
    return {
        one.key.signal: one.value
        for one in batch.samples
        if one.key == SeriesKey(one.key.signal, service="chat", endpoint=engine.address)
    }


async def test_what_a_replica_tells(clock):
    """Figures and durations in the words of every engine, by service and address."""
    async with Engine((FOLDER / "vllm.txt").read_text()) as engine:
        sampler = engine.sampler(clock, objective_ratio=0.95)
        found = replica(await sampler.sample(1_000.0), engine)

    assert found.pop("replica_page_seconds") == 0.0
    assert found == pytest.approx(
        {
            "replica_ready": 1.0,
            "replica_page_failures_total": 0.0,
            "replica_requests_total": 100.0,
            "replica_requests_failed_total": 3.0,
            "replica_requests_over_objective_total": 4.0,
            "replica_objective_budget_ratio": 0.05,
            "replica_requests_waiting": 7.0,
            "replica_requests_running": 5.0,
            "replica_rank_requests_waiting": 4.0,
            "replica_rank_requests_running": 3.0,
            "replica_kv_cache_usage_ratio": 0.41,
            "replica_preemptions_total": 2.0,
            "replica_tokens_total": 12_000.0,
            "replica_prompt_tokens_total": 50_000.0,
            "replica_prompts_total": 97.0,
            "replica_cached_prompt_tokens_total": 8_000.0,
            "replica_latency_seconds_total": 194.0,
            "replica_latencies_total": 97.0,
            "replica_first_token_seconds_total": 19.4,
            "replica_first_tokens_total": 97.0,
            "replica_inter_token_seconds_total": 238.06,
            "replica_inter_tokens_total": 11_903.0,
            "replica_queue_seconds_total": 9.7,
            "replica_queued_total": 97.0,
            "replica_prefill_seconds_total": 9.7,
            "replica_prefills_total": 97.0,
            "replica_decode_seconds_total": 174.6,
            "replica_decodes_total": 97.0,
        }
    )


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trtllm", "triton", "tgi", "ray", "dynamo"])
async def test_every_signal_is_a_known_one(clock, kind):
    """Whatever an engine tells has a row in the table of signals."""
    async with Engine((FOLDER / f"{kind}.txt").read_text()) as engine:
        batch = await engine.sampler(clock, kind=kind).sample(1_000.0)

    assert {one.key.signal for one in batch.samples} <= set(SIGNALS)
    assert len(batch.samples) > 15


async def test_totals_of_timeouts(clock):
    """An engine that tells of them has them in what severity is computed from."""
    async with Engine((FOLDER / "sglang.txt").read_text()) as engine:
        batch = await engine.sampler(clock).sample(1_000.0)

    (totals,) = batch.services
    summed = {one.key.signal: one.value for one in batch.samples if not one.key.endpoint}
    assert summed["service_requests_timed_out_total"] == 1.0
    assert (totals.requests, totals.failed, totals.timed_out, totals.over_objective) == (
        100,
        3,
        1,
        4,
    )


async def test_a_replica_that_does_not_answer(clock):
    """Its figures are absent, not 0; that it cannot be read is counted, and it is not ready."""
    async with Engine("vllm:num_requests_running 3\n") as engine:
        sampler = engine.sampler(clock)
        await sampler.sample(1_000.0)
    found = [replica(await sampler.sample(1_000.0 + n), engine) for n in (1, 2)]

    assert found == [
        {
            "replica_ready": 0.0,
            "replica_page_failures_total": float(n),
            "replica_silent_seconds": float(n),
            "replica_listens": 0.0,
        }
        for n in (1, 2)
    ]


async def test_silence_of_an_engine_that_was_down_before_us(clock):
    """It counts from our first look, and anew after a maintenance; it ends with any answer."""
    async with Engine("") as engine:
        pass
    maintained = False
    config = EngineConfig(service="chat", url=f"http://{engine.address}")
    sampler = EngineSampler([config], clock, is_maintained=lambda: maintained)
    told = []
    for second in range(4):
        maintained = second == 2
        found = replica(await sampler.sample(1_000.0 + second), engine)
        told.append(found.get("replica_silent_seconds"))

    assert told == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("page", "is_silent"),
    [
        pytest.param("vllm:num_requests_running 3\n", False, id="it tells"),
        pytest.param("another_program 1\n", False, id="something else answers"),
        pytest.param(None, True, id="it accepts and hangs up"),
    ],
)
async def test_who_answers_is_not_silent(clock, page, is_silent):
    """Whatever it says: a wrong address or a missing key is no outage."""
    async with Engine(page) as engine:
        found = replica(await engine.sampler(clock).sample(1_000.0), engine)

    assert found.get("replica_listens") == (1.0 if is_silent else None)
    assert ("replica_silent_seconds" in found) is is_silent


async def test_a_replica_that_is_not_ready_tells_its_figures(clock):
    async with Engine("vllm:num_requests_running 3\n", ready=False) as engine:
        found = replica(await engine.sampler(clock).sample(1_000.0), engine)

    assert (found["replica_ready"], found["replica_requests_running"]) == (0.0, 3.0)


async def test_the_percentile_is_told_every_five_seconds(clock):
    """It needs five minutes and 400 requests; beyond the last edge it is a bound of its own."""
    name = "vllm:e2e_request_latency_seconds"
    async with Engine("") as engine:
        sampler = engine.sampler(clock, kind="vllm")
        told = {}
        for second in range(320):
            fast, slow = 10 * second, second // 2
            engine.page = (
                f'{name}_bucket{{le="1.0"}} {fast}\n{name}_bucket{{le="2.0"}} {fast}\n'
                f'{name}_bucket{{le="+Inf"}} {fast + slow}\n'
                "vllm:time_to_first_token_seconds_bucket"
                f'{{le="1.0"}} 0\nvllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {fast}\n'
            )
            found = replica(await sampler.sample(1_000.0 + second), engine)
            told[second] = {key: value for key, value in found.items() if "_p95_" in key}

    assert [second for second, found in told.items() if found] == [300, 305, 310, 315]
    assert set(told[315]) == {
        "replica_latency_p95_seconds",
        "replica_first_token_p95_beyond_seconds",
    }
    assert 0.9 < told[315]["replica_latency_p95_seconds"] <= 1.0
    assert told[315]["replica_first_token_p95_beyond_seconds"] == 1.0


@pytest.mark.parametrize(
    ("padding", "pages"),
    [pytest.param(0, 10, id="short: each second"), pytest.param(140_000, 2, id="long: every 5 s")],
)
async def test_a_long_page_is_read_less_often(clock, padding, pages):
    """And between two looks it is still known: nothing is stale, nothing is said twice."""
    async with Engine(f"vllm:num_requests_running 3\n# {'x' * padding}\n") as engine:
        sampler = engine.sampler(clock)
        batches = [await sampler.sample(1_000.0 + second) for second in range(10)]

    assert engine.asked.count("/metrics") == pages
    assert all(batch.services[0].ready for batch in batches)
    running = ["replica_requests_running" in replica(batch, engine) for batch in batches]
    assert running.count(True) == pages


async def test_a_page_that_is_no_page_is_asked_for_every_ten_seconds(clock):
    async with Engine("vllm:num_requests_running three\n") as engine:
        sampler = engine.sampler(clock)
        for second in range(20):
            await sampler.sample(1_000.0 + second)

    assert engine.asked.count("/metrics") == 2
    assert "line 1: expected a value" in sampler.health.reason


async def test_what_an_engine_does_not_tell_is_said_once(clock):
    with capture_logs() as logs:
        async with Engine("vllm:num_requests_running 3\n") as engine:
            sampler = engine.sampler(clock)
            await sampler.sample(1_000.0)
            await sampler.sample(1_001.0)
            engine.page += "vllm:num_requests_waiting NaN\n"
            await sampler.sample(1_002.0)
            # What comes and goes is not told of each time.
            engine.page = "vllm:num_requests_waiting NaN\n"
            await sampler.sample(1_003.0)
            engine.page = "vllm:num_requests_running 3\nvllm:num_requests_waiting NaN\n"
            await sampler.sample(1_004.0)

    assert [(entry["event"], entry.get("kind")) for entry in logs] == [
        ("engine.recognised", "vllm"),
        ("engine.figures_broken", None),
        ("engine.recognised", "vllm"),
    ]
    assert logs[0]["objective_judged_at_s"] is None
    assert "requests_waiting" in logs[0]["does_not_tell"]
    assert "requests_waiting" not in logs[2]["does_not_tell"]
    assert "vllm:num_requests_waiting is nan" in sampler.health.reason


@pytest.mark.parametrize(
    ("objective_s", "judged_at_s"),
    [
        pytest.param(5.0, 5.0, id="an edge"),
        pytest.param(6.0, 10.0, id="between two"),
        pytest.param(9e9, None, id="beyond all"),
    ],
)
async def test_at_which_edge_the_objective_is_judged_is_said(clock, objective_s, judged_at_s):
    with capture_logs() as logs:
        async with Engine((FOLDER / "vllm.txt").read_text()) as engine:
            config = EngineConfig(
                service="chat", url=f"http://{engine.address}", objective_s=objective_s
            )
            await EngineSampler([config], clock).sample(1_000.0)

    assert logs[0]["objective_judged_at_s"] == judged_at_s


@pytest.mark.parametrize(
    ("signal", "before", "after"),
    [
        pytest.param("vllm:request_success_total", 100, 3, id="requests"),
        pytest.param("vllm:generation_tokens_total", 100, 3, id="tokens"),
    ],
)
async def test_a_counter_that_fell_counts_from_a_new_start(clock, signal, before, after):
    async with Engine(f"{signal} {before}\nprocess_start_time_seconds 500\n") as engine:
        sampler = engine.sampler(clock, kind="vllm")
        first = await sampler.sample(1_000.0)
        engine.page = engine.page.replace(f" {before}", f" {after}")
        await clock.advance(1.0)
        second = await sampler.sample(1_001.0)

    assert first.services[0].started_wall_s == 500.0
    assert second.services[0].started_wall_s == clock.wall_s()
