"""Every fault that research names has a signature, and gets its own verdict and no other's action.

Signatures as in the table of faults: what is strong must be found, what must stay normal is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from gpuward.agent.detectors.latency_cause import detect
from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.model import Driver

GIB = 2**30
SLOW = {
    "replica_inter_token_recent_seconds": 0.017,
    "replica_inter_token_shift_ratio": 0.36,
    "replica_inter_token_evidence_ratio": 2.0,
    "replica_inter_token_shift_age_seconds": 90.0,
}
QUEUE = {"replica_requests_waiting": 20, "service_requests_waiting": 20}
FULL_BATCH = {"replica_requests_running": 64, "service_requests_running": 64}
MORE = {"replica_requests_total": (1_000, 4.0), "replica_prompts_total": (1_000, 4.0)} | {
    "replica_prompt_tokens_total": (500_000, 2_000.0)
}
LONGER = {"replica_prompt_tokens_total": (500_000, 3_000.0)}
KV_FULL = {"replica_kv_cache_usage_ratio": 0.99, "replica_preemptions_total": (0, 0.2)}
LOW_CLOCK = {"gpu_sm_clock_hertz": 1.2e9, "gpu_probe_clock_evidence_ratio": 3.0}
IN_PIECES = {
    "process_memory_stranded_bytes": 20 * GIB,
    "process_memory_headroom_bytes": 0.05 * GIB,
    "process_memory_headroom_ratio": 5,
    "process_allocation_retries_total": (0, 0.1),
}
NO_ROOM = {
    "gpu_memory_free_bytes": 0.2 * GIB,
    "process_memory_headroom_bytes": 0.2 * GIB,
    "process_memory_headroom_ratio": 20,
    "process_allocation_retries_total": (0, 0.1),
}
HOT = {"gpu_clock_event_reasons": 0x20} | LOW_CLOCK
CAPPED = {"gpu_power_limit_watts": 400, "gpu_power_draw_watts": 395}
CAPPED |= {"gpu_clock_event_reasons": 0x4} | LOW_CLOCK
BUSY_HOST = {"node_cpu_pressure_ratio": 0.8, "probe_cpu_stolen_ratio": 0.3}
SLOW_DATABASE = {"upstream_latency_seconds_total": [20, 20, 20, 20, 60, 120]}
COMPUTES = (
    ("process_gpu_utilization_ratio", 0.5, {"gpu": "GPU-1", "process": "trainer"}),
    ("process_gpu_memory_bytes", 2 * GIB, {"gpu": "GPU-1", "process": "trainer"}),
)
HOLDS = (("process_gpu_memory_bytes", (2 * GIB, GIB / 60), {"gpu": "GPU-1", "process": "trainer"}),)


@dataclass(frozen=True)
class Fault:
    """What is different from a healthy node, what must be said, and what must not be done."""

    changes: dict = field(default_factory=dict)
    verdict: str = ""
    action: str = "NONE"
    extra: tuple = ()
    is_shared: bool = False
    xids: tuple = ()
    driver: Driver | None = None


FAULTS = {
    "1 fragmentation": Fault(SLOW | IN_PIECES, "fragmentation", "RESTART_APPLICATION"),
    "2 KV cache exhausted": Fault(QUEUE | KV_FULL, "kv_exhaustion", "SCALE_UP"),
    # Not full for a minute yet, on average; but whoever puts requests back found it full.
    "2 KV cache that has just filled up": Fault(
        QUEUE | KV_FULL | {"replica_kv_cache_usage_ratio": 0.7}, "kv_exhaustion", "SCALE_UP"
    ),
    "3 memory taken by a stranger": Fault(
        SLOW | NO_ROOM, "noisy_neighbour_memory", "CHECK_APPLICATION", HOLDS, is_shared=True
    ),
    "4 batch at its limit": Fault(QUEUE | FULL_BATCH, "overload", "SCALE_UP"),
    "5 more arrivals": Fault(QUEUE | MORE, "overload", "SCALE_UP"),
    "5 more arrivals, KV full": Fault(QUEUE | MORE | KV_FULL, "overload", "SCALE_UP"),
    "6 longer prompts": Fault(SLOW | LONGER, "input_anomaly", "CHECK_APPLICATION"),
    "6 longer prompts that fill all": Fault(
        SLOW | LONGER | QUEUE | KV_FULL | FULL_BATCH, "input_anomaly", "CHECK_APPLICATION"
    ),
    "7 power cap": Fault(SLOW | CAPPED, "power_cap", "NONE"),
    "7 power brake": Fault(
        SLOW | LOW_CLOCK | {"gpu_clock_event_reasons": 0x80}, "power_cap", "NONE"
    ),
    "8 heat": Fault(SLOW | HOT, "thermal", "DRAIN_NODE"),
    "8 heat, with a queue behind it": Fault(
        SLOW | HOT | QUEUE | FULL_BATCH, "thermal", "DRAIN_NODE"
    ),
    "9 PCIe link narrow": Fault(
        {
            "gpu_pcie_link_width": 8,
            "gpu_probe_host_to_device_evidence_ratio": 2.0,
            "gpu_probe_host_to_device_shift_ratio": 1.0,
        },
        "pcie_downgrade",
        "DRAIN_NODE",
    ),
    "10 corrected errors": Fault(
        {"gpu_ecc_corrected_total": (3, 20.0)}, "ecc_degraded", "DRAIN_NODE"
    ),
    "10 remap pending and slow": Fault(
        SLOW | {"gpu_row_remap_pending": 1}, "ecc_degraded", "DRAIN_NODE"
    ),
    "11 uncorrected errors": Fault(
        {"gpu_ecc_uncorrected_total": [0, 0, 0, 2]}, "gpu_fault", "DRAIN_NODE"
    ),
    "11 XID 48": Fault(xids=(48,), verdict="gpu_fault", action="RESET_GPU"),
    "11 XID 95": Fault(xids=(95,), verdict="gpu_fault", action="RESET_GPU"),
    "12 a stranger computes": Fault(
        SLOW | {"gpu_probe_gap_ratio": 0.3},
        "noisy_neighbour_compute",
        "CHECK_APPLICATION",
        COMPUTES,
        is_shared=True,
    ),
    "13 CPU starved": Fault(SLOW | BUSY_HOST, "host_cpu", "CHECK_APPLICATION"),
    "14 slow vector database": Fault(SLOW_DATABASE, "upstream", "CHECK_APPLICATION"),
    "16 provider refuses": Fault(
        {"upstream_requests_throttled_total": (0, 1.0)}, "upstream", "CHECK_APPLICATION"
    ),
    "17 off the bus": Fault(
        verdict="gpu_lost",
        action="DRAIN_NODE",
        xids=(79,),
        driver=Driver(up=True, lost=(LostGpu(0, 15, "GPU-1", "GPU is lost"),)),
    ),
    "18 driver hangs": Fault(
        verdict="driver_hang",
        action="DRAIN_NODE",
        driver=Driver(up=True, waiting_s=40.0, waiting_call="nvmlDeviceGetMemoryInfo"),
        changes={"replica_tokens_total": 500_000},
    ),
    "19 partition": Fault({"node_coordinator_silence_seconds": 90}, "partition"),
    "20 clock set back": Fault({"node_clock_step_seconds": -300}, "clock_skew"),
    "21 page down": Fault(
        {
            "replica_page_failures_total": (0, 1.0),
            **dict.fromkeys(("replica_requests_total", "replica_requests_waiting")),
        },
        "telemetry_gap",
    ),
}


def verdict_of(finding):
    return finding.evidence[0].text


@pytest.fixture
def judged(node, server, stranger, xid):
    """Return what is found of a fault."""

    def judge(fault):
        window = node(
            fault.changes,
            extra=fault.extra,
            processes=(server, stranger) if fault.is_shared else (server,),
            events=[xid(code) for code in fault.xids],
            driver=fault.driver,
        )
        return list(detect(window))

    return judge


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_fault_gets_its_verdict_and_its_action(judged, fault):
    (finding,) = judged(fault)

    assert verdict_of(finding) == fault.verdict, finding.summary
    assert finding.action is not None
    assert finding.action.name == fault.action
    assert 0.8 <= finding.confidence <= 0.95


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nobody_is_told_to_restart_without_the_allocators_word(judged, fault):
    """The fault may show whatever it shows: with the tap blind there is no restart."""
    blind = {signal: None for signal in fault.changes if signal.startswith("process_")}
    blind["process_memory_reserved_bytes"] = None
    (finding, *_) = judged(replace(fault, changes=fault.changes | blind)) or (None,)

    if finding is not None:
        assert finding.action.name != "RESTART_APPLICATION"
        assert verdict_of(finding) != "fragmentation"


def test_a_restart_is_said_and_is_never_the_sure_cause(judged):
    """It is somebody's doing, and often the mend: an incident looks further."""
    (finding,) = judged(Fault(SLOW | {"replica_requests_total": [900, 1_000, 5, 40]}))

    assert ("restart", 0.5) == (verdict_of(finding), finding.confidence)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="in order"),
        pytest.param(FULL_BATCH, id="full, and nobody waits"),
        pytest.param(MORE, id="more traffic, served well"),
        pytest.param(
            {"replica_prompt_tokens_total": (500_000, 1_400.0)}, id="longer prompts, by chance"
        ),
        pytest.param({"gpu_power_limit_watts": 400}, id="a limit that somebody set long ago"),
        pytest.param({"gpu_clock_event_reasons": 0x4}, id="at its power limit"),
        pytest.param({"replica_requests_total": [900, 1_000, 5, 40]}, id="a restart alone"),
        pytest.param({"gpu_ecc_uncorrected_total": 2}, id="an error of last month"),
        pytest.param({"gpu_pcie_link_generation": 5}, id="link as it should be"),
    ],
)
def test_nothing_is_said_of_a_replica_that_is_well(judged, changes):
    assert judged(Fault(changes)) == []


DOUBLES = {
    "heat and overload": (SLOW | HOT | QUEUE | MORE, ("thermal", "overload")),
    "power and longer prompts": (SLOW | CAPPED | LONGER, ("power_cap", "input_anomaly")),
    "fragmentation and slow upstream": (
        SLOW | IN_PIECES | SLOW_DATABASE,
        ("fragmentation", "upstream"),
    ),
    "corrected errors and busy host": (
        SLOW | BUSY_HOST | {"gpu_ecc_corrected_total": (3, 20.0)},
        ("ecc_degraded", "host_cpu"),
    ),
    "overload and longer prompts": (
        SLOW | QUEUE | MORE | {"replica_prompt_tokens_total": (500_000, 6_000.0)},
        ("input_anomaly", "overload"),
    ),
    "heat and a narrow link": (
        SLOW | HOT | {"gpu_pcie_link_width": 8},
        ("thermal", "pcie_downgrade"),
    ),
}


@pytest.mark.parametrize(("changes", "expected"), DOUBLES.values(), ids=DOUBLES)
def test_of_two_faults_both_are_named(judged, changes, expected):
    (finding,) = judged(Fault(changes))
    named = {verdict_of(finding)} | set(finding.evidence[1].text.split(", "))

    assert set(expected) <= named
    assert verdict_of(finding) != "undetermined"


def test_slow_tokens_alone_are_undetermined_and_the_next_test_is_named(judged):
    (finding,) = judged(Fault(SLOW))
    facts = {fact.name: fact.text for fact in finding.evidence}

    assert facts["verdict"] == "undetermined"
    assert facts["next_test"]
    assert finding.confidence < 0.5
    assert finding.action.name == "NONE"
