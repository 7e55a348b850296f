"""What was named is remembered by a sampler, and the detector goes by it."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_cause import detect, name_of
from gpuward.agent.model import Finding, FindingClass, OpenFinding, Subject
from gpuward.agent.samplers.cause_named import CauseNamed

REPLICA = {"service": "chat", "endpoint": "h:8000"}
HOT = {"gpu_clock_event_reasons": 0x20, "gpu_sm_clock_hertz": 1.2e9}
NARROW = {"gpu_pcie_link_width": 8}
THERMAL, PCIE = 4.0, 7.0


def opened(finding):
    return OpenFinding("i-1", finding, 0.0, 0.0, 0.0, 1)


async def named(window, *findings, at_s=1_000.0, sampler=None):
    """Return the numbers that a look at ``window`` brings."""
    sampler = sampler or CauseNamed(lambda _: window, lambda: map(opened, findings))
    return [(sample.key.signal, sample.value) for sample in (await sampler.sample(at_s)).samples]


@pytest.mark.anyio
async def test_what_is_raised_is_remembered_by_its_number(node):
    window = node(HOT)

    assert await named(window, *detect(window)) == [("replica_cause", THERMAL)]


@pytest.mark.anyio
async def test_while_nothing_is_raised_there_is_nothing_to_remember(node):
    """Whatever the window shows: no replica is looked at."""
    other = Finding("service.latency.queue", Subject(**REPLICA), "waits")
    (drill,) = detect(node(HOT))
    drill = Finding(drill.kind, drill.subject, "", drill=FindingClass.STORE)

    assert await named(node(HOT), other, drill) == []


@pytest.mark.anyio
async def test_what_is_named_is_held_for_a_minute_and_then_let_go(node):
    """The link was named first; heat, which leads by far, has been there for as long."""
    both = node(HOT | NARROW)
    (link,), (heat,) = detect(node(NARROW)), detect(both)
    sampler = CauseNamed(lambda _: both, lambda: [opened(link)])
    looks = [await named(both, at_s=1_000.0 + 5.0 * turn, sampler=sampler) for turn in range(14)]

    assert (name_of(link), name_of(heat)) == ("pcie_downgrade", "thermal")
    assert [value for ((_, value),) in looks] == [PCIE] * 12 + [THERMAL] * 2


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        pytest.param(None, "thermal", id="nothing was named"),
        pytest.param(PCIE, "pcie_downgrade", id="the other one was named"),
        pytest.param(THERMAL, "thermal", id="the same"),
        pytest.param(0.0, "thermal", id="nobody knew until now"),
        pytest.param(16.0, "thermal", id="what is ruled out is not named"),
        pytest.param(99.0, "thermal", id="a cause of another version"),
    ],
)
def test_the_detector_names_what_is_held(node, number, verdict):
    extra = () if number is None else [("replica_cause", number, REPLICA)]
    (finding,) = detect(node(HOT | NARROW, extra=extra))

    assert name_of(finding) == verdict
    assert finding.evidence[1].text != verdict
