"""SXids: how bad, which switch, which links, for how long."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.sxid import detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import Action, Event, FindingClass, Result
from gpuward.agent.window import Window


def sxid(code, at_s=10_000.0, *, switch=0, link=24, fatal=True, **more):
    values = {"switch": float(switch), "link": float(link), "fatal": float(fatal), **more}
    identity = f"{code}-{at_s}-{switch}-{link}"
    return Event("node.sxid", at_s, identity, code=code, text="Link fault", values=values)


def seen(*events):
    return list(detect(Window.of(now_s=10_000.0, events=events)))


@pytest.mark.parametrize(
    ("code", "fatal", "result", "loud"),
    [
        pytest.param(20034, True, Result.FAIL, FindingClass.PAGE, id="fatal"),
        pytest.param(20034, False, Result.WARN, FindingClass.TICKET, id="not fatal"),
        pytest.param(11012, False, Result.OK, FindingClass.STORE, id="corrected"),
        pytest.param(22003, False, Result.FAIL, FindingClass.PAGE, id="always fatal"),
        pytest.param(99999, False, Result.WARN, FindingClass.TICKET, id="unknown"),
    ],
)
def test_how_bad(code, fatal, result, loud):
    """A fatal one stops the traffic of the GPUs behind the switch: it wakes somebody."""
    (finding,) = seen(sxid(code, fatal=fatal))

    assert (finding.code, finding.result, class_of(finding)) == (code, result, loud)
    assert finding.action is (Action.DRAIN_NODE if result is Result.FAIL else Action.NONE)


def test_one_finding_a_number_names_every_switch_and_link():
    """A switch that dies takes all its links: one finding, and whose they are."""
    (finding,) = seen(
        sxid(20034, 9_000.0, switch=3, link=24),
        sxid(20034, 9_001.0, switch=0, link=25),
        sxid(20034, 9_002.0, switch=3, link=25, fatal=False, xid_events=7.0),
    )
    evidence = {fact.name: fact.text or fact.value for fact in finding.evidence}

    assert finding.result is Result.FAIL
    assert finding.summary == "SXid 20034 of NVSwitch 0, 3: LTSSM fault up."
    assert (evidence["nvswitches"], evidence["nvswitch_links"]) == ("0, 3", "24, 25")
    assert evidence["sxid_events"] == 9.0
    assert finding.since_s == 9_000.0


@pytest.mark.parametrize(
    ("age_s", "is_open"),
    [pytest.param(3_600.0, True, id="an hour"), pytest.param(3_600.1, False, id="longer")],
)
def test_how_long_it_stays(age_s, is_open):
    assert bool(seen(sxid(20034, 10_000.0 - age_s))) == is_open
