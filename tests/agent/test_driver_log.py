"""The driver's lines of a kernel log, fit to be given away: no name of a process in them."""

from __future__ import annotations

import pytest

from gpuward.agent.driver_log import driver_lines, record_lines

# Shapes of lines as drivers 535 to 580 log them.
XID = "[  17.5] NVRM: Xid (PCI:0000:c3:00): 79, pid=1234, name=python3, GPU has fallen off."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            XID,
            "[  17.5] NVRM: Xid (PCI:0000:c3:00): 79, pid=1234, GPU has fallen off.",
            id="XID without the name",
        ),
        pytest.param(
            "node kernel: NVRM: Xid (PCI:0000:c3:00): 31, pid='<unknown>', name=x, "
            "MMU Fault: ENGINE GRAPHICS",
            "node kernel: NVRM: Xid (PCI:0000:c3:00): 31, pid=unknown, MMU Fault: ENGINE GRAPHICS",
            id="XID of nobody, in a journal",
        ),
        pytest.param(
            "[1] nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32",
            "[1] nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32",
            id="switch",
        ),
        pytest.param(
            "[1] pcieport 0000:00:01.0: AER: Corrected error received: 0000:01:00.0",
            "[1] pcieport 0000:00:01.0: AER: Corrected error received: 0000:01:00.0",
            id="PCIe",
        ),
        pytest.param(
            "[1] NVRM: some text name=secret-word, and more",
            "[1] NVRM: some text name=(left out)",
            id="any other line with a name",
        ),
        pytest.param("[1] NVRM: a\x1b[2Jb\xff", "[1] NVRM: a?[2Jb?", id="does not steer"),
        pytest.param("[1] NVRM: " + "x" * 500, "[1] NVRM: " + "x" * 390, id="cut"),
        pytest.param("[1] usb 1-1: new device", None, id="not the driver's"),
        pytest.param("[1] audit: token=secret", None, id="somebody's secret"),
    ],
)
def test_driver_lines(line, expected):
    assert ([] if expected is None else [expected]) == list(driver_lines([line]))


def test_the_newest_lines_are_kept():
    lines = list(driver_lines(f"NVRM: {n}" for n in range(20_001)))
    assert (len(lines), lines[0], lines[-1]) == (20_000, "NVRM: 1", "NVRM: 20000")


def test_records_of_the_kernel_alone():
    data = b"4,10,17500000,-;NVRM: one\n12,11,17600000,-;NVRM: of a user\nno record\n"
    assert list(record_lines(data)) == ["[   17.500000] NVRM: one"]
