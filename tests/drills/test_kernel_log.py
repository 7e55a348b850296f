"""What the kernel's log tells, from the scenario through the agent's samplers to the page."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.simulator


def louds(node, kind):
    """Return by code how each finding of ``kind`` was shown, whichever GPU it is about."""
    return {key[2]: set(ways) for key, ways in node.shown.items() if key[0] == kind}


async def test_switches(node):
    """A fatal SXid pages, one that stops traffic is a ticket, a corrected one is evidence."""
    async with node("sxid") as it:
        await it.play(30)

    assert louds(it, "node.sxid") == {
        20034: {("fail", "page")},
        11012: {("ok", "store")},
        12028: {("warn", "ticket")},
    }


async def test_a_storm_of_clean_ups(node):
    """672 lines of XID 45 are one finding, which never wakes anybody, and a handful of events."""
    async with node("clean_ups") as it:
        await it.play(260)

    kinds = {(key[0], key[2]) for key in it.shown if key[0].startswith("gpu.xid")}
    assert kinds == {("gpu.xid", 31), ("gpu.xid", 45)}
    assert not {loud for ways in it.shown.values() for _, loud in ways} & {"page"}
    # The first storm follows from the fault before it; the second, minutes later, from nothing.
    assert louds(it, "gpu.xid") == {
        31: {("ok", "store")},
        45: {("ok", "store"), ("warn", "ticket")},
    }
    clean_ups = [event for event in it.events if event.code == 45]
    assert len(clean_ups) == 4
    assert sum(event.values.get("xid_events", 1.0) for event in clean_ups) == 672.0


async def test_other_words_of_the_kernel(node):
    """Each is its own finding, as loud as it is sure; a mismatch is an event and no more."""
    async with node("kernel_words") as it:
        await it.play(60)

    shown = {key[0]: set(ways) for key, ways in it.shown.items()}
    assert shown == {
        "gpu.init_failed": {("warn", "ticket")},
        "driver.task_blocked": {("warn", "store")},
    }
    assert [event.kind for event in it.events] == [
        "gpu.init_failed",
        "driver.task_blocked",
        "driver.version_mismatch",
    ]


async def test_without_the_log_nvml_tells(node):
    """A node whose log cannot be read still hears of its XIDs, and says that it hears less."""
    async with node("xid") as it:
        kmsg = next(sampler for sampler in it.samplers if sampler.name == "kmsg")
        # The simulator makes its own log again and again, so the agent looks elsewhere.
        kmsg._log._path = it.root / "dev" / "gone"
        await it.play(60, wanted=lambda: len({key[2] for key in it.shown}) > 7)

    codes = {key[2] for key in it.shown if key[0] == "gpu.xid"}
    assert codes == {31, 43, 95, 79, 64, 999, 92}
    assert {event.identity.partition(":")[0] for event in it.events} == {"nvml"}
    assert ("node.kmsg_unreadable", None, 0) in it.shown
