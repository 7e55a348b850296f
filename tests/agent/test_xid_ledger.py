"""What is remembered of serious XIDs: a day, a few boots, within bounds."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gpuward.agent.kmsg_memory import KmsgMemory
from gpuward.agent.xid_ledger import Ledger

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("ages_s", "count"),
    [
        pytest.param([], 0, id="never"),
        pytest.param([DAY_S, 0.0], 2, id="a day ago"),
        pytest.param([DAY_S + 0.1, 0.0], 1, id="longer ago"),
        pytest.param([0.0] * 20, 16, id="more than is kept"),
    ],
)
def test_in_a_day(ages_s, count):
    ledger = Ledger()
    for age_s in ages_s:
        ledger.add("GPU-1", 94, "boot-1", 1e9 - age_s)

    assert ledger.in_a_day("GPU-1", 94, 1e9) == count
    assert ledger.in_a_day("GPU-2", 94, 1e9) == ledger.in_a_day("GPU-1", 95, 1e9) == 0


def test_earlier_boots():
    """Twice in one boot is one boot; a month of peace begins anew; three are remembered."""
    ledger = Ledger()
    for number, boot in enumerate("aabc"):
        ledger.add("GPU-1", 79, boot, float(number))

    assert [ledger.earlier_boots("GPU-1", 79, boot) for boot in "abcd"] == [0, 1, 2, 3]
    for number, boot in enumerate("defg"):
        ledger.add("GPU-1", 79, boot, 4.0 + number)
    assert ledger.earlier_boots("GPU-1", 79, "g") == 3
    ledger.add("GPU-1", 79, "h", 7.0 + 30 * DAY_S + 1)
    assert ledger.earlier_boots("GPU-1", 79, "h") == 0


def test_bounded():
    """A node that shows every code on every GPU does not fill the disk; the newest stay."""
    ledger = Ledger()
    for code in range(600):
        ledger.add("GPU-1", code, "a", float(code))

    assert len(ledger.entries) == 512
    assert ledger.in_a_day("GPU-1", 599, 599.0) == 1


def test_kept_over_a_restart(tmp_path, written):
    memory = KmsgMemory(tmp_path, "boot-1")
    memory.ledger.add("GPU-1", 79, "boot-1", 5.0)
    memory.close(41)
    written()

    same, next_boot = KmsgMemory(tmp_path, "boot-1"), KmsgMemory(tmp_path, "boot-2")
    assert (same.seq, next_boot.seq) == (41, -1)
    assert next_boot.ledger.earlier_boots("GPU-1", 79, "boot-2") == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"seq": "x"}', b'{"xids": [{"gpu": 1}]}', b"\xff\xfe"]
)
def test_damaged_file(tmp_path, content):
    """It is said and forgotten: what is lost is a count."""
    (tmp_path / "kmsg.json").write_bytes(content)
    with capture_logs() as logs:
        memory = KmsgMemory(tmp_path, "boot-1")

    assert [entry["event"] for entry in logs] == ["kmsg.forgotten"]
    assert memory.seq == -1


def test_folder_that_cannot_be_written(tmp_path, written):
    """It is said; nothing else stops."""
    memory = KmsgMemory(tmp_path / "gone", "boot-1")
    with capture_logs() as logs:
        memory.close(1)
        written()

    assert [entry["event"] for entry in logs] == ["state_file.not_written"]
