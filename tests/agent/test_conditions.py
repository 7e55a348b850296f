"""The node's condition in Kubernetes' words: what is trouble, and when nobody can know."""

import pytest

from gpuward.agent.conditions import conditions
from gpuward.agent.model import Action, Driver, Finding, OpenFinding, Result, Snapshot, Subject

UP = Driver(up=True)


def opened(kind, *, raised_s=995.0, suppressed=False, summary="broken", **about):
    finding = Finding(kind, Subject(), summary, **about)
    return OpenFinding("i-1", finding, 990.0, raised_s, 1_000.0, 6, suppressed=suppressed)


def states(*open_findings, driver=UP, is_judging=True):
    snapshot = Snapshot(
        "n1", "boot-1", 1_000.0, 1_799_999_000.0, driver, open_findings=open_findings
    )
    return {c.type: c for c in conditions(snapshot, is_judging=is_judging)}


@pytest.mark.parametrize(
    ("found", "driver", "expected"),
    [
        pytest.param((), UP, ("False", "False", "False"), id="nothing found"),
        pytest.param(
            (opened("gpu.ecc.uncorrected"),), UP, ("False", "True", "False"), id="a GPU is broken"
        ),
        pytest.param(
            (opened("gpu.pcie.replays", result=Result.WARN),),
            UP,
            ("False", "False", "True"),
            id="a GPU is not well",
        ),
        pytest.param(
            (opened("driver.unresponsive"),),
            Driver(up=False),
            ("True", "Unknown", "Unknown"),
            id="of a hung driver's GPUs nothing is known",
        ),
        pytest.param(
            (opened("gpu.ecc.uncorrected"),),
            Driver(up=False),
            ("False", "True", "Unknown"),
            id="what was found stays",
        ),
        pytest.param(
            (opened("gpu.ecc.uncorrected", suppressed=True),),
            UP,
            ("False", "False", "False"),
            id="told elsewhere",
        ),
        pytest.param(
            (opened("gpu.ecc.uncorrected", in_maintenance=True),),
            UP,
            ("False", "False", "False"),
            id="in maintenance",
        ),
        pytest.param(
            (opened("process.memory.leak_suspected"), opened("gpu.memory.saturation")),
            UP,
            ("False", "False", "False"),
            id="not the node's",
        ),
        pytest.param(
            (opened("gpu.xid", result=Result.WARN, action=Action.CHECK_APPLICATION),),
            UP,
            ("False", "False", "False"),
            id="an application's error",
        ),
    ],
)
def test_status(found, driver, expected):
    """GpuDriverFault, GpuFault, GpuDegraded; True is trouble."""
    shown = states(*found, driver=driver)

    assert expected == tuple(
        shown[name].status for name in ("GpuDriverFault", "GpuFault", "GpuDegraded")
    )


def test_an_agent_that_is_stuck_knows_nothing():
    shown = states(opened("gpu.ecc.uncorrected"), is_judging=False)

    assert {"Unknown"} == {condition.status for condition in shown.values()}


def test_the_first_is_named_and_the_others_are_counted():
    """At 1,799,999,995 s the first was raised."""
    later = opened("gpu.recovery_needed", raised_s=999.0)
    first = opened("gpu.ecc.uncorrected", summary="x" * 500)

    told = states(later, first)["GpuFault"]

    assert ("GpuEccUncorrected", "2027-01-15T07:59:55Z") == (told.reason, told.since)
    assert "x" * 243 + " (and 1 more)" == told.message
