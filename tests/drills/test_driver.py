"""A driver that is slow, hangs or goes, a child that is stopped, and floods: from the scenario on.

As in ``test_faults``, but what matters here is what the agent does meanwhile.
"""

from __future__ import annotations

import os
import signal

import pytest
from prometheus_client.exposition import generate_latest

from gpuward.agent.self_metric_table import figures_of_gpus
from gpuward.agent.self_metrics import SelfCollector

pytestmark = pytest.mark.simulator

UNRESPONSIVE = ("driver.unresponsive", None, 0)
TICKET, PAGE = ("warn", "ticket"), ("fail", "page")


async def test_one_call_hangs_for_ever(node):
    """A ticket, then a page; the others are read on; at most two children are left behind."""
    async with node("hung_call") as it:
        await it.play(60, wanted=lambda: UNRESPONSIVE in it.raised_s)
        ticket_s = it.raised_s[UNRESPONSIVE]
        await it.play(299)
        others = {it.value(it.page, "gpu_memory_used_bytes", gpu) for gpu in (0, 2, 3)}
        hung = it.value(it.page, "gpu_memory_used_bytes", 1)
        during = it.page
        await it.play(380)

    assert ticket_s - 30 == pytest.approx(10, abs=3)
    assert list(it.shown[UNRESPONSIVE]) == [TICKET, PAGE]
    assert (None in others, hung) == (False, None)
    assert it.value(it.shown[UNRESPONSIVE][PAGE], "driver_call_wait_seconds") >= 10
    assert it.nvml.abandoned_total >= 1
    assert it.value(during, "node_children_abandoned") <= 2
    assert set(it.shown) == set(it.cleared_s) == {UNRESPONSIVE}


async def test_one_gpu_is_slow(node):
    """Two seconds a call of one GPU, in real time: the others are never two seconds old.

    By the agent's own metrics: how old each GPU's readings are, and how long its calls took.  Two
    seconds are no finding, and when they are over the slow one is as young as the others.
    """
    ages, slow = {gpu: [] for gpu in range(4)}, []

    def look():
        own = generate_latest(SelfCollector(figures_of_gpus(it.judge, it.clock))).decode()
        for gpu, seen in ages.items():
            seen.append(it.value(own, "agent_gpu_age_seconds", gpu))
        slow.append(it.value(it.page, "gpu_nvml_call_seconds", 1) or 0.0)
        return False

    async with node("slow_calls") as it:
        await it.play(3)
        await it.play(13, step_s=0.25, wanted=look, in_real_time=True)
        await it.play(80)
        look()

    assert max(slow) >= 1.5
    assert max(ages[1]) > 2.0
    assert max(age for gpu in (0, 2, 3) for age in ages[gpu]) < 2.0
    assert (ages[1][-1] < 2.0, slow[-1] < 1.5) == (True, True)
    assert it.shown == {}


async def test_stopped_child(node):
    """SIGSTOP: told as a driver that does not answer, but nobody is told to reboot; it clears."""
    async with node("healthy_l40s") as it:
        await it.play(10)
        pid = it.nvml.child_pid
        os.kill(pid, signal.SIGSTOP)
        await it.play(60, wanted=lambda: UNRESPONSIVE in it.raised_s)
        raised_s, page = it.raised_s[UNRESPONSIVE], it.page
        await it.play(raised_s + 20)
        stale = it.value(it.page, "gpu_memory_used_bytes", 0)
        os.kill(pid, signal.SIGCONT)
        await it.play(raised_s + 100)

    assert raised_s - 10 == pytest.approx(13, abs=4)
    assert TICKET in it.shown[UNRESPONSIVE]
    assert it.value(page, "driver_call_wait_seconds") >= 10
    assert stale is None
    assert it.value(it.page, "gpu_memory_used_bytes", 0) is not None
    assert set(it.shown) == set(it.cleared_s) == {UNRESPONSIVE}


async def test_driver_reload(node):
    """An upgrade is maintenance and one event: no page, and the figures are back by themselves."""
    async with node("reload") as it:
        await it.play(50)
        away = it.page
        await it.play(110)

    assert it.value(away, "gpu_memory_used_bytes", 0) is None
    assert it.value(away, "driver_up") == 0
    assert it.value(away, "node_maintenance") == 1
    assert it.value(it.page, "driver_up") == 1
    assert it.value(it.page, "node_maintenance") == 0
    assert it.value(it.page, "node_driver_generation") == 2
    assert all(it.value(it.page, "gpu_memory_used_bytes", gpu) is not None for gpu in range(4))
    assert [event.kind for event in it.events] == ["driver.reloaded"]
    assert {loud for ways in it.shown.values() for _, loud in ways} <= {"store"}
    assert set(it.shown) == set(it.cleared_s)


async def test_process_storm(node):
    """Sixty processes come and go: each is counted while it is there, and nothing is found."""
    async with node("storm") as it:
        await it.play(42)
        during = [it.value(it.page, "gpu_processes", gpu) for gpu in range(8)]
        await it.play(110)
        after = [it.value(it.page, "gpu_processes", gpu) for gpu in range(8)]
        held = [it.value(it.page, "gpu_memory_used_bytes", gpu) for gpu in range(8)]

    assert sum(during) == 120
    assert after == held == [0.0] * 8
    assert {key for key in it.shown if not key[0].startswith("process.")} == set()


async def test_flood_of_the_kernel_log(node):
    """A hundred thousand lines in one second: the XID among them is found within ten."""
    async with node("flood") as it:
        await it.play(60, wanted=lambda: bool(it.raised_s))
        found_s = it.now_s
        await it.play(60)
        kmsg = next(sampler for sampler in it.samplers if sampler.name == "kmsg")
        counted = generate_latest(kmsg.totals).decode()
        await it.play(3_700, step_s=5.0)

    assert set(it.cleared_s) == {("gpu.xid", 2, 48)}
    assert it.raised_s == {("gpu.xid", 2, 48): found_s}
    assert found_s - 30 <= 10
    assert it.value(it.page, "node_kmsg_lines_dropped_total") == 0
    assert f'gpu="{it.uuid(2)}",xid="48"}} 1.0' in counted
    assert it.shown["gpu.xid", 2, 48].keys() == {PAGE}


async def test_xids_of_each_class(node):
    """Whose fault an XID is decides how loud it is, whom it blames, and for how long it stays."""
    ways = {
        ("gpu.xid", 0, 31): {("ok", "store")},
        ("gpu.xid", 1, 43): {("ok", "store")},
        ("gpu.xid", 2, 95): {PAGE},
        ("gpu.xid", 3, 79): {PAGE},
        ("gpu.xid", 4, 64): {PAGE},
        ("gpu.xid", 5, 999): {TICKET},
        ("gpu.xid", 6, 92): {TICKET},
    }
    async with node("xid") as it:
        await it.play(30)
        blamed = {
            opened.finding.code: opened.finding.action for opened in it.judge.snapshot.open_findings
        }
        kmsg = next(sampler for sampler in it.samplers if sampler.name == "kmsg")
        counted = generate_latest(kmsg.totals).decode()
        await it.play(3_700, step_s=5.0)

    assert {key: set(shown) for key, shown in it.shown.items() if key[0] == "gpu.xid"} == ways
    for _, gpu, code in ways:
        count = f'gpuward_gpu_xids_total{{gpu="{it.uuid(gpu)}",xid="{code}"}} 1.0'
        assert count in counted.splitlines()
    assert {code: action.value for code, action in blamed.items()} == {
        31: "check_application",
        43: "none",
        95: "reset_gpu",
        79: "drain_node",
        64: "replace_hardware",
        999: "none",
        92: "replace_hardware",
    }
    assert it.cleared_s["gpu.xid", 0, 31] == pytest.approx(620 + 15, abs=20)
    assert it.cleared_s["gpu.xid", 2, 95] == pytest.approx(3_620 + 15, abs=20)
    assert it.cleared_s.keys() >= ways.keys()
