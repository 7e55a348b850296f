"""Where a blocked thread stands in the kernel, as /proc shows it."""

from __future__ import annotations

import pytest

from gpuward.agent.nvml_link import Blocked, blocked

STAT = "{} (gpu5) {} 1 1 1 0 -1 4194368 9 0 0 0 0 0 0 0 20 0 9 0 12345 0 0"
# Of a node whose GSP firmware had stopped: /proc/PID/task/TID/stack as root.
IN_DRIVER = "[<0>] rpcSendMessage+0x3a/0x120 [nvidia]\n[<0>] nvidia_ioctl+0x4b/0x90 [nvidia]\n"
IN_A_FILE = "[<0>] rpc_wait_bit_killable+0x1e/0xa0 [sunrpc]\n[<0>] nfs_wait+0x1/0x2 [nfs]\n"


@pytest.fixture
def thread(tmp_path):
    """Write what /proc says of thread 43 of process 42."""

    def write(*, state="D", wchan="", stack=None):
        folder = tmp_path / "42" / "task" / "43"
        folder.mkdir(parents=True)
        (folder / "stat").write_text(STAT.format(43, state))
        (folder / "wchan").write_text(wchan)
        if stack is not None:
            (folder / "stack").write_text(stack)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("wchan", "stack", "in_driver"),
    [
        pytest.param("rwsem_down_write_slowpath", IN_DRIVER, True, id="a lock of the driver's"),
        pytest.param("rpc_wait_bit_killable", IN_A_FILE, False, id="a network file system"),
        pytest.param("rwsem_down_write_slowpath", None, False, id="a lock, nobody knows whose"),
        pytest.param("nvidia_poll", None, True, id="the driver, without a stack"),
        pytest.param("uvm_api_migrate", None, True, id="its memory manager"),
        pytest.param("nvme_wait_ready", None, False, id="a disk"),
        pytest.param("0", None, False, id="the kernel does not say"),
    ],
)
def test_in_the_driver(thread, wchan, stack, in_driver):
    """The name of the module in the stack decides, or the driver's own function."""
    found = blocked(thread(wchan=wchan, stack=stack), 42, 43)

    assert found == Blocked("D", "" if wchan == "0" else wchan, in_driver)


def test_a_thread_that_is_gone(tmp_path):
    assert blocked(tmp_path, 42, 43) == Blocked()
