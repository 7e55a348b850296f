"""Drills: loud as asked for, marked everywhere, over by themselves, and in nobody's way."""

from __future__ import annotations

import pytest

from gpuward.agent import wire
from gpuward.agent.conditions import conditions
from gpuward.agent.drills import Drill, DrillRefusedError, Drills
from gpuward.agent.exposition import Exposition
from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Batch, Driver, FindingClass, Gpu, Subject
from gpuward.v1 import finding_pb2

GPU = Subject(gpu="GPU-1", gpu_serial="165")
LOST = Drill("gpu.lost", 0, GPU, for_s=300.0, page=True)


@pytest.fixture
def drills(clock):
    return Drills(clock, instance="i", is_allowed=True)


@pytest.fixture
def judge(make_judge, drills):
    return make_judge(detectors=(), drills=drills.open_findings)


def message(judge):
    """Return the one finding that a coordinator is told."""
    judge.tick()
    report = wire.report(judge.snapshot, instance="i", seq=1, events=())
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("page", "loudness"),
    [
        pytest.param(True, finding_pb2.FINDING_CLASS_PAGE, id="a page"),
        pytest.param(False, finding_pb2.FINDING_CLASS_TICKET, id="a ticket"),
    ],
)
def test_any_kind_as_loud_as_asked_for(judge, drills, kind, page, loudness):
    """Whatever the kind's own class, and marked in words and in evidence."""
    drills.start(Drill(kind, 7, GPU, for_s=60.0, page=page))

    told = message(judge)

    assert (told.kind, told.code, told.default_class) == (kind, 7, loudness)
    assert told.summary.startswith("DRILL: ")
    assert [(fact.name, fact.value) for fact in told.evidence] == [("drill", 1.0)]
    assert told.dedup_key.endswith("|drill")
    assert (told.subject.gpu_uuid, told.subject.gpu_serial) == ("GPU-1", "165")


async def test_it_ends_by_itself(judge, drills, clock):
    drills.start(LOST)
    await clock.advance(299.9)
    judge.tick()
    assert len(judge.snapshot.open_findings) == 1
    await clock.advance(0.1)
    judge.tick()
    assert judge.snapshot.open_findings == ()


def test_it_can_be_ended(judge, drills):
    drills.start(LOST)
    drills.start(Drill("gpu.missing", 0, Subject(), 60.0, page=False))

    assert drills.end() == 2
    judge.tick()
    assert judge.snapshot.open_findings == ()
    assert drills.end() == 0


def test_begin_and_end_are_reported_at_once(judge, drills):
    judge.tick()
    judge.changed.clear()
    drills.start(LOST)
    judge.tick()
    assert judge.changed.is_set()

    judge.changed.clear()
    judge.tick()
    assert not judge.changed.is_set()

    drills.end()
    judge.tick()
    assert judge.changed.is_set()


def test_the_same_again_begins_anew(drills, clock):
    first, _ = drills.start(LOST)
    second, until_s = drills.start(LOST)

    assert first != second
    assert until_s == clock.mono_s() + 300.0
    assert [opened.finding_id for opened in drills.open_findings()] == [second]


def test_it_hides_nothing_and_nothing_hides_it(make_judge, drills):
    """A real finding of the same kind and GPU stays beside it, each with a key of its own."""
    judge = make_judge(drills=drills.open_findings)
    gpu = Gpu("GPU-1", 0, "H100", "00000000:1B:00.0", serial="165")
    judge.take("nvml", Batch(gpus=(gpu,), driver=Driver(up=False, reason="gone", waiting_s=70.0)))
    drills.start(Drill("driver.unresponsive", 0, Subject(), 60.0, page=True))
    judge.tick()

    opened = [o for o in judge.snapshot.open_findings if o.finding.kind == "driver.unresponsive"]
    assert [o.finding.drill for o in opened] == [None, FindingClass.PAGE]
    assert len({o.finding.dedup_key for o in opened}) == 2
    assert not any(o.suppressed for o in opened)


def test_it_is_marked_in_metrics_and_drains_no_node(judge, drills):
    drills.start(LOST)
    judge.take("nvml", Batch(driver=Driver(up=True)))
    judge.tick()

    (line,) = (
        line
        for line in Exposition().text(judge.snapshot).splitlines()
        if line.startswith("gpuward_finding_open{")
    )
    assert line.endswith(',drill="1"} 1')
    assert {c.status for c in conditions(judge.snapshot, is_judging=True)} == {"False"}


@pytest.mark.parametrize(
    ("drill", "complaint"),
    [
        pytest.param(Drill("gpu.nothing", 0, GPU, 60.0, page=True), "no kind", id="kind"),
        pytest.param(
            Drill("gpu.xid", 0, GPU, 60.0, page=True), "gpu.xid needs a code: --code 79", id="XID"
        ),
        pytest.param(
            Drill("node.sxid", 0, GPU, 60.0, page=True), "node.sxid needs a code", id="SXid"
        ),
        pytest.param(Drill("gpu.lost", 0, GPU, 0.0, page=True), "not 0 s", id="no time"),
        pytest.param(Drill("gpu.lost", 0, GPU, -1.0, page=True), "not -1 s", id="the past"),
        pytest.param(Drill("gpu.lost", 0, GPU, 3_600.1, page=True), "3600 s", id="too long"),
    ],
)
def test_refused(drills, drill, complaint):
    with pytest.raises(DrillRefusedError, match=complaint):
        drills.start(drill)
    assert drills.open_findings() == ()


def test_an_hour_is_allowed(drills):
    drills.start(Drill("gpu.lost", 0, GPU, 3_600.0, page=False))


def test_there_is_a_bound(drills):
    for code in range(1, 11):
        drills.start(Drill("gpu.xid", code, GPU, 60.0, page=False))
    with pytest.raises(DrillRefusedError, match="10 drills run already"):
        drills.start(Drill("gpu.xid", 11, GPU, 60.0, page=False))


def test_not_unless_it_is_allowed(clock):
    drills = Drills(clock, instance="i", is_allowed=False)
    with pytest.raises(DrillRefusedError, match=r"set \[drills\] allowed = true"):
        drills.start(LOST)
