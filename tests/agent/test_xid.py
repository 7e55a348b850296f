"""XIDs: whose fault, which process, how bad, for how long."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.xid import detect
from gpuward.agent.model import Action, Event, Gpu, Process, Result
from gpuward.agent.window import Window
from gpuward.agent.xid_catalogue import CATALOGUE

OK, WARN, FAIL = Result.OK, Result.WARN, Result.FAIL
H100 = Gpu("GPU-1", 0, "H100", "00000000:1B:00.0", serial="165")
VLLM = Process(key="vllm.service", pid=77, start_ticks=1, unit="vllm.service", model="llama")


def xid(code, at_s=10_000.0, *, gpu="GPU-1", pid=77, identity=""):
    identity = identity or f"{code}-{at_s}-{gpu}-{pid}"
    return Event("gpu.xid", at_s, identity, code=code, gpu=gpu, pid=pid, text="GPU has fallen off")


def seen(*events, now_s=10_000.0):
    window = Window.of(now_s=now_s, gpus=[H100], processes=[VLLM], events=events)
    return list(detect(window))


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


@pytest.mark.parametrize(
    ("times", "result"),
    [pytest.param(2, OK, id="twice"), pytest.param(3, WARN, id="three times in an hour")],
)
def test_a_program_that_keeps_failing_is_worth_a_ticket(times, result):
    (finding,) = seen(*(xid(31, 9_900.0 + n) for n in range(times)))

    assert finding.result is result
    assert ("xid_events", float(times)) in {(e.name, e.value) for e in finding.evidence}


def test_each_gpu_code_and_program_is_a_finding_of_its_own():
    found = seen(
        xid(31, 9_990.0),
        xid(31, 9_991.0),
        xid(31, 9_992.0, gpu="GPU-2"),
        xid(13, 9_993.0),
        xid(31, 9_994.0, pid=1_234),
        xid(79, 9_995.0, pid=1_234),
    )

    assert [(f.code, f.subject.gpu, f.subject.process) for f in found] == [
        (31, "GPU-1", "vllm.service"),
        (31, "GPU-2", "vllm.service"),
        (13, "GPU-1", "vllm.service"),
        (31, "GPU-1", ""),
        (79, "GPU-1", ""),
    ]
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


def test_catalogue_covers_what_others_call_fatal():
    """Codes that DCGM or nvidia_gpu_exporter treat as fatal fail here too."""
    fatal = {48, 62, 64, 79, 95, 119, 120, 140}

    assert {code for code in fatal if CATALOGUE[code].result is not FAIL} == set()


def test_catalogue_has_no_page_for_a_program():
    """The skip list of the Kubernetes device plugin: a program's own errors."""
    programs = {13, 31, 43, 45, 68, 109}

    assert {code for code in programs if CATALOGUE[code].result is FAIL} == set()
