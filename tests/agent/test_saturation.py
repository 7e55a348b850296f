"""Device and service together: which resource is full, and whether anybody suffers from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Gpu
from gpuward.agent.samplers.saturation import SaturationSampler, loads
from gpuward.agent.saturation import judge_load
from gpuward.agent.window import Window

SM, TENSOR, DRAM = "gpu_sm_active_ratio", "gpu_tensor_active_ratio", "gpu_dram_active_ratio"
UTILIZATION, TOUCHED = "gpu_utilization_ratio", "gpu_memory_bandwidth_utilization_ratio"
KV = "process_kv_cache_usage_ratio"
REASONS, CLOCK, HIGHEST = "gpu_clock_event_reasons", "gpu_sm_clock_hertz", "gpu_sm_clock_max_hertz"
POWER, LIMIT = "gpu_power_draw_watts", "gpu_power_limit_watts"
WAITING, RUNNING, TOKENS = (
    "service_requests_waiting",
    "service_requests_running",
    "service_tokens_total",
)
REQUESTS, OVER = "service_requests_total", "service_requests_over_objective_total"

CALM = {SM: 0.4, TENSOR: 0.1, DRAM: 0.3, UTILIZATION: 1.0, REASONS: 0x0}
FLOWING = list(range(0, 30_000, 100))
WELL = {WAITING: 0, RUNNING: 20, TOKENS: FLOWING}
QUEUE = WELL | {WAITING: 6}
STUCK = {WAITING: 0, RUNNING: 20, TOKENS: 5_000}
SPINNING = {SM: 0.01, TENSOR: 0.0, DRAM: 0.02}
COARSE = {SM: [], TENSOR: [], DRAM: [], TOUCHED: 0.3}


@pytest.mark.parametrize(
    ("device", "service", "expected"),
    [
        pytest.param({}, WELL, ("OK", "NONE"), id="room, no queue"),
        pytest.param({}, None, ("OK", "NONE"), id="no service is known"),
        pytest.param({DRAM: 0.721}, WELL, ("EFFICIENT", "MEMORY_BANDWIDTH"), id="full, no queue"),
        pytest.param({DRAM: 0.719}, WELL, ("OK", "NONE"), id="nearly full"),
        pytest.param({DRAM: 0.721}, QUEUE, ("SATURATED", "MEMORY_BANDWIDTH"), id="bandwidth"),
        pytest.param({SM: 0.86}, QUEUE, ("SATURATED", "COMPUTE"), id="multiprocessors"),
        pytest.param({TENSOR: 0.64}, QUEUE, ("SATURATED", "COMPUTE"), id="tensor cores"),
        pytest.param({KV: 0.81}, QUEUE, ("SATURATED", "KV_CACHE"), id="KV cache"),
        pytest.param({KV: 0.79}, QUEUE, ("STALLED", "HOST"), id="KV cache with room"),
        pytest.param(
            {POWER: 690, LIMIT: 700, REASONS: 0x4}, QUEUE, ("SATURATED", "POWER"), id="power"
        ),
        pytest.param({POWER: 690, LIMIT: 700}, QUEUE, ("STALLED", "HOST"), id="no cap, no limit"),
        pytest.param(
            {
                "gpu_pcie_link_generation": 4,
                "gpu_pcie_link_width": 16,
                "gpu_pcie_receive_bytes_per_second": 23e9,
            },
            QUEUE,
            ("SATURATED", "PCIE"),
            id="PCIe: 23 of 25.2 GB/s that can be had",
        ),
        pytest.param(
            {"gpu_nvlink_links_active": 18, "gpu_nvlink_transmit_bytes_per_second": 350e9},
            QUEUE,
            ("SATURATED", "NVLINK"),
            id="NVLink: 350 of 382 GB/s that can be had",
        ),
        pytest.param(
            {"gpu_memory_total_bytes": 100, "gpu_memory_free_bytes": 1},
            QUEUE,
            ("SATURATED", "MEMORY_CAPACITY"),
            id="memory, where no KV cache tells more",
        ),
        pytest.param(
            {
                "gpu_memory_total_bytes": 100,
                "gpu_memory_free_bytes": 1,
                "process_memory_releasable_bytes": 5,
            },
            QUEUE,
            ("STALLED", "HOST"),
            id="memory that can be given back is free",
        ),
        pytest.param({}, QUEUE, ("STALLED", "HOST"), id="a queue, and a GPU with half to spare"),
        pytest.param({SM: 0.6}, QUEUE, ("STALLED", "NONE"), id="a queue, and a little to spare"),
        pytest.param({}, WELL | {WAITING: 5}, ("OK", "NONE"), id="five may wait"),
        pytest.param(
            {},
            WELL | {REQUESTS: FLOWING, OVER: [n // 10 for n in FLOWING]},
            ("STALLED", "HOST"),
            id="a tenth misses the objective",
        ),
        pytest.param(
            {},
            WELL | {REQUESTS: FLOWING, OVER: [n // 11 for n in FLOWING]},
            ("OK", "NONE"),
            id="less than a tenth does",
        ),
        pytest.param(SPINNING, STUCK, ("WEDGED", "NONE"), id="always busy, nothing done, no token"),
        pytest.param(SPINNING | {UTILIZATION: 0.9}, STUCK, ("OK", "NONE"), id="idle at times"),
        pytest.param(SPINNING | {DRAM: 0.05}, STUCK, ("OK", "NONE"), id="it reads memory"),
        pytest.param(SPINNING, WELL, ("OK", "NONE"), id="tokens flow"),
        pytest.param(SPINNING, STUCK | {RUNNING: 0}, ("OK", "NONE"), id="nobody asked"),
        pytest.param({DRAM: 0.8, REASONS: 0x80}, QUEUE, ("DEGRADED", "POWER_BRAKE"), id="braked"),
        pytest.param({DRAM: 0.8, REASONS: 0x40}, QUEUE, ("DEGRADED", "HEAT"), id="hot"),
        pytest.param(
            {DRAM: 0.8, REASONS: 0x40},
            WELL,
            ("EFFICIENT", "MEMORY_BANDWIDTH"),
            id="hot, but nobody waits",
        ),
        pytest.param({CLOCK: 1.4e9, HIGHEST: 2e9}, QUEUE, ("DEGRADED", "CLOCK"), id="slow clock"),
        pytest.param(
            {CLOCK: 1.4e9, HIGHEST: 2e9, REASONS: 0x4}, QUEUE, ("STALLED", "HOST"), id="power cap"
        ),
        pytest.param(COARSE, QUEUE, ("SATURATED", "COMPUTE"), id="coarse: utilization is all"),
        pytest.param(COARSE | {UTILIZATION: 0.5}, QUEUE, ("STALLED", "NONE"), id="coarse: room"),
        pytest.param(COARSE | {TOUCHED: 0.01}, STUCK, ("WEDGED", "NONE"), id="coarse: wedged"),
        pytest.param(
            COARSE | {TOUCHED: 0.07}, STUCK, ("EFFICIENT", "COMPUTE"), id="coarse: prefill"
        ),
    ],
)
def test_verdict(serving_window, device, service, expected):
    """Full and waiting is saturated, full alone is efficient, waiting alone is stalled."""
    window = serving_window(CALM | device, service=service)
    judgement = judge_load(window, window.gpus[0])

    assert expected == (judgement.verdict.name, judgement.limiter.name)
    assert judgement.confidence == (0.4 if SM in device and device[SM] == [] else 1.0)


def test_of_two_full_resources_the_fuller_is_the_limiter(serving_window):
    window = serving_window(CALM | {DRAM: 0.74, SM: 0.94}, service=QUEUE)

    assert judge_load(window, window.gpus[0]).limiter.name == "COMPUTE"


@pytest.mark.parametrize(
    ("dram", "is_full"),
    [
        pytest.param([0.8] * 25 + [0.0] + [0.8] * 4, True, id="a gap of a second"),
        pytest.param(([0.8] * 7 + [0.2] * 3) * 3, False, id="bursts with room between them"),
        pytest.param([0.0] * 27 + [0.8] * 3, False, id="three seconds"),
        pytest.param([0.8] * 3, False, id="only three figures"),
    ],
)
def test_a_ceiling_lasts(serving_window, dram, is_full):
    window = serving_window(CALM | {DRAM: dram}, service=WELL)

    assert is_full == (judge_load(window, window.gpus[0]).verdict.name == "EFFICIENT")


@pytest.mark.parametrize(
    "gpu",
    [
        pytest.param(
            Gpu("GPU-0", 0, "H100", "1B:00.0", mig=(MigDevice("MIG-1", 1, 0),)),
            id="cut into slices",
        ),
        pytest.param(Gpu("GPU-9", 9, "H100", "1C:00.0"), id="nothing is known"),
    ],
)
def test_what_is_not_known_is_not_judged(serving_window, gpu):
    window = serving_window(CALM, service=QUEUE)

    assert judge_load(window, gpu) is None


async def test_the_sampler_tells_it_as_numbers(serving_window):
    window = serving_window(CALM | {DRAM: 0.8}, service=QUEUE)
    batch = await SaturationSampler(lambda _: window).sample(1_000.0)
    told = {sample.key.signal: sample.value for sample in batch.samples}

    assert told["gpu_load_verdict"] == 2
    assert told["gpu_limiter"] == 2
    assert told["gpu_memory_bandwidth_load_ratio"] == pytest.approx(1.0)
    assert told["gpu_compute_load_ratio"] == pytest.approx(0.4 / 0.95)


LACKS = frozenset({SM})


@pytest.mark.parametrize(
    ("signals", "unsupported", "expected"),
    [
        pytest.param({SM: 0.5}, frozenset(), 1, id="the driver counts"),
        pytest.param({SM: 0.5}, LACKS, 2, id="it cannot, so DCGM's exporter told"),
        pytest.param({UTILIZATION: 0.5}, LACKS, 3, id="only utilization"),
        pytest.param({SM: [], UTILIZATION: 0.5}, frozenset(), 3, id="the counters are silent"),
        pytest.param({}, LACKS, None, id="nothing"),
    ],
)
def test_who_tells_of_activity(serving_window, signals, unsupported, expected):
    window = serving_window(signals)
    gpus = (replace(window.gpus[0], unsupported=unsupported),)
    known = replace(window, inventory=replace(window.inventory, gpus=gpus, found={}))
    told = {s.key.signal: s.value for s in loads(known)}

    assert expected == told.get("gpu_activity_source")


def test_an_empty_node_has_no_loads():
    assert [] == list(loads(Window.of(now_s=1_000.0)))
