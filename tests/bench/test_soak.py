"""The soak's rules: what grows is found, what only trembles is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("gpuward.simulator.kernel_log")

HOUR_S = 3_600.0


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import soak

    return soak


def looks(soak, *, mib_an_hour=0.0, filling_mib=0.0, full_s=3_900.0, descriptors=lambda _: 33):
    """Two hours of looks, ten seconds apart, that tremble by 0.1 MiB."""
    chance = random.Random(1)
    found = []
    for place in range(720):
        hours = place * 10.0 / HOUR_S
        filled = min(1.0, place * 10.0 / full_s)
        mib = 40.0 + mib_an_hour * hours + filling_mib * filled + chance.uniform(-0.1, 0.1)
        found.append(soak.Look(place * 10.0, mib, mib + 25, mib - 5, descriptors(place), 10))
    return {"agent": found, "NVML child": found}


def missed(soak, seen, log_bytes=(0, 1_000)):
    return {f.name for f in soak.judge(seen, log_bytes, 2 * HOUR_S) if f.is_missed}


@pytest.mark.parametrize(
    ("change", "grown"),
    [
        pytest.param({}, False, id="noise"),
        pytest.param({"mib_an_hour": 0.4}, False, id="less than half a MiB an hour"),
        pytest.param({"mib_an_hour": 0.6}, True, id="more"),
        pytest.param({"filling_mib": 5.0}, False, id="what is full after 65 minutes"),
        pytest.param(
            {"filling_mib": 5.0, "full_s": 7_200.0}, True, id="what takes two hours to be full"
        ),
    ],
)
def test_private_memory(soak, change, grown):
    """A slope counts that 95 % confidence leaves above the limit, after the warm-up."""
    names = missed(soak, looks(soak, **change))

    assert ("agent: private memory: least growth that 95 % leave" in names) is grown


@pytest.mark.parametrize(
    ("descriptors", "grown"),
    [
        pytest.param(lambda place: 33 + place % 5, False, id="come and go"),
        pytest.param(lambda place: 33 + place // 100, True, id="come and stay"),
    ],
)
def test_descriptors(soak, descriptors, grown):
    names = missed(soak, looks(soak, descriptors=descriptors))

    assert ("agent: descriptors, fewest of the last quarter" in names) is grown


@pytest.mark.parametrize(("size", "grown"), [(3_680_000, False), (3_690_000, True)])
def test_log(soak, size, grown):
    """512 bytes a second over the 7,190 s between the first look and the last: 3,681,280."""
    assert ("agent: log" in missed(soak, looks(soak), (0, size))) is grown


def test_a_short_run_is_told_and_not_judged(soak):
    leak = {
        name: [look for look in seen if look.at_s < 600.0]
        for name, seen in looks(soak, mib_an_hour=60.0).items()
    }
    figures = {f.name: f for f in soak.judge(leak, (0, 1), 600.0)}

    assert figures["agent: private memory: least growth that 95 % leave"].verdict == "told"
