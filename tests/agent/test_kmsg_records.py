r"""Kernel records and XID lines, as NVIDIA's documentation and public bug reports quote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.kmsg_records import Record, Xid, parse_record, parse_xid, pci_place


@pytest.mark.parametrize(
    ("data", "record"),
    [
        pytest.param(
            b"3,1042,187654321,-;NVRM: Xid (PCI:0000:10:00): 79, GPU has fallen off the bus.\n",
            Record(
                0,
                3,
                1042,
                187.654321,
                "NVRM: Xid (PCI:0000:10:00): 79, GPU has fallen off the bus.",
            ),
            id="plain",
        ),
        pytest.param(
            b"6,1,2000000,c,caller=T1;usb 1-1: new device\n SUBSYSTEM=usb\n DEVICE=c189:1\n",
            Record(0, 6, 1, 2.0, "usb 1-1: new device"),
            id="more header fields, and continuation lines",
        ),
        pytest.param(
            b"14,7,1,-;NVRM: Xid (PCI:0000:10:00): 79, forged by a program\n",
            Record(1, 6, 7, 1e-6, "NVRM: Xid (PCI:0000:10:00): 79, forged by a program"),
            id="facility of user space",
        ),
        pytest.param(b"6,5,1,-;a;b\n", Record(0, 6, 5, 1e-6, "a;b"), id="semicolon in the text"),
        pytest.param(b"6,5,1,-;\xff\n", Record(0, 6, 5, 1e-6, "\ufffd"), id="not UTF-8"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"6,5;text\n", None, id="too few fields"),
        pytest.param(b"6,x,1,-;text\n", None, id="no number"),
        pytest.param(b"6,-5,1,-;text\n", None, id="negative"),
        pytest.param(b" SUBSYSTEM=pci\n", None, id="continuation alone"),
    ],
)
def test_parse_record(data, record):
    """Header fields beyond the third, and lines beyond the first, change nothing."""
    assert parse_record(data) == record


@pytest.mark.parametrize(
    ("text", "xid"),
    [
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 79, pid='<unknown>', name=<unknown>, "
            "GPU has fallen off the bus.",
            Xid("0000:10:00", 79, 0, "GPU has fallen off the bus."),
            id="pid unknown",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:b3:00): 31, pid=1234, name=python3, Ch 00000008, intr 10000000. "
            "MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f0a_8c000000",
            Xid(
                "0000:b3:00",
                31,
                1234,
                "Ch 00000008, intr 10000000. "
                "MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f0a_8c000000",
            ),
            id="pid and channel",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:3d:00): 13, Graphics Exception: ESR 0x504648=0xd",
            Xid("0000:3d:00", 13, 0, "Graphics Exception: ESR 0x504648=0xd"),
            id="older driver, no pid",
        ),
        pytest.param(
            "NVRM: Xid (0000:03:00): 62, 2f6c(3064) 00000000",
            Xid("0000:03:00", 62, 0, "2f6c(3064) 00000000"),
            id="very old driver, no PCI:",
        ),
        pytest.param(
            "NVRM: Xid (PCI:00000000:10:00.0): 94, pid='77', name=a",
            Xid("00000000:10:00.0", 94, 77, ""),
            id="wide domain, function, quoted pid",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 43, pid=5, name=x, pid=1, Ch 0, Ch 00000008",
            Xid("0000:10:00", 43, 5, "Ch 00000008"),
            id="a name that looks like fields",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 43, pid=5, name=NVRM: Xid (PCI:, boom",
            Xid("0000:10:00", 43, 5, "boom"),
            id="a name that looks like an XID",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 43, pid=5, name=a, \x1b[31m\\x0a\u202e, Ch 8",
            Xid("0000:10:00", 43, 5, "Ch 8"),
            id="a name that would write on a terminal",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 45, pid=12345678901, name=x",
            Xid("0000:10:00", 45, 0, "pid=12345678901, "),
            id="a pid that is none",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 43, pid=5, name=canary-7f3e-in-a-name-too-long, Ch 8",
            Xid("0000:10:00", 43, 5, ""),
            id="a name that no process can have",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:10:00): 43, pid=5, name=\\x0a\\x5c234567890123\\x0a, Ch 00000008",
            Xid("0000:10:00", 43, 5, "Ch 00000008"),
            id="a name of 15 bytes, some of them escaped",
        ),
        pytest.param("NVRM: Xid (PCI:0000:10:00): ", None, id="no code"),
        pytest.param("NVRM: Xid (PCI:0000:10:00): 123456, x", None, id="code beyond any"),
        pytest.param("NVRM: GPU 0000:10:00.0: GPU has fallen off the bus.", None, id="no XID"),
        pytest.param("prefix NVRM: Xid (PCI:0000:10:00): 79, x", None, id="not at the beginning"),
    ],
)
def test_parse_xid(text, xid):
    """Address, code and pid come before the name, which a workload chooses and nobody sees."""
    assert parse_xid(text) == xid


@given(st.text())
def test_xid_text_is_harmless(name):
    """Whatever a process calls itself, code and pid stay, and the text is short and printable."""
    xid = parse_xid(f"NVRM: Xid (PCI:0000:10:00): 31, pid=9, name={name}, Ch 00000008")

    assert (xid.code, xid.pid) == (31, 9)
    assert len(xid.text) <= 200
    assert all(" " <= letter <= "~" for letter in xid.text)


@given(st.binary())
def test_parsers_never_raise(data):
    """Bytes from outside are a record or they are not."""
    record = parse_record(data)
    if record is not None:
        parse_xid(record.text)


@pytest.mark.parametrize(
    ("bus_id", "place"),
    [
        pytest.param("0000:10:00", (0, 0x10, 0), id="kernel log"),
        pytest.param("00000000:10:00.0", (0, 0x10, 0), id="NVML"),
        pytest.param("0001:B3:1f.0", (1, 0xB3, 0x1F), id="capitals, second domain"),
        pytest.param("10:00", None, id="no domain"),
    ],
)
def test_pci_place(bus_id, place):
    """The kernel and NVML mean the same place by different texts."""
    assert pci_place(bus_id) == place
