"""Following a kernel log: nothing missed, nothing twice, nothing that stops the rest."""

from __future__ import annotations

import os
from collections import deque

import pytest
from structlog.testing import capture_logs

from gpuward.agent.kmsg_memory import KmsgMemory
from gpuward.agent.model import Gpu, Result
from gpuward.agent.nvml_view import ReportedXid
from gpuward.agent.samplers.kmsg import KmsgSampler

GPUS = (Gpu("GPU-aaaa", 0, "H100", "00000000:10:00.0"),)
FELL = (
    "NVRM: Xid (PCI:0000:10:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
)
NOISE = "usb 1-1: new device"


def record(seq, text, *, prio=3, at_s=900.0):
    return f"{prio},{seq},{int(at_s * 1e6)},-;{text}\n"


def xid(code, *, gpu="10:00", pid=77):
    return f"NVRM: Xid (PCI:0000:{gpu}): {code}, pid={pid}, name=python3, Ch 00000008"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "kmsg"
    path.touch()
    return path


@pytest.fixture
def make(path, clock):
    """Make a sampler of the log at ``path``, by default without a memory."""

    def sampler(**changes):
        known = {"boot_id": "boot-1", "clock": clock, "gpus": lambda: GPUS, **changes}
        return KmsgSampler(path, **known)

    return sampler


@pytest.fixture
def kmsg(make):
    return make()


def append(path, text):
    with path.open("a") as file:
        file.write(text)


async def events_of(kmsg, now_s=1_000.0):
    """Return the events of one turn, and of those that follow at once because there is more."""
    found = list((await kmsg.sample(now_s)).events)
    while kmsg.period_s < 1.0:
        found += (await kmsg.sample(now_s)).events
    return found


async def identities(kmsg, now_s=1_000.0):
    return [event.identity for event in await events_of(kmsg, now_s)]


async def figure(kmsg, signal, now_s=1_000.0):
    samples = (await kmsg.sample(now_s)).samples
    return next(sample.value for sample in samples if sample.key.signal == signal)


async def test_event(kmsg, path):
    """An XID is an event with the GPU's UUID, at the time that the kernel says."""
    append(path, record(7, FELL))

    async with kmsg:
        (event,) = await events_of(kmsg)

    assert (event.kind, event.code, event.gpu, event.pid) == ("gpu.xid", 79, "GPU-aaaa", 0)
    assert event.identity == "kmsg:boot-1:7"
    assert event.at_s == 900.0
    assert event.text == "GPU has fallen off the bus."


async def test_follows(kmsg, path):
    """Each record is an event once; other lines are none; what is added is found."""
    append(path, record(1, NOISE) + record(2, FELL))
    async with kmsg:
        first = await identities(kmsg)
        again = await identities(kmsg)
        append(path, record(3, "NVRM: something else") + record(4, FELL))
        added = await identities(kmsg)

    assert (first, again, added) == (["kmsg:boot-1:2"], [], ["kmsg:boot-1:4"])


async def test_unfinished_line_waits(kmsg, path):
    """Half a record is not parsed; the other half completes it."""
    line = record(5, FELL)
    async with kmsg:
        append(path, line[:40])
        half = await identities(kmsg)
        append(path, line[40:])
        whole = await identities(kmsg)

    assert (half, whole) == ([], ["kmsg:boot-1:5"])


async def test_restart_gives_the_same_identities(make, path):
    """A new agent on the same boot reads the same events again, under the same names."""
    append(path, record(1, FELL) + record(2, FELL))
    async with make() as kmsg:
        before = await identities(kmsg)
    async with make() as restarted:
        after = await identities(restarted)

    assert before == after == ["kmsg:boot-1:1", "kmsg:boot-1:2"]


@pytest.mark.parametrize("replace", [os.unlink, lambda path: os.truncate(path, 0)])
async def test_replaced_file(kmsg, path, replace):
    """A log that begins anew is read from its beginning."""
    append(path, record(900, FELL) + record(901, FELL))
    async with kmsg:
        await identities(kmsg)
        replace(path)
        append(path, record(3, FELL))
        found = await identities(kmsg)

    assert found == ["kmsg:boot-1:3"]


async def test_user_space_cannot_forge(kmsg, path):
    """Only the kernel's own facility counts: a program may write the same words."""
    append(path, record(1, FELL, prio=11))

    async with kmsg:
        assert await identities(kmsg) == []


async def test_a_flood_loses_no_xid(kmsg, path):
    """A hundred thousand lines, and one XID in their middle."""
    lines = [record(seq, f"{NOISE} {seq}", prio=6) for seq in range(100_000)]
    lines[50_000] = record(50_000, FELL)
    append(path, "".join(lines))

    async with kmsg:
        found = await identities(kmsg)
        dropped = await figure(kmsg, "node_kmsg_lines_dropped_total")

    assert found == ["kmsg:boot-1:50000"]
    assert dropped == 0.0


async def test_a_storm_is_collapsed_and_hides_nothing(kmsg, path):
    """Five thousand lines of one code are ten events and a number; the other code is told."""
    storm = [record(seq, xid(31)) for seq in range(5_000)]
    storm[2_500] = record(2_500, FELL)
    append(path, "".join(storm))

    async with kmsg:
        found = await events_of(kmsg)

    assert [event.code for event in found].count(79) == 1
    told = [event.values.get("xid_events", 1.0) for event in found if event.code == 31]
    assert told == [1.0] * 10 + [4_989.0]


async def test_more_kinds_of_trouble_than_can_be_told_at_once(kmsg, path):
    """A turn brings 200 events at most, and the next the rest; beyond 2,000 more it is a number."""
    append(path, "".join(record(seq, xid(seq)) for seq in range(2_203)))

    async with kmsg:
        turns = [await events_of(kmsg, 1_000.0 + turn) for turn in range(12)]
        dropped = await figure(kmsg, "node_kmsg_lines_dropped_total")

    assert [len(events) for events in turns] == [200] * 11 + [0]
    assert [event.code for events in turns for event in events] == list(range(2_200))
    assert dropped == 3.0


async def test_unknown_gpu_keeps_its_address(kmsg, path):
    """A GPU that NVML never showed is named by its place."""
    append(path, record(1, FELL.replace("10:00", "99:00")))

    async with kmsg:
        (event,) = await events_of(kmsg)

    assert event.gpu == ""
    assert event.text.startswith("PCI:0000:99:00: ")


async def test_waits_for_names(make, path):
    """XIDs read before the GPUs are known wait for them, but not for ever."""
    append(path, record(1, FELL))
    known = []
    async with make(gpus=lambda: known) as kmsg:
        early = await events_of(kmsg, 1_000.0)
        known.extend(GPUS)
        named = await events_of(kmsg, 1_001.0)
        known.clear()
        append(path, record(2, FELL))
        late = await events_of(kmsg, 1_010.0)

    assert early == []
    assert [event.gpu for event in named] == ["GPU-aaaa"]
    assert [event.gpu for event in late] == [""]


async def test_time_is_never_ahead(kmsg, path):
    """The kernel's clock may run a little ahead of ours; an event is not in the future."""
    append(path, record(1, FELL, at_s=1_000.5))

    async with kmsg:
        (event,) = await events_of(kmsg)

    assert event.at_s == 1_000.0


async def test_missing_log(path, kmsg):
    """A log that cannot be read is said once, and read when it appears."""
    path.unlink()
    with capture_logs() as logs:
        async with kmsg:
            await kmsg.sample(1_000.0)
            readable = await figure(kmsg, "node_kmsg_readable", 1_001.0)
            missing = kmsg.health
            append(path, record(1, FELL))
            found = await identities(kmsg)
            healthy = kmsg.health

    assert [entry["event"] for entry in logs] == ["kmsg.unreadable"]
    assert readable == 0.0
    assert missing.result is Result.UNKNOWN
    assert missing.reason == f"{path}: No such file or directory"
    assert found == ["kmsg:boot-1:1"]
    assert healthy.result is Result.OK


GPU_EVENT = ReportedXid("GPU-aaaa", 79, 900.5, 900.5)


@pytest.mark.parametrize(
    ("line", "now_s", "sources"),
    [
        pytest.param(record(1, FELL, at_s=900.0), 902.0, ["kmsg"], id="its line: one event"),
        pytest.param(record(1, FELL, at_s=898.5), 904.0, ["kmsg"], id="a line 2 s before"),
        pytest.param(
            record(1, FELL, at_s=898.4), 904.0, ["kmsg", "nvml"], id="a line longer before"
        ),
        pytest.param(record(1, xid(31)), 904.0, ["kmsg", "nvml"], id="another code"),
        pytest.param("", 903.4, [], id="its line may still come"),
        pytest.param("", 903.5, ["nvml"], id="no line came"),
    ],
)
async def test_what_nvml_reports_too(make, path, line, now_s, sources):
    """One GPU, one code, within two seconds: one XID, in the words of the log."""
    append(path, line)

    async with make(reported=deque([GPU_EVENT])) as kmsg:
        found = await identities(kmsg, now_s)

    assert [identity.partition(":")[0] for identity in found] == sources


@pytest.mark.parametrize(
    ("line_s", "sources"),
    [(868.0, ["kmsg"]), (867.9, ["kmsg", "nvml"]), (902.5, ["kmsg"]), (902.6, ["kmsg", "nvml"])],
)
async def test_what_nvml_reports_late(make, path, line_s, sources):
    """Between two looks, half a minute apart, the XID may have been at any time."""
    append(path, record(1, FELL, at_s=line_s))
    late = ReportedXid("GPU-aaaa", 79, 900.5, 870.0)

    async with make(reported=deque([late])) as kmsg:
        found = await identities(kmsg, 910.0)

    assert [identity.partition(":")[0] for identity in found] == sources


async def test_what_nvml_reports_while_the_log_cannot_be_read(make, path):
    """It is told at once; the log's line, when it can be read at last, is no second event."""
    path.unlink()
    async with make(reported=deque([GPU_EVENT])) as kmsg:
        blind = await events_of(kmsg, 901.0)
        append(path, record(1, FELL, at_s=900.0) + record(2, xid(31)))
        seeing = await events_of(kmsg, 902.0)

    assert [(event.code, event.gpu, event.at_s) for event in blind] == [(79, "GPU-aaaa", 900.5)]
    assert [event.code for event in seeing] == [31]


async def test_a_gpu_off_the_bus_in_other_words(kmsg, path):
    """Its XID 79 says the same; without one the words stand for it."""
    words = "NVRM: GPU 0000:10:00.0: GPU has fallen off the bus."
    append(path, record(1, FELL, at_s=900.0) + record(2, words, at_s=900.1))
    async with kmsg:
        both = await events_of(kmsg, 910.0)
        append(path, record(3, words, at_s=950.0))
        alone = await events_of(kmsg, 960.0)

    assert [event.identity for event in both] == ["kmsg:boot-1:1"]
    assert [(e.code, e.gpu, e.identity) for e in alone] == [(79, "GPU-aaaa", "kmsg:boot-1:3")]


async def test_totals(kmsg, path, clock):
    """Every line counts, those of a storm too; the last one's time is wall time."""
    append(path, "".join(record(seq, xid(45), at_s=900.0 + seq) for seq in range(30)))

    async with kmsg:
        await events_of(kmsg)
    count, last = kmsg.totals.collect()

    assert [(sample.labels, sample.value) for sample in count.samples] == [
        ({"gpu": "GPU-aaaa", "xid": "45"}, 30.0)
    ]
    offset_s = clock.wall_s() - clock.mono_s()
    assert [sample.value for sample in last.samples] == [929.0 + offset_s]


@pytest.fixture
def remembering(make, tmp_path, written):
    """Build a sampler that remembers what the one before has written."""

    def build(boot_id="boot-1", **changes):
        written()
        kmsg = make(boot_id=boot_id, **changes)
        kmsg.remember_in(KmsgMemory(tmp_path, boot_id))
        return kmsg

    return build


async def test_nothing_counts_twice_over_a_restart(remembering, path):
    """The third of a day is the third, also when the agent has read the first two again."""
    append(path, record(1, xid(94)) + record(2, xid(94), at_s=901.0))
    async with remembering() as kmsg:
        await events_of(kmsg)
    async with remembering() as restarted:
        again = await events_of(restarted)
        append(path, record(3, xid(94), at_s=902.0))
        third = await events_of(restarted)

    assert len(again) == 2
    assert [event.values["xid_in_a_day"] for event in third] == [3.0]


@pytest.mark.parametrize(
    ("log", "codes"),
    [
        pytest.param(record(1, FELL, at_s=900.0), [79], id="the log can be read now"),
        pytest.param(None, [79], id="it still cannot"),
        pytest.param(record(1, NOISE), [79], id="its line is overwritten"),
        pytest.param(record(1, FELL) + record(2, xid(31)), [79, 31], id="others have their own"),
    ],
)
async def test_what_nvml_reported_before_a_restart_has_one_name(remembering, path, log, codes):
    """The spool keeps it once, and the finding stays open; the ledger counts it once."""
    path.unlink()
    async with remembering(reported=deque([GPU_EVENT])) as kmsg:
        (before,) = await events_of(kmsg, 901.0)
    if log is not None:
        path.write_text(log)
    async with remembering() as restarted:
        after = await events_of(restarted, 910.0)
        later = await events_of(restarted, 920.0)

    assert [event.code for event in after] == codes
    assert next(event for event in after if event.code == 79).identity == before.identity
    assert [event.values["xid_in_a_day"] for event in after if event.code == 79] == [1.0]
    assert later == []


async def test_what_nvml_reported_in_another_boot_is_over(remembering, path):
    path.unlink()
    async with remembering(reported=deque([GPU_EVENT])) as kmsg:
        await events_of(kmsg, 901.0)
    async with remembering("boot-2") as rebooted:
        assert await events_of(rebooted, 910.0) == []


async def test_boots_are_counted(remembering, path):
    """The same error in the third boot is known to be that of two boots before."""
    seen = []
    for boot in ("boot-1", "boot-2", "boot-3"):
        path.write_text(record(5, FELL))
        async with remembering(boot) as kmsg:
            seen += [event.values["xid_earlier_boots"] for event in await events_of(kmsg)]

    assert seen == [0.0, 1.0, 2.0]


async def test_device_that_overwrote_records(monkeypatch, kmsg, path):
    """EPIPE says that records are lost: numbers say how many, and reading goes on."""
    answers = [record(3, NOISE), BrokenPipeError(), record(9, FELL)]
    path.unlink()
    os.mkfifo(path)
    async with kmsg:
        monkeypatch.setattr(os, "read", reader(answers))
        found = await identities(kmsg)
        monkeypatch.undo()

    assert found == ["kmsg:boot-1:9"]
    assert kmsg.dropped_total == 5


async def test_device_overwritten_while_nobody_read(monkeypatch, remembering, path):
    """What was lost while the agent was away counts too; it is known up to where it had read."""
    append(path, record(7, FELL))
    async with remembering() as kmsg:
        await events_of(kmsg)
        await kmsg.sample(1_001.0)
    path.unlink()
    os.mkfifo(path)
    async with remembering() as restarted:
        monkeypatch.setattr(os, "read", reader([record(12, FELL)]))
        found = await identities(restarted)
        monkeypatch.undo()

    assert found == ["kmsg:boot-1:12"]
    assert restarted.dropped_total == 4


async def test_record_longer_than_the_buffer(monkeypatch, kmsg, path):
    """EINVAL: a longer buffer is tried; a record that fits none is passed over and counted."""
    answers = [record(1, FELL + "x" * 9_000), record(2, "x" * 70_000), record(3, xid(31))]
    path.unlink()
    os.mkfifo(path)
    async with kmsg:
        monkeypatch.setattr(os, "read", reader(answers))
        monkeypatch.setattr(os, "lseek", lambda *_: answers.pop(0))
        found = await identities(kmsg)
        monkeypatch.undo()

    assert found == ["kmsg:boot-1:1", "kmsg:boot-1:3"]
    # The record itself, and the gap that it leaves in the numbers.
    assert kmsg.dropped_total == 1


def reader(answers):
    """Return what reads a device: each answer once, and then nothing is there."""

    def read(fd, size):
        if not answers:
            raise BlockingIOError
        if isinstance(answers[0], Exception):
            raise answers.pop(0)
        if len(answers[0]) > size:
            raise OSError(22, "Invalid argument")
        return answers.pop(0).encode()

    return read
