"""The catalogues: whole, and what research on other monitors found to matter."""

from __future__ import annotations

import pytest

from gpuward.agent import sxid_catalogue
from gpuward.agent.model import Action, Result
from gpuward.agent.xid_catalogue import CATALOGUE, Fault

OK, WARN, FAIL = Result.OK, Result.WARN, Result.FAIL
APPLICATION, INFORMATION = Fault.APPLICATION, Fault.INFORMATION
RESETTABLE, DRAIN = Fault.RESETTABLE, Fault.DRAIN
REPLACE, UNKNOWN = Fault.REPLACE, Fault.UNKNOWN

# Every row of the specification: the codes, whose fault, how bad at first sight.
ROWS = [
    ((79,), DRAIN, FAIL),
    ((119, 120), RESETTABLE, FAIL),
    ((140, 143, 158), RESETTABLE, FAIL),
    ((95,), RESETTABLE, FAIL),
    ((48, 171, 172), RESETTABLE, FAIL),
    ((64,), REPLACE, FAIL),
    ((46, 62, 110), RESETTABLE, FAIL),
    ((109,), APPLICATION, WARN),
    ((136, 155), RESETTABLE, FAIL),
    ((156,), INFORMATION, WARN),
    ((74, *range(144, 151)), DRAIN, WARN),
    ((167,), DRAIN, FAIL),
    ((168,), UNKNOWN, WARN),
    ((169,), RESETTABLE, FAIL),
    ((151,), DRAIN, WARN),
    ((54,), REPLACE, FAIL),
    ((94,), APPLICATION, WARN),
    ((63,), INFORMATION, OK),
    ((92,), REPLACE, WARN),
    ((160,), INFORMATION, OK),
    ((157, 161), REPLACE, WARN),
    ((163, 164), INFORMATION, OK),
    ((165,), REPLACE, WARN),
    ((154,), INFORMATION, OK),
    ((13, 31), APPLICATION, OK),
    ((8, 11, 25, 32, 39, 40, 41, 60, *range(68, 73), 75, 76, 77, 80), APPLICATION, OK),
    ((*range(82, 87), 88, 89, *range(96, 106), *range(126, 136), 139), APPLICATION, OK),
    ((45,), APPLICATION, OK),
    ((14, 37, 38, 43, 44, 66, 67, 93, 106, 107, 108, 121, 137, 141, 152, 153), INFORMATION, OK),
    ((78, 159), UNKNOWN, WARN),
    ((*range(1, 8), 9, 10, 12, *range(15, 25), *range(26, 31), *range(33, 37)), UNKNOWN, WARN),
    ((42, 47, *range(49, 54), *range(55, 60), 61, 65, 73, 81, 87, 90, 91), UNKNOWN, WARN),
    ((*range(111, 119), *range(122, 126), 138, 142), UNKNOWN, WARN),
    # Of confidential computing; the catalogue has no action for them yet.
    ((166, 170), UNKNOWN, WARN),
    ((162,), INFORMATION, OK),
]


@pytest.mark.parametrize(
    ("code", "fault", "result"), [(c, f, r) for codes, f, r in ROWS for c in codes]
)
def test_code(code, fault, result):
    assert (CATALOGUE[code].fault, CATALOGUE[code].result) == (fault, result)


def test_every_code_has_its_row():
    """None is missing, none is there twice."""
    listed = [code for codes, _, _ in ROWS for code in codes]

    assert sorted(listed) == sorted(CATALOGUE) == list(range(1, 173))


def test_every_entry_is_whole():
    """A mnemonic to search for, words, and a reason wherever NVIDIA says otherwise."""
    assert [code for code, xid in CATALOGUE.items() if not (xid.mnemonic and xid.meaning)] == []
    deviates = {
        code
        for code, xid in CATALOGUE.items()
        if (xid.advice == "IGNORE" and xid.result is not OK)
        or (xid.advice == "RESET_GPU" and xid.fault is not RESETTABLE)
        or (xid.advice == "RESTART_APP" and xid.result is not OK)
    }
    assert deviates == {64, 92, 94, 109, 156, 157, 161}
    assert [code for code in deviates if not CATALOGUE[code].why] == []


def test_what_others_call_fatal():
    """Codes that DCGM or nvidia_gpu_exporter treat as fatal fail here too."""
    fatal = {48, 62, 64, 79, 95, 119, 120, 140}

    assert {code for code in fatal if CATALOGUE[code].result is not FAIL} == set()


def test_no_page_for_a_program():
    """The skip list of the Kubernetes device plugin: a program's own errors."""
    programs = {13, 31, 43, 45, 68, 109}

    assert {code for code in programs if CATALOGUE[code].result is FAIL} == set()


@pytest.mark.parametrize(
    ("code", "fatal", "result", "action"),
    [
        pytest.param(20034, True, FAIL, Action.DRAIN_NODE, id="link fault, fatal"),
        pytest.param(20034, False, WARN, Action.NONE, id="the same, called non-fatal"),
        pytest.param(11012, False, OK, Action.NONE, id="corrected by the switch"),
        pytest.param(20001, False, OK, Action.NONE, id="replayed"),
        pytest.param(12028, False, WARN, Action.NONE, id="traffic of a partition stops"),
        pytest.param(22003, False, FAIL, Action.DRAIN_NODE, id="always fatal, whatever it says"),
        pytest.param(10003, False, FAIL, Action.DRAIN_NODE, id="never expected to occur"),
        pytest.param(99999, False, WARN, Action.NONE, id="newer than the catalogue"),
        pytest.param(99999, True, FAIL, Action.DRAIN_NODE, id="newer, and fatal"),
    ],
)
def test_sxid(code, fatal, result, action):
    """The driver's own word decides, but for the numbers that are always fatal."""
    found, help_, meaning = sxid_catalogue.judge(code, fatal=fatal)

    assert (found, help_) == (result, action)
    assert meaning
