"""A node with one replica on one GPU, in order; tests say what is different."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Driver, Event, Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Window

GIB = 2**30
NOW_S = 1_000.0
PERIOD_S = 2.0
GPU = Gpu("GPU-1", 0, "NVIDIA H100 80GB HBM3", "1B:00.0")
SERVER = Process(
    "vllm-chat",
    pid=7,
    start_ticks=1,
    gpus=("GPU-1",),
    engine="vllm",
    service="chat",
    tapped=True,
    endpoint="h:8000",
)
STRANGER = Process("trainer", pid=8, start_ticks=2, gpus=("GPU-1",))

# Values of five minutes: a number, or what grows by so much a second after a slash.
HEALTHY = {
    "replica": {
        "replica_requests_total": (1_000, 2.0),
        "replica_prompts_total": (1_000, 2.0),
        "replica_prompt_tokens_total": (500_000, 1_000.0),
        "replica_tokens_total": (500_000, 400.0),
        "replica_inter_tokens_total": (500_000, 400.0),
        "replica_inter_token_seconds_total": (5_000, 5.0),
        "replica_requests_waiting": 0,
        "replica_requests_running": 5,
        "replica_requests_limit": 64,
        "replica_kv_cache_usage_ratio": 0.4,
        "replica_preemptions_total": 0,
        "replica_page_failures_total": 0,
        "replica_prompt_tokens_usual": 500,
        "replica_arrivals_usual_per_second": 2.0,
        "replica_inter_token_recent_seconds": 0.0125,
        "replica_inter_token_expected_seconds": 0.0125,
        "replica_inter_token_shift_ratio": 0.0,
        "replica_inter_token_evidence_ratio": 0.0,
        "replica_inter_token_shift_age_seconds": 0.0,
        "replica_objective_burn_ratio": 0.1,
        "replica_objective_slow_burn_ratio": 0.1,
        "replica_requests_failed_usual_ratio": 0.001,
        "replica_requests_failed_total": 0,
        "replica_requests_timed_out_total": 0,
        "replica_requests_over_objective_total": 0,
    },
    "service": {
        "service_requests_total": (1_000, 2.0),
        "service_tokens_total": (500_000, 400.0),
        "service_requests_over_objective_total": 0,
        "service_requests_waiting": 0,
        "service_requests_running": 5,
    },
    "gpu": {
        "gpu_utilization_ratio": 1.0,
        "gpu_sm_active_ratio": 0.7,
        "gpu_tensor_active_ratio": 0.2,
        "gpu_dram_active_ratio": 0.5,
        "gpu_memory_total_bytes": 80 * GIB,
        "gpu_memory_used_bytes": 72 * GIB,
        "gpu_memory_free_bytes": 8 * GIB,
        "gpu_sm_clock_hertz": 1.755e9,
        "gpu_sm_clock_max_hertz": 1.98e9,
        "gpu_sm_clock_best_hertz": 1.755e9,
        "gpu_clock_event_reasons": 0x0,
        "gpu_power_draw_watts": 500,
        "gpu_power_limit_watts": 700,
        "gpu_power_default_limit_watts": 700,
        "gpu_ecc_corrected_total": 3,
        "gpu_ecc_uncorrected_total": 0,
        "gpu_row_remap_pending": 0,
        "gpu_repair_pending": 0,
        "gpu_row_remap_failed": 0,
        "gpu_ecc_sram_threshold_exceeded": 0,
        "gpu_fabric_healthy": 1,
        "gpu_pcie_link_generation": 5,
        "gpu_pcie_link_generation_max": 5,
        "gpu_pcie_link_width": 16,
        "gpu_pcie_link_width_max": 16,
        "gpu_nvlink_links": 18,
        "gpu_nvlink_links_active": 18,
        "gpu_probe_gap_ratio": 0.0,
        **{
            f"gpu_probe_{figure}_{suffix}_ratio": 0.0
            for figure in ("event", "clock", "host_to_device", "device_to_host", "device_copy")
            for suffix in ("shift", "evidence")
        },
    },
    "process": {
        "process_gpu_memory_bytes": 71 * GIB,
        "process_gpu_utilization_ratio": 0.95,
        "process_memory_reserved_bytes": 70 * GIB,
        "process_memory_stranded_bytes": 0.1 * GIB,
        "process_memory_releasable_bytes": 1 * GIB,
        "process_memory_headroom_bytes": 9 * GIB,
        "process_memory_headroom_ratio": 900,
        "process_memory_mean_large_request_bytes": 0.01 * GIB,
        "process_memory_expandable_segments": 0,
        "process_allocation_retries_total": 0,
        "process_out_of_memory_total": 0,
        "process_kv_cache_usage_ratio": 0.4,
    },
    "node": {
        "node_gpus_expected": 1,
        "node_gpus_present": 1,
        "node_kmsg_readable": 1,
        "node_cpu_pressure_ratio": 0.02,
        "probe_cpu_stolen_ratio": 0.0,
        "node_coordinator_silence_seconds": 5,
        "node_clock_step_seconds": 0,
    },
    "upstream": {
        "upstream_up": 1,
        "upstream_requests_total": (1_000, 2.0),
        "upstream_requests_failed_total": 0,
        "upstream_requests_throttled_total": 0,
        "upstream_latency_seconds_total": (20, 0.04),
        "upstream_latencies_total": (1_000, 2.0),
        "upstream_latency_usual_seconds": 0.02,
    },
}
ABOUT = {
    "replica": {"service": "chat", "endpoint": "h:8000"},
    "service": {"service": "chat"},
    "gpu": {"gpu": "GPU-1"},
    "process": {"gpu": "GPU-1", "process": "vllm-chat"},
    "node": {},
    "upstream": {"endpoint": "vector_db"},
}


def series(signal, value, about, now_s=NOW_S):
    """Yield a signal's five minutes: constant, growing, given by the sample, or none."""
    if value is None:
        return
    points = int(300 / PERIOD_S) + 1
    for place in range(points):
        at_s = now_s - 300 + place * PERIOD_S
        if isinstance(value, tuple):
            figure = value[0] + value[1] * place * PERIOD_S
        elif isinstance(value, list):
            figure = value[min(len(value) - 1, place * len(value) // points)]
        else:
            figure = value
        yield Sample(SeriesKey(signal, **about), at_s, float(figure))


def scope_of(signal):
    return next(scope for scope, values in HEALTHY.items() if signal in values)


def build(changes=None, *, extra=(), processes=(SERVER,), events=(), driver=None, now_s=NOW_S):
    """Return the window of a healthy node, but for ``changes``.

    A value: a number for all five minutes, (start, growth a second), a list spread over them, or
    ``None`` for a signal that nobody samples.  ``extra``: (signal, value, labels).
    """
    changes = changes or {}
    unknown = [signal for signal in changes if not any(signal in it for it in HEALTHY.values())]
    assert not unknown, unknown
    samples = [
        sample
        for scope, values in HEALTHY.items()
        for signal, value in values.items()
        for sample in series(signal, changes.get(signal, value), ABOUT[scope], now_s)
    ]
    for signal, value, about in extra:
        samples += series(signal, value, about, now_s)
    return Window.of(
        samples,
        now_s=now_s,
        gpus=(GPU,),
        processes=processes,
        events=events,
        driver=driver or Driver(up=True),
    )


@pytest.fixture(scope="session")
def node():
    """Build the window of a node; see ``build``."""
    return build


@pytest.fixture(scope="session")
def stranger():
    return STRANGER


@pytest.fixture(scope="session")
def server():
    return SERVER


@pytest.fixture(scope="session")
def xid():
    """Build an XID of the GPU."""

    def make(code, at_s=NOW_S - 30):
        text = f"NVRM: Xid (PCI:0000:1b:00): {code}, pid=7"
        return Event("gpu.xid", at_s, f"{code}/{at_s}", code=code, gpu="GPU-1", pid=7, text=text)

    return make
