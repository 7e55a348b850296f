"""The loop that judges: contains failures, publishes snapshots, feeds the watchdog."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gpuward.agent.detectors import Detector
from gpuward.agent.diagnosis.told import findings
from gpuward.agent.heard import Heard
from gpuward.agent.judge import SLICE_S
from gpuward.agent.kinds import KINDS
from gpuward.agent.model import (
    Batch,
    Driver,
    Event,
    Finding,
    Gpu,
    Result,
    Sample,
    SeriesKey,
    Subject,
)

USED = SeriesKey("gpu_memory_used_bytes", gpu="GPU-1")
XID = Event("gpu.xid", 1_000.0, "a", code=79, gpu="GPU-1", text="fallen off the bus")


def always(window):
    yield Finding("gpu.ecc.uncorrected", Subject(gpu="GPU-1"), "there")


def broken(window):
    yield Finding("gpu.xid", Subject(gpu="GPU-1"), "there", code=79)
    raise ZeroDivisionError


def of_another_kind(window):
    yield Finding("gpu.memory.saturation", Subject(gpu="GPU-1"), "there")


def of_xid(detect):
    return Detector(KINDS["gpu.xid"], detect)


ALWAYS = Detector(KINDS["gpu.ecc.uncorrected"], always)


async def test_a_tick_swaps_the_snapshot(make_judge, clock):
    """The old one stays as it was: who reads it needs no lock."""
    judge = make_judge()
    before = judge.snapshot
    judge.take("nvml", Batch(samples=(Sample(USED, 1_000.0, 5.0),), driver=Driver(up=True)))
    judge.tick()

    assert before.samples == {}
    assert judge.snapshot.samples == {USED: Sample(USED, 1_000.0, 5.0)}
    assert judge.snapshot.driver.up
    assert judge.snapshot.at_s + judge.snapshot.wall_offset_s == 1_800_000_000.0


async def test_a_raise_and_a_clear_wake_the_reporter(make_judge, clock):
    judge = make_judge()
    judge.take("kmsg", Batch(events=(XID,)))
    judge.tick()
    raised = judge.changed.is_set()
    judge.changed.clear()
    judge.tick()
    again = judge.changed.is_set()
    for after_s in (3_601.0, 15.0):
        await clock.advance(after_s)
        judge.tick()

    assert (raised, again, judge.changed.is_set()) == (True, False, True)
    assert judge.snapshot.open_findings == ()


async def test_what_ended_before_its_report_was_acknowledged_is_forgotten(make_judge, clock):
    """Nothing would ever forget it, and a node of many troubles would remember more and more."""
    is_bad = True

    def detect(window):
        if is_bad:
            yield Finding("gpu.xid", Subject(gpu="GPU-1"), "there", code=79)

    judge = make_judge(detectors=(of_xid(detect),))
    judge.heard = Heard()
    judge.tick()
    (reported,) = judge.snapshot.open_findings
    is_bad = False
    for after_s in (1.0, 3_600.0):
        await clock.advance(after_s)
        judge.tick()
    judge.was_heard([reported.finding_id])

    assert judge.snapshot.open_findings == ()
    assert reported.finding_id not in judge.heard


@pytest.mark.parametrize("detect", [broken, of_another_kind])
async def test_a_detector_that_breaks_silences_nobody(make_judge, components, detect):
    """It is unhealthy, its own findings stay as they were, the others are judged."""
    judge = make_judge(detectors=(of_xid(detect), ALWAYS))
    with capture_logs() as logs:
        judge.tick()
        judge.tick()

    name = "detector.gpu.xid"
    health = {part.component: part.result for part in judge.snapshot.components}
    assert health == {name: Result.FAIL, "detector.gpu.ecc.uncorrected": Result.OK}
    assert len(judge.snapshot.open_findings) == 1
    failed = [log for log in logs if log["event"] == "component.failed"]
    assert [log["component"] for log in failed] == [name], "said once, not every second"


async def test_findings_outlive_the_failure_of_their_detector(make_judge, clock):
    calls = iter([None, ZeroDivisionError, ZeroDivisionError])

    def fails_later(window):
        if error := next(calls):
            raise error
        yield Finding("gpu.xid", Subject(gpu="GPU-1"), "there", code=79)

    judge = make_judge(detectors=(of_xid(fails_later),))
    for _ in range(3):
        judge.tick()
        await clock.advance(100.0)

    assert len(judge.snapshot.open_findings) == 1


async def test_what_happened_once_is_queued_once(make_judge):
    """The same record, read again after a restart of the reader, is no second event."""
    judge = make_judge()
    judge.take("nvml", Batch(gpus=(Gpu("GPU-1", 0, "H100", "1B", serial="165"),)))
    judge.take("kmsg", Batch(events=(XID,)))
    judge.take("kmsg", Batch(events=(XID,)))

    event, opened = judge.events.get_nowait()
    assert judge.events.empty()
    assert event.identity == "a"
    assert opened.finding.summary == "XID 79: GPU has fallen off the bus."
    assert opened.finding.subject.gpu_serial == "165"
    assert opened.finding.evidence[0].text == "fallen off the bus"


async def test_an_out_of_memory_error_travels_with_its_figures(make_judge):
    """Values keep the base unit that their name ends in."""
    judge = make_judge()
    values = {"requested_bytes": 2.0**31, "free_ratio": 0.5, "attempts": 2.0}
    event = Event("process.memory.oom", 1_000.0, "u-1", gpu="GPU-1", process="vllm", values=values)
    judge.take("tap", Batch(events=(event,)))

    _, opened = judge.events.get_nowait()
    assert [(fact.name, fact.value, fact.unit) for fact in opened.finding.evidence] == [
        ("requested_bytes", 2.0**31, "bytes"),
        ("free_ratio", 0.5, "ratio"),
        ("attempts", 2.0, "1"),
        ("out_of_memory_cause", 0.0, ""),
        ("remedy_more_memory_bytes", 2.0**31, "bytes"),
    ]
    assert opened.finding.summary
    assert opened.finding.subject.process == "vllm"


async def test_a_storm_of_events_is_bounded_and_counted(make_judge):
    judge = make_judge()
    judge.take(
        "kmsg",
        Batch(events=tuple(Event("gpu.xid", 1_000.0, str(n), code=45) for n in range(1_005))),
    )

    assert (judge.events.qsize(), judge.events_dropped) == (1_000, 5)


async def test_the_loop_feeds_the_watchdog_whatever_the_driver_does(make_judge, clock, notifier):
    """One tick a second, one word to the supervisor a tick."""
    judge = make_judge()
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(judge.run())
        await clock.advance(5.0)
        loop.cancel()

    assert judge.ticks == 6
    assert notifier.told == ["watchdog"] * 6


class SlowClock:
    """A clock by which every look at it takes longer than a slice of a judgement."""

    def __init__(self):
        self.now_s = 1_000.0

    def wall_s(self):
        return 1_800_000_000.0

    def mono_s(self):
        self.now_s += 2 * SLICE_S
        return self.now_s

    async def sleep_until(self, mono_s):
        await asyncio.Event().wait()


async def turns(count):
    """Let everything else have ``count`` turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


def seen_by(looks):
    """Return a detector that notes what it sees of the GPU's memory."""

    def look(window):
        sample = window.latest(USED)
        looks.append(None if sample is None else sample.value)
        return iter(())

    return Detector(KINDS["gpu.xid"], look)


async def test_others_have_a_turn_between_detectors(make_judge):
    """All detectors judge the same second; what is brought meanwhile is there for the next."""
    looks = []
    judge = make_judge(clock=SlowClock(), detectors=[seen_by(looks) for _ in range(3)])
    judge.take("nvml", Batch(samples=(Sample(USED, 1_000.0, 5.0),)))
    running = asyncio.create_task(judge.run())
    before = judge.snapshot
    await turns(2)
    assert looks == [5.0, 5.0]
    judge.take("nvml", Batch(samples=(Sample(USED, 1_001.0, 6.0),), events=(XID,)))
    meanwhile = (judge.snapshot, judge.events.qsize())
    await turns(10)
    running.cancel()

    assert meanwhile == (before, 0)
    assert judge.snapshot.samples == {USED: Sample(USED, 1_000.0, 5.0)}
    assert judge.events.qsize() == 1
    judge.tick()
    assert looks == [5.0] * 3 + [6.0] * 3


async def test_a_judgement_at_once_finishes_the_one_that_pauses(make_judge):
    """None is left half done, and none is done twice."""
    looks = []
    judge = make_judge(clock=SlowClock(), detectors=[seen_by(looks) for _ in range(3)])
    judge.take("nvml", Batch(samples=(Sample(USED, 1_000.0, 5.0),)))
    running = asyncio.create_task(judge.run())
    await turns(1)
    assert len(looks) == 1
    judge.take("nvml", Batch(samples=(Sample(USED, 1_001.0, 6.0),)))

    judge.tick()

    assert looks == [5.0] * 3 + [6.0] * 3
    assert judge.snapshot.samples == {USED: Sample(USED, 1_001.0, 6.0)}
    await turns(10)
    running.cancel()
    assert (judge.ticks, len(looks)) == (2, 6)


async def test_what_another_detector_asked_is_not_found_out_again(make_judge):
    """The search for causes asks detectors, before or after their own turn."""
    looks = []
    asked = seen_by(looks)

    def ask(window):
        findings(window, asked.detect)
        return iter(())

    judge = make_judge(detectors=[Detector(KINDS["service.latency.cause"], ask), asked])

    judge.tick()
    assert len(looks) == 1
    judge.tick(of_all=True)

    assert len(looks) == 2


async def test_a_bad_batch_that_had_to_wait_is_its_samplers_failure(make_judge, components):
    """As it is at any other time; the judge goes on."""
    looks = []
    judge = make_judge(clock=SlowClock(), detectors=[seen_by(looks) for _ in range(3)])
    running = asyncio.create_task(judge.run())
    await turns(1)
    assert len(looks) == 1
    judge.take("nvml", Batch(samples=(Sample(SeriesKey("gpu_memroy"), 1.0, 1.0),)))
    judge.take("tap", Batch(samples=(Sample(USED, 1_001.0, 6.0),)))

    judge.tick()
    running.cancel()

    assert components.failures == {"sampler.nvml": 1}
    assert looks[-1] == 6.0


async def test_patient_kinds_are_looked_for_every_five_seconds(make_judge, clock):
    """What must last anyway, or is only stored, is not looked for at each tick; all else is."""
    patient = (
        "gpu.wedged",  # a ticket after 30 s
        "process.memory.neighbour_pressure",  # a ticket after 15 s
        "gpu.missing",  # a page after 30 s
        "process.memory.headroom_low",  # stored after 3 s
    )
    others = (
        "gpu.lost",  # a page after 15 s
        "gpu.memory.saturation",  # a ticket after 5 s
        "gpu.memory.remap_failed",  # a page at once
        "gpu.xid",  # a ticket at once, which may page
    )
    looked = dict.fromkeys((*patient, *others), 0)

    def looking(name):
        def detect(window):
            looked[name] += 1
            yield from ()

        return Detector(KINDS[name], detect)

    judge = make_judge(detectors=tuple(map(looking, looked)))
    for _ in range(11):
        judge.tick()
        await clock.advance(1.0)

    assert dict.fromkeys(patient, 3) | dict.fromkeys(others, 11) == looked


async def test_a_late_tick_looks_for_patient_kinds_at_once(make_judge, clock):
    """A judge that was held up does not make them wait for the fifth tick from now."""
    looks = []

    def detect(window):
        looks.append(window.now_s)
        yield from ()

    judge = make_judge(detectors=(Detector(KINDS["gpu.wedged"], detect),))
    began_s = clock.mono_s()
    for after_s in (1.0, 1.0, 7.0, 1.0):
        judge.tick()
        await clock.advance(after_s)
    judge.tick()

    assert [began_s, began_s + 9.0] == looks


async def test_a_patient_kind_lives_as_long_as_it_says(make_judge, clock):
    """It is raised after the half minute, stays while it is not looked for, and is cleared."""
    there_until_s = clock.mono_s() + 60.0

    def detect(window):
        if window.now_s < there_until_s:
            yield Finding("gpu.wedged", Subject(gpu="GPU-1"), "busy, and does nothing")

    judge = make_judge(detectors=(Detector(KINDS["gpu.wedged"], detect),))
    was_open = []
    for second in range(100):
        judge.tick()
        if judge.snapshot.open_findings:
            was_open.append(second)
        await clock.advance(1.0)

    assert [*range(30, 90)] == was_open
