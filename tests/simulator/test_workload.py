"""The inference workload: its metrics, its HTTP face, and that it fragments as it claims to."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuward.daemon.testing import FakeClock
from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.simulator.llm.metrics import EngineMetrics
from gpuward.simulator.llm.page import render
from gpuward.simulator.llm.request import FinishedReason
from gpuward.simulator.workload_client import requests
from gpuward.simulator.workload_engine import CompletionRequest, Engine
from gpuward.simulator.workload_http import Face, Request

GIB = 1 << 30


class FixedMemory:
    """The replica on a GPU of its own."""

    def __init__(self, total_gib: int = 80, options: str = "") -> None:
        self.device = FixedDevice(total_gib * GIB)
        self.allocator = CachingAllocator(self.device, AllocatorConfig.parse(options))
        self.malloc = self.allocator.malloc
        self.free = self.allocator.free

    @property
    def free_bytes(self) -> int:
        return self.device.free_bytes

    def stats(self, name: str) -> int:
        current: int = self.allocator.memory_stats()[name]["all"]["current"]
        return current


def make_engine(memory: FixedMemory, clock: FakeClock) -> tuple[Engine, EngineMetrics]:
    metrics = EngineMetrics("demo-30b", started_wall_s=1_800_000_000.0)
    engine = Engine(memory, metrics, clock, seed=0)
    engine.load_weights()
    return engine, metrics


async def serve_requests(engine: Engine, clock: FakeClock, wanted: list[CompletionRequest]) -> int:
    """Send ``wanted`` at 30 a second; return how many failed for lack of memory."""
    failed = 0

    async def send(request: CompletionRequest) -> None:
        nonlocal failed
        try:
            await engine.complete(request)
        except OutOfMemory:
            failed += 1

    async with asyncio.TaskGroup() as group:
        for request in wanted:
            group.create_task(send(request))
            await clock.advance(1 / 30)
        await clock.advance(10.0)
    return failed


# What it does to memory.


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_fragments_until_long_prompts_fail(seed):
    """Healthy without adapters; with them a growing share of requests finds no memory in one piece.

    At the end more is free than the largest request asks for, and nothing can be given back.
    """
    clock, memory = FakeClock(), FixedMemory()
    engine, _ = make_engine(memory, clock)
    stream = requests(seed, healthy_requests=120)
    shares = [
        await serve_requests(engine, clock, list(islice(stream, 120))) / 120 for _ in range(6)
    ]

    assert 0.0 == shares[0]
    assert shares[1] < 0.1 < shares[2]
    assert 0.2 < shares[5] < 0.75
    assert memory.free_bytes + memory.stats("inactive_split_bytes") > 3 * GIB
    assert memory.allocator.memory_stats()["num_ooms"] > 50


async def test_same_traffic_fits_expandable_segments():
    """So the failures are fragmentation, not lack of memory: 1 in 100 instead of 1 in 3."""
    clock = FakeClock()
    engine, _ = make_engine(FixedMemory(options="expandable_segments:True"), clock)

    assert 8 > await serve_requests(engine, clock, list(islice(requests(0, 120), 720)))


async def test_a_new_process_is_healthy_again():
    """The fix of the runbook: the same users, a fresh allocator, no failure."""
    for _ in range(2):
        clock = FakeClock()
        engine, metrics = make_engine(FixedMemory(), clock)

        assert 0 == await serve_requests(engine, clock, list(islice(requests(3, 300), 300)))
        assert 0 == metrics.finished[FinishedReason.ERROR]


def test_same_seed_same_requests():
    assert list(islice(requests(5, 10), 200)) == list(islice(requests(5, 10), 200))
    assert list(islice(requests(5, 10), 200)) != list(islice(requests(6, 10), 200))


def test_adapters_come_after_the_healthy_time():
    """No adapter before; then one in every fourth request, fifty different ones in all."""
    stream = list(islice(requests(0, 100), 500))

    assert {""} == {request.adapter for request in stream[:100]}
    assert 100 == sum(request.adapter != "" for request in stream[100:])
    assert 50 == len({request.adapter for request in stream[100:]} - {""})


# What it counts.


async def test_a_failed_request_leaves_nothing_behind():
    """Out of memory: counted as error, its buffers freed, its slot free for the next."""
    clock, memory = FakeClock(), FixedMemory(total_gib=19)
    engine, metrics = make_engine(memory, clock)
    before = memory.stats("allocated_bytes")
    hog = memory.malloc(memory.free_bytes - GIB)

    failed = await serve_requests(engine, clock, [CompletionRequest(16_000, 4)] * 20)

    assert 20 == failed == metrics.finished[FinishedReason.ERROR]
    assert (0, 0) == (metrics.running, metrics.waiting)
    memory.free(hog)
    assert before == memory.stats("allocated_bytes")


async def test_requests_wait_for_one_of_eight_slots():
    clock = FakeClock()
    engine, metrics = make_engine(FixedMemory(), clock)
    async with asyncio.TaskGroup() as group:
        for _ in range(11):
            group.create_task(engine.complete(CompletionRequest(1_000, 40)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen = (metrics.running, metrics.waiting)
        await clock.advance(5.0)

    assert (8, 3) == seen
    assert 11 == sum(metrics.finished.values())


async def test_metrics_are_what_a_prometheus_parser_reads():
    """Names, labels, cumulative buckets and counts survive a real parser."""
    clock = FakeClock()
    engine, metrics = make_engine(FixedMemory(), clock)
    await serve_requests(engine, clock, [CompletionRequest(1_000, 40)] * 5)
    families = {family.name: family for family in text_string_to_metric_families(render(metrics))}

    finished = {
        sample.labels["finished_reason"]: sample.value
        for sample in families["vllm:request_success"].samples
    }
    assert {"stop", "length", "abort", "error", "repetition"} == set(finished)
    assert 5 == sum(finished.values())
    latency = families["vllm:e2e_request_latency_seconds"]
    buckets = [sample for sample in latency.samples if sample.name.endswith("_bucket")]
    assert "histogram" == latency.type
    assert ("0.3", "7680.0", "+Inf") == tuple(buckets[i].labels["le"] for i in (0, -2, -1))
    assert sorted(bucket.value for bucket in buckets) == [bucket.value for bucket in buckets]
    assert 5 == buckets[-1].value
    assert {"engine": "0", "model_name": "demo-30b"} == families[
        "vllm:num_requests_waiting"
    ].samples[0].labels
    assert 1_800_000_000.0 == families["process_start_time_seconds"].samples[0].value


# How it answers.


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("GET", "/health", b"", 200, id="healthy"),
        pytest.param("GET", "/metrics", b"", 200, id="metrics"),
        pytest.param("GET", "/v1/completions", b"", 404, id="wrong method"),
        pytest.param("GET", "/", b"", 404, id="nothing there"),
        pytest.param("POST", "/v1/completions", b"{", 400, id="not JSON"),
        pytest.param("POST", "/v1/completions", b'{"prompt_tokens":1}', 400, id="field missing"),
        pytest.param(
            "POST",
            "/v1/completions",
            b'{"prompt_tokens":0,"max_tokens":1}',
            400,
            id="below the least prompt",
        ),
        pytest.param(
            "POST",
            "/v1/completions",
            b'{"prompt_tokens":32769,"max_tokens":1}',
            400,
            id="above the longest prompt",
        ),
        pytest.param(
            "POST",
            "/v1/completions",
            b'{"prompt_tokens":16000,"max_tokens":1}',
            500,
            id="out of memory",
        ),
    ],
)
async def test_answers(method, path, body, status):
    memory = FixedMemory(total_gib=2)
    engine, metrics = make_engine(memory, FakeClock())
    face = Face(engine, metrics)

    assert status == (await face.answer(Request(method, path, body))).status
