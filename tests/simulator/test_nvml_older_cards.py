"""What cards before Ampere, and drivers before 580, answer otherwise."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.simulator

FIELD = "nvmlDeviceGetFieldValues(gpu(), [{}])[0].nvmlReturn"
SINGLE_BIT, DOUBLE_BIT = 0, 1
NOT_SUPPORTED = 3


@pytest.fixture
def t4s(make_state):
    return make_state("t4-x4")


def test_older_cards_retire_pages(t4s, asker):
    """Pages are listed by cause, and one that waits for a reset is told."""
    t4 = asker(t4s)
    assert t4.ask(f"nvmlDeviceGetRetiredPages(gpu(), {SINGLE_BIT})") == []
    assert t4.ask("nvmlDeviceGetRetiredPagesPendingStatus(gpu())") == 0

    t4s.gpu(0).remapped_rows_corrected, t4s.gpu(0).remapped_rows_uncorrected = 2, 1
    t4s.gpu(0).remapped_rows_pending = 1
    pages = t4.ask(f"nvmlDeviceGetRetiredPages(gpu(), {SINGLE_BIT})")
    times = t4.ask(f"[p['timestamp'] for p in nvmlDeviceGetRetiredPages_v2(gpu(), {DOUBLE_BIT})]")

    assert (len(pages), len(set(pages))) == (2, 2)
    assert [stamp > 1_600_000_000_000_000 for stamp in times] == [True]
    assert t4.ask("nvmlDeviceGetRetiredPagesPendingStatus(gpu())") == 1
    assert t4.ask("nvmlDeviceGetRetiredPages(gpu(), 2)") == "InvalidArgument"


def test_older_cards_remap_no_rows(t4s, asker):
    t4 = asker(t4s)

    assert t4.ask("nvmlDeviceGetRemappedRows(gpu())") == "NotSupported"
    assert t4.ask("nvmlDeviceGetRowRemapperHistogram(gpu())") == "NotSupported"
    assert t4.ask("nvmlDeviceGetEccMode(gpu())") == [1, 1]


@pytest.mark.parametrize(
    "call",
    [
        f"nvmlDeviceGetRetiredPages(gpu(), {SINGLE_BIT})",
        f"nvmlDeviceGetRetiredPages_v2(gpu(), {SINGLE_BIT})",
        "nvmlDeviceGetRetiredPagesPendingStatus(gpu())",
    ],
)
@pytest.mark.parametrize("name", ["h100-sxm-x8", "h100-mig-x1", "l40s-x4", "rtx4090-x1"])
def test_newer_cards_retire_none(make_state, asker, name, call):
    assert asker(make_state(name)).ask(call) == "NotSupported"


def test_times_under_a_reason_are_violations_before_driver_580(t4s, asker):
    """The field values with these numbers came with 580; the power cap's is older."""
    t4 = asker(t4s)
    t4s.gpu(0).hw_thermal_slowdown_nanoseconds = 5

    assert [t4.ask(FIELD.format(field)) for field in (269, 270, 271)] == [NOT_SUPPORTED] * 3
    assert t4.ask(FIELD.format(74)) == 0
    assert t4.ask("nvmlDeviceGetViolationStatus(gpu(), 1).violationTime") == 5
    t4s.load_driver("580.95.05")
    newer = asker(t4s)
    assert [newer.ask(FIELD.format(field)) for field in (269, 270, 271)] == [0] * 3
