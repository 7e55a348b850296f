"""XIDs: whose fault, which process, how bad, for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.detectors.xid import detect
from gpuward.agent.hysteresis import State, Verdict, fold
from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.model import Action, Driver, Event, Gpu, Process, Result, Sample, SeriesKey
from gpuward.agent.one_shot import one_shot
from gpuward.agent.window import Readings, Window
from gpuward.agent.xid_overrides import XidConfig, XidOverride

OK, WARN, FAIL = Result.OK, Result.WARN, Result.FAIL
H100 = Gpu("GPU-1", 0, "H100", "00000000:1B:00.0", serial="165")
VLLM = Process(key="vllm.service", pid=77, start_ticks=1, unit="vllm.service", model="llama")
SGLANG = Process(key="sglang.service", pid=78, start_ticks=1, unit="sglang.service")


def xid(code, at_s=10_000.0, *, gpu="GPU-1", pid=77, identity="", text="", **values):
    identity = identity or f"{code}-{at_s}-{gpu}-{pid}"
    text = text or "GPU has fallen off"
    return Event("gpu.xid", at_s, identity, code=code, gpu=gpu, pid=pid, text=text, values=values)


def window_of(*events, now_s=10_000.0, samples=()):
    return Window.of(samples, now_s=now_s, gpus=[H100], processes=[VLLM, SGLANG], events=events)


def seen(*events, now_s=10_000.0, samples=()):
    return list(detect(window_of(*events, now_s=now_s, samples=samples)))


def evidence(finding):
    return {fact.name: fact.text or fact.value for fact in finding.evidence}


@pytest.mark.parametrize(
    ("code", "result", "action", "process"),
    [
        pytest.param(79, FAIL, Action.DRAIN_NODE, "", id="fallen off the bus"),
        pytest.param(119, FAIL, Action.RESET_GPU, "", id="GSP timeout"),
        pytest.param(48, FAIL, Action.RESET_GPU, "", id="double-bit ECC"),
        pytest.param(95, FAIL, Action.RESET_GPU, "", id="uncontained memory error"),
        pytest.param(64, FAIL, Action.REPLACE_HARDWARE, "", id="remapping failed"),
        pytest.param(92, WARN, Action.REPLACE_HARDWARE, "", id="many corrected errors"),
        pytest.param(74, WARN, Action.DRAIN_NODE, "", id="NVLink"),
        pytest.param(
            94, WARN, Action.CHECK_APPLICATION, "vllm.service", id="contained: one victim"
        ),
        pytest.param(31, OK, Action.CHECK_APPLICATION, "vllm.service", id="a program's page fault"),
        pytest.param(13, OK, Action.CHECK_APPLICATION, "vllm.service", id="a program's exception"),
        pytest.param(43, OK, Action.NONE, "vllm.service", id="informational"),
        pytest.param(63, OK, Action.NONE, "vllm.service", id="a row remapped as designed"),
        pytest.param(999, WARN, Action.NONE, "", id="a newer driver than the catalogue"),
    ],
)
def test_whose_fault(code, result, action, process):
    """A program's error is blamed on the program; the GPU's on the GPU alone."""
    (finding,) = seen(xid(code))

    assert (finding.code, finding.result, finding.action) == (code, result, action)
    assert (finding.subject.gpu, finding.subject.process) == ("GPU-1", process)


@pytest.mark.parametrize(
    ("code", "age_s", "is_open"),
    [
        pytest.param(31, 600.0, True, id="a program's, after 10 min"),
        pytest.param(31, 600.1, False, id="a program's, then over"),
        pytest.param(79, 3_600.0, True, id="the GPU's, after an hour"),
        pytest.param(79, 3_600.1, False, id="the GPU's, then over"),
    ],
)
def test_how_long_it_stays(code, age_s, is_open):
    """The line is written once; the trouble lasts."""
    assert bool(seen(xid(code, 10_000.0 - age_s))) == is_open


LOST = Driver(up=True, lost=(LostGpu(0, 15, "GPU-1"),))
OTHER_LOST = Driver(up=True, lost=(LostGpu(1, 15, "GPU-2"),))


@pytest.mark.parametrize(
    ("code", "driver", "is_open"),
    [
        pytest.param(79, LOST, True, id="it is still off the bus"),
        pytest.param(79, Driver(up=True), False, id="it is back"),
        pytest.param(79, OTHER_LOST, False, id="another one is lost"),
        pytest.param(79, Driver(up=False), True, id="nobody can tell"),
        pytest.param(48, LOST, False, id="an XID that takes no GPU away"),
    ],
)
def test_a_gpu_that_an_xid_took_away_is_not_over_before_it_is_back(code, driver, is_open):
    """Two hours later the log has long gone from the window, and the GPU is gone too."""
    state = State("i")
    for now_s in (10_000.0, 10_001.0, 17_200.0, 17_230.0):
        events = [xid(code)] if now_s < 17_000 else []
        lost = driver if now_s > 10_001 else LOST
        window = Window.of(now_s=now_s, gpus=[H100], events=events, driver=lost)
        state, _ = fold(state, [Verdict("detector.gpu.xid", tuple(detect(window)))], now_s)

    assert [it.finding.code for it in state.open_findings] == [code] * is_open


def test_a_lost_gpu_alone_is_no_xid():
    window = Window.of(now_s=10_000.0, gpus=[H100], driver=LOST)
    state, changes = State("i"), ()
    for now_s in (10_000.0, 10_100.0):
        state, changes = fold(state, [Verdict("x", tuple(detect(window)))], now_s)

    assert (state.open_findings, changes) == ((), ())


@pytest.mark.parametrize(
    ("times", "result"),
    [pytest.param(2, OK, id="twice"), pytest.param(3, WARN, id="three times in an hour")],
)
def test_a_program_that_keeps_failing_is_worth_a_ticket(times, result):
    (finding,) = seen(*(xid(31, 9_900.0 + n) for n in range(times)))

    assert finding.result is result
    assert ("xid_events", float(times)) in {(e.name, e.value) for e in finding.evidence}


@pytest.mark.parametrize(
    ("at_s", "result"),
    [
        pytest.param((9_000.0, 9_000.2, 9_001.1, 9_900.0, 9_900.0), OK, id="two crashes"),
        pytest.param((9_000.0, 9_000.2, 9_500.0, 9_900.0), WARN, id="three crashes"),
        pytest.param((9_000.0, 9_001.0, 9_002.0), WARN, id="a second apart: three errors"),
        pytest.param((9_000.0, 9_000.9, 9_001.8), OK, id="less than a second apart: one error"),
    ],
)
def test_the_lines_of_one_crash_are_one_error(at_s, result):
    """An exception of a kernel is written once for each multiprocessor that met it."""
    (finding,) = seen(
        *(of_vllm(13, each, place) for place, each in enumerate(at_s)), now_s=max(at_s) + 1
    )

    assert finding.result is result
    assert ("xid_events", float(len(at_s))) in {(e.name, e.value) for e in finding.evidence}


def of_vllm(code, at_s, identity, **values):
    """An XID whose program was known when it came, a minute ago or more."""
    event = xid(code, at_s, identity=str(identity), **values)
    return replace(event, process="vllm.service")


@pytest.mark.parametrize(
    ("minutes", "result"),
    [pytest.param(2, OK, id="two minutes"), pytest.param(3, WARN, id="three")],
)
def test_a_storm_that_goes_on_is_more_than_one_error(minutes, result):
    """It is told once a minute, for all of its lines."""
    storm = [
        of_vllm(31, 9_000.0 + 60 * minute, minute, xid_events=200.0) for minute in range(minutes)
    ]

    assert result is seen(*storm, now_s=9_130.0)[0].result


@pytest.mark.parametrize(
    ("at_s", "is_the_gpus"),
    [
        pytest.param((9_990.0, 9_990.1, 9_990.2), False, id="one kernel's, of clients of MPS"),
        pytest.param((9_990.0, 9_991.0, 9_992.0), True, id="three errors"),
    ],
)
def test_programs_that_fail_together_are_one_error(at_s, is_the_gpus):
    """Under MPS the fault of one client ends all that share the GPU."""
    found = seen(*(xid(31, each, pid=77 + place % 2) for place, each in enumerate(at_s)))

    assert is_the_gpus == any("programs" in finding.summary for finding in found)


def test_each_gpu_code_and_program_is_a_finding_of_its_own():
    found = seen(
        xid(31, 9_990.0),
        xid(31, 9_991.0),
        xid(31, 9_992.0, gpu="GPU-2"),
        xid(13, 9_993.0),
        xid(31, 9_994.0, pid=1_234),
        xid(79, 9_995.0, pid=1_234),
    )

    assert {(f.code, f.subject.gpu, f.subject.process) for f in found} == {
        (31, "GPU-1", "vllm.service"),
        (31, "GPU-2", "vllm.service"),
        (13, "GPU-1", "vllm.service"),
        (31, "GPU-1", ""),
        (79, "GPU-1", ""),
    }
    assert len({f.dedup_key for f in found}) == 5


@pytest.mark.parametrize(
    ("earlier_s", "causes"),
    [
        pytest.param(9_940.0, ("gpu.xid|31|GPU-1|vllm.service|",), id="a minute before"),
        pytest.param(9_939.0, (), id="earlier"),
    ],
)
def test_a_clean_up_points_to_its_cause(earlier_s, causes):
    """45 follows another error within a minute; alone it stands for itself."""
    found = {f.code: f for f in seen(xid(31, earlier_s), xid(45, 10_000.0))}

    assert found[45].causes == causes
    assert not causes or found[31].dedup_key == causes[0]


def test_the_process_is_named_with_all_that_is_known():
    (finding,) = seen(xid(31))

    about = finding.subject
    assert (about.pid, about.unit, about.model) == (77, "vllm.service", "llama")
    assert about.gpu_serial == "165"
    assert finding.summary == "XID 31: MMU page fault."
    assert finding.since_s == 10_000.0


NVLINK = "NETIR_LINK_EVT  {}   XC0 i0 Link {:02} (0x004505c6 0x00000000 0x00000000 0x00000000)"
OLD_NVLINK = "NVLink: fatal error detected on link {}(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"


@pytest.mark.parametrize(
    ("events", "result"),
    [
        pytest.param([xid(149, text=NVLINK.format("Nonfatal", 3))], WARN, id="not fatal"),
        pytest.param([xid(149, text=NVLINK.format("Fatal", 3))], FAIL, id="fatal by its line"),
        pytest.param(
            [xid(149, 9_000.0, text=NVLINK.format("Fatal", 3)), xid(149, text="?")],
            FAIL,
            id="fatal before, unreadable since",
        ),
        pytest.param(
            [xid(149, 9_000.0, text=NVLINK.format("Nonfatal", n)) for n in (3, 4)],
            WARN,
            id="two links",
        ),
        pytest.param(
            [xid(149, 9_000.0 + n, text=NVLINK.format("Nonfatal", 3)) for n in (1, 2)],
            FAIL,
            id="twice on one link",
        ),
        pytest.param([xid(74, text=OLD_NVLINK.format(3))], WARN, id="74, once"),
        pytest.param(
            [xid(74, 9_000.0 + n, text=OLD_NVLINK.format(3)) for n in (1, 2)],
            FAIL,
            id="74, twice on one link",
        ),
        pytest.param(
            [xid(74, 9_000.0 + n, text=OLD_NVLINK.format(n)) for n in (1, 2)],
            WARN,
            id="74, two links",
        ),
    ],
)
def test_link_errors(events, result):
    """A link that fails for good, or again, is a hard fault; one hiccup is a ticket."""
    (finding,) = seen(*events)

    assert finding.result is result


RECOVERY = "GPU recovery action changed from 0x0 (None) to 0x{} ({})"


@pytest.mark.parametrize(
    ("text", "result", "action"),
    [
        pytest.param(RECOVERY.format(0, "None"), OK, Action.NONE, id="over"),
        pytest.param(RECOVERY.format(1, "GPU Reset Required"), FAIL, Action.RESET_GPU, id="reset"),
        pytest.param(RECOVERY.format(2, "Node Reboot"), FAIL, Action.DRAIN_NODE, id="reboot"),
        pytest.param(RECOVERY.format(3, "Drain P2P"), WARN, Action.DRAIN_NODE, id="drain peers"),
        pytest.param(RECOVERY.format("c", "?"), WARN, Action.DRAIN_NODE, id="newer than we know"),
        pytest.param("?", OK, Action.NONE, id="unreadable"),
    ],
)
def test_recovery_action_changed(text, result, action):
    """XID 154 is as bad as the action that it names."""
    (finding,) = seen(xid(154, text=text))

    assert (finding.result, finding.action) == (result, action)


def test_recovery_action_that_nvml_tells_too():
    """NVML's own word is a finding of its own, which clears: the line is only evidence."""
    nvml = Sample(SeriesKey("gpu_recovery_action", gpu="GPU-1"), 9_999.0, 1.0)
    (finding,) = seen(xid(154, text=RECOVERY.format(1, "GPU Reset Required")), samples=[nvml])

    assert finding.result is OK


@pytest.mark.parametrize(
    ("code", "signal"), [(63, "gpu_row_remap_pending"), (64, "gpu_row_remap_failed")]
)
def test_remapping_shows_what_nvml_says_now(code, signal):
    flag = Sample(SeriesKey(signal, gpu="GPU-1"), 9_999.0, 1.0)

    (known,) = seen(xid(code), samples=[flag])
    (unknown,) = seen(xid(code))

    assert evidence(known)[signal] == 1.0
    assert signal not in evidence(unknown)


@pytest.mark.parametrize(
    ("in_a_day", "results"),
    [
        pytest.param(2.0, [("vllm.service", WARN)], id="twice in a day"),
        pytest.param(3.0, [("vllm.service", WARN), ("", FAIL)], id="three times"),
    ],
)
def test_contained_memory_errors(in_a_day, results):
    """The victim is one program, until the third in a day: then the memory is not fit for use."""
    found = seen(xid(94, xid_in_a_day=in_a_day))

    assert [(finding.subject.process, finding.result) for finding in found] == results


@pytest.mark.parametrize(
    ("times", "results"),
    [
        pytest.param(2, [WARN], id="twice in an hour"),
        pytest.param(3, [WARN, FAIL], id="three times"),
    ],
)
def test_hung_contexts(times, results):
    """A context that hangs is mostly a program's endless kernel; three in an hour are not."""
    found = seen(*(xid(109, 9_900.0 + n) for n in range(times)))

    assert [finding.result for finding in found] == results


@pytest.mark.parametrize(
    ("pids", "is_the_gpus"),
    [
        pytest.param([77, 77, 77], False, id="one program"),
        pytest.param([77, 78], False, id="two programs, twice"),
        pytest.param([77, 77, 78], True, id="two programs, three times"),
        pytest.param([77, 1_234, 1_235], False, id="whom nobody knows is no second program"),
    ],
)
def test_one_programs_bug_does_not_move_to_another(pids, is_the_gpus):
    """The same error in two programs is the GPU's: a ticket, and the cause of theirs."""
    found = seen(*(xid(31, 9_990.0 + n, pid=pid) for n, pid in enumerate(pids)))
    whole = [f for f in found if "programs" in f.summary]

    assert bool(whole) == is_the_gpus
    for finding in whole:
        assert (finding.result, finding.action) == (WARN, Action.DRAIN_NODE)
        assert {f.causes for f in found if f.subject.process} == {(finding.dedup_key,)}


@pytest.mark.parametrize(
    ("code", "boots", "action"),
    [
        pytest.param(119, 1.0, Action.RESET_GPU, id="after one reboot"),
        pytest.param(119, 2.0, Action.REPLACE_HARDWARE, id="after two"),
        pytest.param(31, 9.0, Action.CHECK_APPLICATION, id="a program's, after any number"),
    ],
)
def test_what_reboots_do_not_mend_is_replaced(code, boots, action):
    (finding,) = seen(xid(code, xid_earlier_boots=boots))

    assert finding.action is action
    assert evidence(finding)["xid_earlier_boots"] == boots


def test_clean_up_alone_is_worth_a_look():
    """XID 45 follows from something: when nothing was reported, somebody must look."""
    (alone,) = seen(xid(45))
    after = [f for f in seen(xid(31, 9_990.0), xid(45)) if f.code == 45]

    assert alone.result is WARN
    assert [finding.result for finding in after] == [OK]


def test_a_storm_of_clean_ups():
    """672 XID 45 in three hours, each of another process: one finding, and it never pages."""
    started_s = 10_000.0
    storm = [xid(45, started_s + 16.0 * n, pid=1_000 + n, xid_events=4.0) for n in range(0, 672, 4)]
    for now_s in range(10_000, 21_000, 500):
        until_now = [event for event in storm if event.at_s <= now_s]
        found = seen(xid(31, started_s - 1.0), *until_now, now_s=float(now_s))
        clean_ups = [finding for finding in found if finding.code == 45]

        assert len(clean_ups) == 1
        assert clean_ups[0].result is not FAIL


def test_a_storm_follows_from_what_was_before_its_beginning():
    """Not from what was in the last minute: the cause is told once, its clean-ups for an hour."""
    storm = [xid(45, 8_000.0 + 60.0 * n) for n in range(30)]
    found = {f.code: f for f in seen(xid(119, 7_990.0), *storm)}

    assert found[45].causes == (found[119].dedup_key,)


def test_one_event_may_stand_for_many():
    (finding,) = seen(xid(79, 9_990.0), xid(79, 9_999.0, xid_events=411.0))

    assert evidence(finding)["xid_events"] == 412.0


def test_override():
    """What a site says of a code counts, for the finding and its note."""
    config = XidConfig(
        overrides={
            "31": XidOverride(fault="drain", result="fail", note="Our boards."),
            "999": XidOverride(result="ok"),
        }
    )
    window = window_of(xid(31), xid(999))
    window = replace(window, xids=config.catalogue())
    found = {finding.code: finding for finding in detect(window)}

    assert (found[31].result, found[31].action) == (FAIL, Action.DRAIN_NODE)
    assert found[31].subject.process == ""
    assert evidence(found[31])["xid_note"] == "Our boards."
    assert found[999].result is OK


def test_readings_know_the_sites_catalogue():
    catalogue = XidConfig(overrides={"31": XidOverride(result="fail")}).catalogue()

    assert Readings(catalogue).window(1.0).xids[31].result is FAIL
    assert Readings().window(1.0).xids[31].result is OK


@pytest.mark.parametrize(
    ("first", "then", "causes"),
    [
        pytest.param((48, 9_950.0), (171, 9_950.1), ("gpu.xid|48|GPU-1||",), id="details of a 48"),
        pytest.param((48, 9_951.0), (172, 9_950.0), ("gpu.xid|48|GPU-1||",), id="a second before"),
        pytest.param((48, 9_951.1), (172, 9_950.0), (), id="longer before"),
        pytest.param((119, 9_950.0), (171, 9_950.1), (), id="of nothing else"),
        pytest.param((119, 9_950.0), (154, 9_950.1), ("gpu.xid|119|GPU-1||",), id="what to do now"),
        pytest.param((45, 9_950.0), (154, 9_950.1), (), id="a follower is no cause"),
    ],
)
def test_what_belongs_to_another_xid_names_it(first, then, causes):
    found = {f.code: f for f in seen(xid(*first), xid(*then))}

    assert found[then[0]].causes == causes


@pytest.mark.parametrize(
    ("event", "result", "action", "summary"),
    [
        pytest.param(
            xid(149, text=NVLINK.format("Fatal", 3)),
            FAIL,
            Action.RESET_GPU,
            "XID 149: NVLink NETIR error.",
            id="fatal by its line",
        ),
        pytest.param(
            xid(79, xid_earlier_boots=2.0),
            FAIL,
            Action.REPLACE_HARDWARE,
            "XID 79: GPU has fallen off the bus.",
            id="after two reboots",
        ),
        pytest.param(
            Event("node.sxid", 9_000.0, "s", code=12028, values={"fatal": 0.0}),
            WARN,
            Action.NONE,
            "SXid 12028: egress nonposted PRIV error.",
            id="a switch's, not fatal",
        ),
        pytest.param(
            Event("node.sxid", 9_000.0, "s", code=20034, values={"fatal": 1.0}),
            FAIL,
            Action.DRAIN_NODE,
            "SXid 20034: LTSSM fault up.",
            id="a switch's, fatal",
        ),
    ],
)
def test_the_event_itself_says_the_same(event, result, action, summary):
    """What is spooled of the instant is judged as the finding is that stays open."""
    finding = one_shot(event, window_of(event), "i-1").finding

    assert (finding.result, finding.action, finding.summary) == (result, action, summary)
