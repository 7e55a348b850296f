"""Two hours of a healthy node of each profile: what `make bench-null` lives a hundred days of.

The benchmark says how quiet the agent is; here is what must be so in every slice of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Seconds of CPU, on a machine that may have others to do.
FOLDER = Path(__file__).parent


@pytest.fixture
def null(monkeypatch):
    """The benchmark's modules, which find one another in their own folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import null
    import null_node

    return {"null": null, "node": null_node}


@pytest.mark.parametrize("kind", ["h100-sxm-x8", "l40s-x4", "h100-mig-x1", "rtx4090-x1"])
def test_half_an_hour_wakes_nobody(null, kind):
    """Two node-hours in all, through every detector: no page and no ticket."""
    lived = null["null"].live(kind, 0, 0.5, 5)

    loud = {kind: n for (kind, loudness), n in lived.found.items() if loudness != "store"}
    assert not loud, lived.examples
    assert lived.gpu_days == pytest.approx(null["null"].GPUS[kind] * 0.5 / 24)


def test_what_a_node_says_is_judged(null):
    """A quiet bench of a node that says nothing would prove nothing."""
    node = null["node"].Node("h100-sxm-x8", 3)
    signals = {
        sample.key.signal for second in range(1, 61) for sample in node.second(second).samples
    }
    from gpuward.agent.gpu_checks import NEEDS

    unheard = {kind for kind, ways in NEEDS.items() if not any(signals >= {*way} for way in ways)}
    # Worked out by samplers of the agent from what was said; and what no H100 has.
    assert unheard == {
        "gpu.memory.coverage_fell",
        "gpu.memory.unattributed",
        "gpu.memory.repair_pending",
        "gpu.memory.retired_pages_full",
        "gpu.memory.retired_pages_pending",
        "gpu.memory.unrepairable",
        # Of workers that an operator has to ask for.
        "gpu.probe.preempted",
        "gpu.probe.slow",
    }


def test_trouble_is_counted(null, monkeypatch):
    """The same bench with a power brake pulled: it pages, so silence means something."""
    from null_gpu import Card

    fast = Card._fast

    def braked(card, load, used, noon):
        seconds = card.counters["energy"]
        return {
            **fast(card, load, used, noon),
            "gpu_clock_event_hw_power_brake_seconds_total": seconds,
        }

    monkeypatch.setattr(Card, "_fast", braked)
    lived = null["null"].live("rtx4090-x1", 0, 0.1, 5)

    assert lived.found["gpu.power.brake", "page"] == 1


@pytest.mark.parametrize(
    ("waiting", "tickets"),
    [
        pytest.param({}, 0, id="nobody waits"),
        pytest.param({"vllm-3": 200.0}, 1, id="all wait at one of eight"),
        pytest.param({"vllm-3": 6.0, "vllm-5": 5.0}, 1, id="five may wait"),
    ],
)
def test_who_waits_at_one_engine_stalls_no_other(null, monkeypatch, waiting, tickets):
    """Eight engines of one service, all with room: a ticket for each GPU that is waited for."""
    from null_load import Service

    shown = property(lambda service: waiting.get(service.unit, 0.0))
    monkeypatch.setattr(Service, "shown_waiting", shown)
    lived = null["null"].live("h100-sxm-x8", 3, 0.15, 5)

    assert lived.found["gpu.stalled", "ticket"] == tickets, lived.examples


def test_a_service_is_the_sum_of_its_engines(null):
    """As the sampler of engines says it: each by its own name, and all together."""
    node = null["node"].Node("h100-sxm-x8", 3)
    for second in range(1, 240):
        batch = node.second(second)
    running = {s.key: s.value for s in batch.samples if s.key.signal.endswith("requests_running")}
    engines = {key.endpoint: value for key, value in running.items() if key.endpoint}
    (whole,) = (value for key, value in running.items() if not key.endpoint)

    assert len(engines) == 8
    assert whole == sum(engines.values())
    assert {totals.instance for totals in batch.services} == engines.keys()


def test_the_command_says_what_its_figures_are_of():
    """Exposure, step and verdict stand beside the counts; the status is the verdict's."""
    done = subprocess.run(
        [sys.executable, FOLDER / "null.py", "--hours", "0.05"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "the judge was asked every 5 s" in done.stdout
    assert "0 pages (at most 0), 0 tickets (at most 1): kept" in done.stdout


def test_the_exposure_is_what_was_asked_for(null):
    jobs = null["null"].plan(100.0, None)

    assert sum(null["null"].GPUS[kind] * hours / 24 for kind, _, hours in jobs) == pytest.approx(
        100
    )
    assert {kind for kind, _, _ in jobs} == set(null["null"].GPUS)
    assert len({(kind, seed) for kind, seed, _ in jobs}) == len(jobs)
