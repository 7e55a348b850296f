"""Lines of the kernel about NVIDIA's hardware and driver, as published logs quote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.kmsg_events import EventMaker, Lines
from gpuward.agent.kmsg_lines import (
    BlockedTask,
    Notice,
    NoticeLine,
    Sxid,
    is_driver_frame,
    parse_blocked,
    parse_notice,
    parse_sxid,
)
from gpuward.agent.model import Gpu

H100 = Gpu("GPU-1", 0, "H100", "00000000:17:00.0")


@pytest.mark.parametrize(
    ("text", "sxid"),
    [
        pytest.param(
            "nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 24 LTSSM Fault Up",
            Sxid(3, "0000:c5:00.0", 20034, True, 24, "Link 24 LTSSM Fault Up"),
            id="fatal",
        ),
        pytest.param(
            "nvidia-nvswitch0: SXid (PCI:0000:c2:00.0): 12028, Non-fatal, "
            "Link 32 egress PRIV error (First)",
            Sxid(0, "0000:c2:00.0", 12028, False, 32, "Link 32 egress PRIV error (First)"),
            id="not fatal",
        ),
        pytest.param(
            "nvidia-nvswitch0: SXid (PCI:0000:c2:00.0): 22013, Non-fatal, Minion DLREQ",
            Sxid(0, "0000:c2:00.0", 22013, False, None, "Minion DLREQ"),
            id="no link",
        ),
        pytest.param(
            "nvidia-nvswitch2: SXid (PCI:0000:c4:00.0): 10002, Severity 5 Engine instance 00",
            None,
            id="a line of details",
        ),
        pytest.param(
            "nvidia-nvswitch2: SXid (PCI:0000:c4:00.0): 20034, Data {0x50610002, 0x10100030}",
            None,
            id="a line of data",
        ),
        pytest.param(
            "x nvidia-nvswitch2: SXid (PCI:0000:c4:00.0): 20034, Fatal, Link 1", None, id="quoted"
        ),
        pytest.param(
            "nvidia-nvswitch2: SXid (PCI:0000:c4:00.0): 200341, Fatal, Link 1", None, id="too large"
        ),
    ],
)
def test_sxid(text, sxid):
    assert parse_sxid(text) == sxid


@pytest.mark.parametrize(
    ("text", "notice", "pci"),
    [
        pytest.param(
            "NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.",
            Notice.FALLEN_OFF,
            "0000:91:00.0",
            id="off the bus",
        ),
        pytest.param(
            "NVRM: The NVIDIA GPU 0000:91:00.0 (PCI ID: 10de:2330) installed in this system has "
            "fallen off the bus and is not responding to commands.",
            Notice.FALLEN_OFF,
            "0000:91:00.0",
            id="off the bus, at start",
        ),
        pytest.param(
            "NVRM: GPU 0000:17:00.0: RmInitAdapter failed! (0x62:0xffff:2477)",
            Notice.INIT_FAILED,
            "0000:17:00.0",
            id="initialisation failed",
        ),
        pytest.param(
            "NVRM: nvAssertOkFailedNoLog: Assertion failed: GPU requires reset "
            "[NV_ERR_RESET_REQUIRED] (0x00000062) returned from rmStatus @ kernel_gsp.c:4103",
            Notice.RESET_REQUIRED,
            "",
            id="reset required",
        ),
        pytest.param(
            "NVRM: API mismatch: the client has the version 550.54.15, but",
            Notice.VERSION_MISMATCH,
            "",
            id="another version",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:91:00): 79, pid=1, name=x, GPU has fallen off the bus.",
            None,
            "",
            id="an XID is no notice",
        ),
        pytest.param("NVRM: loading NVIDIA UNIX Open Kernel Module", None, "", id="no news"),
        pytest.param("audit: NVRM: RmInitAdapter failed", None, "", id="quoted"),
    ],
)
def test_notice(text, notice, pci):
    found = parse_notice(text)

    assert (None if found is None else found.notice) is notice
    assert found is None or (found.pci, found.text) == (pci, text.removeprefix("NVRM: ")[:200])


@pytest.mark.parametrize(
    ("text", "task"),
    [
        pytest.param(
            "INFO: task python3:4711 blocked for more than 120 seconds.",
            BlockedTask(4711, 120),
            id="plain",
        ),
        pytest.param(
            "INFO: task a:1 blocked for more than 1 :99 blocked for more than 120 seconds.",
            BlockedTask(99, 120),
            id="a name that looks like the line",
        ),
        pytest.param("INFO: task python3:4711 is well", None, id="not blocked"),
    ],
)
def test_blocked(text, task):
    assert parse_blocked(text) == task


@pytest.mark.parametrize(
    ("text", "is_frame"),
    [
        pytest.param(" nv_open_device+0x1f/0x3c0 [nvidia]", True, id="nvidia"),
        pytest.param(" uvm_api_create+0x1f/0x3c0 [nvidia_uvm]", True, id="unified memory"),
        pytest.param(" nfs_wait+0x1f/0x3c0 [nfs]", False, id="another driver"),
    ],
)
def test_frame(text, is_frame):
    assert is_driver_frame(text) == is_frame


BLOCKED = "INFO: task python3:4711 blocked for more than 120 seconds."
FRAME = " nv_open_device+0x1f/0x3c0 [nvidia]"
OTHER = " __schedule+0x2eb/0x8d0"


def record(seq, text, at_s=100.0, *, prio=3):
    return f"{prio},{seq},{int(at_s * 1e6)},-;{text}\n".encode()


@pytest.mark.parametrize(
    ("records", "kinds"),
    [
        pytest.param([record(1, BLOCKED), record(2, FRAME)], ["driver.task_blocked"], id="at once"),
        pytest.param(
            [record(1, BLOCKED), record(2, OTHER), record(3, OTHER), record(4, FRAME)],
            ["driver.task_blocked"],
            id="further down",
        ),
        pytest.param(
            [record(1, BLOCKED), *(record(n, FRAME) for n in range(2, 6))],
            ["driver.task_blocked"],
            id="one event, however many frames",
        ),
        pytest.param([record(1, BLOCKED), record(2, OTHER)], [], id="blocked elsewhere"),
        pytest.param([record(1, FRAME)], [], id="a stack of something else"),
        pytest.param(
            [record(1, BLOCKED, 100.0), record(2, FRAME, 101.1)], [], id="another stack, later"
        ),
        pytest.param(
            [record(1, BLOCKED, prio=11), record(2, FRAME, prio=11)], [], id="of user space"
        ),
        pytest.param(
            [record(1, "NVRM: GPU 0000:17:00.0: RmInitAdapter failed! (0x62:0xffff:2477)")],
            ["gpu.init_failed"],
            id="initialisation",
        ),
        pytest.param(
            [record(1, "NVRM: API mismatch: the client has the version 550.54.15, but")],
            ["driver.version_mismatch"],
            id="version",
        ),
        pytest.param(
            [record(1, "nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 24 up")],
            ["node.sxid"],
            id="switch",
        ),
    ],
)
def test_events(records, kinds):
    """A task is blocked in the driver when its stack says so, in the records right after it."""
    lines = Lines()
    maker = EventMaker("boot-1", [H100], 200.0)
    found = [maker.event(line) for data in records if (line := lines.parse(data)) is not None]

    assert [event.kind for event in found] == kinds
    for event in found:
        assert event.identity == "kmsg:boot-1:1"
        assert event.gpu == ("GPU-1" if event.kind == "gpu.init_failed" else "")
        assert event.pid == (4711 if event.kind == "driver.task_blocked" else 0)


@pytest.mark.parametrize(
    "template",
    [
        "INFO: task {}:4711 blocked for more than 120 seconds.",
        "NVRM: Xid (PCI:0000:17:00): 31, pid=9, name={}, Ch 00000008",
    ],
)
@given(
    name=st.text(
        alphabet=st.characters(codec="utf-8", exclude_characters="\n,"), min_size=4, max_size=15
    )
)
def test_names_of_programs_are_not_kept(template, name):
    """A workload chooses them, and a title can hold what nobody should see."""
    name = f"canary-{name}"[:15]
    lines = Lines()
    found = [lines.parse(record(1, template.format(name))), lines.parse(record(2, FRAME))]
    maker = EventMaker("boot-1", [H100], 200.0)

    assert "canary" not in "".join(str(maker.event(line)) for line in found if line)


@given(st.lists(st.binary() | st.text().map(lambda text: record(1, text)), max_size=8))
def test_lines_never_raise(records):
    """Whatever stands in the log, each line is something or nothing."""
    lines = Lines()
    maker = EventMaker("boot-1", [H100], 200.0)
    for data in records:
        if (line := lines.parse(data)) is not None:
            assert len(maker.event(line).text) < 300


@given(st.text())
def test_parsers_never_raise(text):
    for prefix in ("", "NVRM: ", "INFO: task ", "nvidia-nvswitch1: SXid (PCI:0000:c5:00.0): 1, "):
        for parse in (parse_sxid, parse_notice, parse_blocked):
            found = parse(prefix + text)
            words = found.text if isinstance(found, Sxid | NoticeLine) else ""
            assert len(words) <= 200
            assert all(" " <= letter <= "~" for letter in words)
