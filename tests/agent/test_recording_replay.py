"""What an agent found while it was recorded, its recording finds again: the same, at the same time.

The live run is the real judge with a derived sampler on the fake clock; the node has an outage, an
XID, a power brake and a fresh process, and is recorded by the judge's own recorder.
"""

from __future__ import annotations

import asyncio
import io
import json
import random

import pytest
from click.testing import CliRunner

from gpuward.agent.model import Batch, Driver, Event, Gpu, Process, Sample, SeriesKey
from gpuward.agent.recording_file import RecordingFile, RecordingReader, RecordingWriter
from gpuward.agent.recording_listeners import (
    Recorders,
    TooManyRecordersError,
    TooSlowError,
)
from gpuward.agent.recording_replay import Replay
from gpuward.agent.samplers.saturation import SaturationSampler
from gpuward.cli.main import main

CARDS = tuple(Gpu(f"GPU-{n}", n, "NVIDIA H100 80GB HBM3", f"0000000{n}:1B:00.0") for n in range(2))
SECONDS = 400


class Node:
    """Two cards and a service that fails from second 100 to 200."""

    def __init__(self, began_s):
        self.began_s = began_s
        self.chance = random.Random(5)
        self.requests = self.failed = 0.0

    def batches(self, now_s):
        second = now_s - self.began_s
        self.requests += 10
        self.failed += 10 if 100 <= second < 200 else 0
        samples = [
            Sample(SeriesKey(signal, gpu=card.uuid), now_s, value)
            for card in CARDS
            for signal, value in (
                ("gpu_power_draw_watts", self.chance.uniform(300, 700)),
                ("gpu_clock_event_reasons", 0x80 if card.index and second > 250 else 0),
                ("gpu_sm_active_ratio", self.chance.uniform(0.1, 0.2)),
                ("gpu_dram_active_ratio", 0.9),
                ("gpu_utilization_ratio", 1.0),
            )
        ]
        process = Process("vllm@chat.service", 42, 7, (CARDS[0].uuid,), service="chat")
        events = ()
        if second == 150:
            events = (Event("gpu.xid", now_s, "boot 17", 79, CARDS[1].uuid),)
        yield (
            "nvml",
            Batch(
                samples=tuple(samples),
                events=events,
                gpus=CARDS,
                processes=(process,) if second > 20 else (),
                driver=Driver(up=True, version="580.95.05"),
            ),
        )
        counters = (
            ("service_requests_total", self.requests),
            ("service_requests_failed_total", self.failed),
            ("service_requests_waiting", 20.0 if second > 300 else 0.0),
            ("service_requests_running", 64.0),
        )
        yield (
            "engine",
            Batch(
                samples=tuple(
                    Sample(SeriesKey(signal, service="chat"), now_s, value)
                    for signal, value in counters
                )
            ),
        )


class Live:
    """The node under a judge, recorded from second ``after_s`` on."""

    def __init__(self, judge, clock, after_s, *, with_names):
        self.judge, self.clock, self.after_s = judge, clock, after_s
        self.node = Node(clock.mono_s())
        self.derived = SaturationSampler(judge.readings.window)
        self.with_names = with_names
        self.told = []
        self.file = io.BytesIO()
        self.recording = RecordingFile(self.file)

    async def run(self):
        for second in range(SECONDS):
            await self.clock.advance(1.0)
            if second == self.after_s:
                chunks = self.begin()
                self.recording.write(await anext(chunks))
            await self.judged(second)
            if second == self.after_s:
                await self.write_before(chunks)
            elif second > self.after_s:
                self.recording.write(await anext(chunks))
        async for chunk in chunks:
            self.recording.write(chunk)
        return self.told, self.file.getvalue()

    def begin(self):
        return self.judge.recorders.record(
            self.judge.readings.window(self.clock.mono_s()),
            node="n1",
            wall_s=self.clock.wall_s(),
            for_s=SECONDS - 1.0 - self.after_s,
            with_names=self.with_names,
        )

    async def write_before(self, chunks):
        """Write the points of before, and the first judgement."""
        chunk = b""
        while b"judged" not in chunk:
            chunk = await anext(chunks)
            self.recording.write(chunk)

    async def judged(self, second):
        for source, batch in self.node.batches(self.clock.mono_s()):
            self.judge.take(source, batch)
        if second % 5 == 0:
            batch = await self.derived.sample(self.clock.mono_s())
            self.judge.take(self.derived.name, batch)
        before = self.open()
        self.judge.tick()
        after = self.open()
        while not self.judge.events.empty():
            self.note("happened", self.judge.events.get_nowait()[1].finding)
        for name in before.keys() - after.keys():
            self.note("cleared", before[name])
        for name in after.keys() - before.keys():
            self.note("raised", after[name])

    def open(self):
        return {it.finding_id: it.finding for it in self.judge.snapshot.open_findings}

    def note(self, turn, finding):
        self.told.append((self.clock.wall_s(), turn, finding))


@pytest.fixture
async def live(make_judge, clock):
    """Run the node and record it; returns what was found live, and the file."""

    async def run(*, after_s=0, with_names=True):
        return await Live(make_judge(), clock, after_s, with_names=with_names).run()

    return run


async def replayed(data, anew=None):
    reader = RecordingReader(io.BytesIO(data))
    replay = Replay(reader, anew)
    told = [told async for told in replay.run()]
    assert reader.damage == ""
    assert replay.components.failures.total() == 0
    return told


def lines(told):
    return [
        (wall_s, turn, finding.kind, finding.subject, finding.summary)
        for wall_s, turn, finding in told
    ]


async def test_a_replay_finds_what_was_found_live(live):
    told, data = await live()
    again = [(it.wall_s, it.turn.value, it.opened.finding) for it in await replayed(data)]
    again = [line for line in again if line[1] != "changed"]

    kinds = {(turn, finding.kind) for _, turn, finding in told}
    assert {("raised", "service.outage"), ("cleared", "service.outage")} <= kinds
    assert {
        ("happened", "gpu.xid"),
        ("raised", "gpu.power.brake"),
        ("raised", "gpu.saturated"),
    } <= kinds
    assert lines(told) == lines(again)


async def test_without_names_it_is_the_same_but_for_the_names(live):
    told, data = await live(with_names=False)
    again = [it for it in await replayed(data) if it.turn.value != "changed"]

    assert [(wall_s, turn, finding.kind) for wall_s, turn, finding in told] == [
        (it.wall_s, it.turn.value, it.opened.finding.kind) for it in again
    ]
    assert b"chat" not in json.dumps([it.opened.finding.summary for it in again]).encode()


async def test_one_that_begins_late_has_the_five_minutes_before(live):
    """The XID of a minute ago is told; what is raised later is raised when it was."""
    told, data = await live(after_s=220)
    again = await replayed(data)
    raised = [(it.wall_s, it.opened.finding.kind) for it in again if it.turn.value == "raised"]

    assert "happened gpu.xid" in {f"{it.turn.value} {it.opened.finding.kind}" for it in again}
    assert [(at, kind) for at, turn, kind, *_ in lines(told) if turn == "raised"][-2:] == raised[
        -2:
    ]
    assert {"gpu.power.brake", "gpu.saturated"} == {kind for _, kind in raised[-2:]}


async def test_what_is_derived_can_be_derived_anew(live, tmp_path):
    """The recorded judgement of saturation is thrown away, and found again."""
    told, data = await live()
    again = await replayed(data, tmp_path)
    raised = {it.opened.finding.kind for it in again if it.turn.value == "raised"}

    assert {finding.kind for _, turn, finding in told if turn == "raised"} == raised


async def test_two_replays_say_the_same(live, tmp_path):
    """To the last byte, in text and in JSON."""
    _, data = await live()
    path = tmp_path / "node.rec"
    path.write_bytes(data)

    def output(*options):
        # Its own loop must not be this one.
        done = CliRunner().invoke(main, ["agent", "replay", str(path), *options])
        return done.exit_code, done.output

    text = await asyncio.get_running_loop().run_in_executor(None, output)
    again = await asyncio.get_running_loop().run_in_executor(None, output)
    as_json = await asyncio.get_running_loop().run_in_executor(None, output, "--json")

    assert text == again
    assert text[0] == 0
    assert "2027-01-15T08:0" in text[1]
    assert "raised    page    service.outage  chat  chat is out" in text[1]
    assert text[1].splitlines()[-1].startswith("399 s, 400 judgements, ")
    first = json.loads(as_json[1].splitlines()[0])
    assert {"at", "turn", "class", "kind", "about", "summary", "evidence"} <= first.keys()


def command(*arguments):
    done = CliRunner().invoke(main, ["agent", "replay", *arguments])
    return done.exit_code, done.output


def test_a_file_that_was_cut_off_is_judged_and_said_to_be(tmp_path):
    file = io.BytesIO()
    with RecordingWriter(file, node="n", mono_s=0.0, wall_s=0.0) as writer:
        for second in range(1_000):
            writer.tick(float(second))
    path = tmp_path / "cut.rec"
    path.write_bytes(file.getvalue()[:-20])
    status, output = command(str(path))

    assert status == 1
    assert "judgements" in output
    assert output.splitlines()[-1].endswith("not all of it: it was cut off")


OVERRIDDEN = '[xid.overrides.79]\nresult = "warn"\nnote = "A riser of this rack."\n'


@pytest.mark.parametrize(
    ("config", "status", "words"),
    [
        pytest.param("", 0, "happened  page  ", id="the catalogue's"),
        pytest.param(OVERRIDDEN, 0, "happened  ticket  ", id="the site's"),
        pytest.param("[xid.overrides.x]\nnote = 'y'\n", 2, "not the number of an XID", id="none"),
    ],
)
def test_an_xid_means_what_the_configuration_says(tmp_path, config, status, words):
    path, toml = tmp_path / "xid.rec", tmp_path / "agent.toml"
    toml.write_text(config)
    event = Event("gpu.xid", 1.0, "boot 17", 79, CARDS[1].uuid)
    with path.open("wb") as file, RecordingWriter(file, node="n", mono_s=0.0, wall_s=0.0) as writer:
        writer.take(0.5, "nvml", Batch(gpus=CARDS, driver=Driver(up=True)))
        writer.take(1.0, "kmsg", Batch(events=(event,)))
        writer.tick(1.0)
    found = command(str(path), "--config", str(toml))

    assert found[0] == status
    assert words in found[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"x" * 99, "it is no recording of gpuward's", id="another file"),
        pytest.param(None, "No such file", id="no file"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(tmp_path, content, words):
    path = tmp_path / "x.rec"
    if content is not None:
        path.write_bytes(content)
    status, output = command(str(path))

    assert (status, output.count("\n")) == (1, 1)
    assert words in output


async def taken(recorders, window, count):
    chunks = [
        recorders.record(window, node="n", wall_s=0.0, for_s=9.0, with_names=True)
        for _ in range(count)
    ]
    for each in chunks:
        await anext(each)
    return chunks


async def test_two_may_record_at_once(make_judge, clock):
    judge = make_judge()
    window = judge.readings.window(clock.mono_s())
    first, second = await taken(judge.recorders, window, 2)
    with pytest.raises(TooManyRecordersError, match="2 record already"):
        await taken(judge.recorders, window, 1)
    await first.aclose()
    (third,) = await taken(judge.recorders, window, 1)
    await third.aclose()
    await second.aclose()


async def test_whoever_reads_too_slowly_is_let_go(make_judge, clock):
    """Rather than given a recording with a gap."""
    judge = make_judge()
    (chunks,) = await taken(judge.recorders, judge.readings.window(clock.mono_s()), 1)
    for _ in range(61):
        judge.tick()
    await anext(chunks)
    with pytest.raises(TooSlowError):
        await anext(chunks)


def test_nobody_records():
    """Then nothing is kept but what samplers said last beside samples."""
    recorders = Recorders()
    for second in range(2_000):
        event = Event("gpu.xid", float(second), str(second))
        recorders.taken(float(second), "nvml", Batch(events=(event,), gpus=CARDS))
        recorders.judged(float(second), second)

    assert len(recorders._events) == 1_000
    assert recorders._said == {"nvml": Batch(gpus=CARDS)}


def test_what_the_judge_has_forgotten_is_no_part_of_a_recording():
    """An event a minute for a day: as many are kept as the judge keeps, those of an hour."""
    recorders = Recorders()
    for minute in range(24 * 60):
        at_s = 60.0 * minute
        recorders.taken(at_s, "kmsg", Batch(events=(Event("gpu.xid", at_s, str(minute)),)))
        recorders.judged(at_s, minute)

    assert len(recorders._events) == 61
