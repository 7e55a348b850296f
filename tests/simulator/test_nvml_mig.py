"""MIG: a divided GPU's devices have memory, processes and activity of their own."""

import pytest

pytestmark = pytest.mark.simulator

MIB = 1 << 20
MIG = "nvmlDeviceGetMigDeviceHandleByIndex(gpu(), {})"


@pytest.fixture
def divided(make_state):
    """One H100 with four MIG devices."""
    return make_state("h100-mig-x1")


def test_devices(divided, asker):
    """Each device says who it is, whose it is, and what it has; the fifth is not there."""
    asked = asker(divided)

    assert asked.ask("nvmlDeviceGetMigMode(gpu()), nvmlDeviceGetMaxMigDeviceCount(gpu())") == (
        [1, 1],
        7,
    )
    assert asked.ask(f"nvmlDeviceGetName({MIG.format(0)})").endswith("MIG 3g.40gb")
    assert asked.ask(f"nvmlDeviceGetUUID({MIG.format(3)})").startswith("MIG-")
    assert asked.ask(f"nvmlDeviceGetGpuInstanceId({MIG.format(1)})") == 3
    assert asked.ask(f"nvmlDeviceGetAttributes({MIG.format(2)}).multiprocessorCount") == 16
    assert asked.ask(f"nvmlDeviceIsMigDeviceHandle({MIG.format(0)}).value") == 1
    assert (
        asked.ask(
            f"nvmlDeviceGetIndex(nvmlDeviceGetDeviceHandleFromMigDeviceHandle({MIG.format(2)}))"
        )
        == 0
    )
    uuid = divided.gpu(0).mig_devices[1].uuid.decode()
    assert asked.ask(f"nvmlDeviceGetGpuInstanceId(nvmlDeviceGetHandleByUUID({uuid!r}))") == 3
    assert asked.ask(MIG.format(4)) == "NotFound"
    assert asked.ask("nvmlDeviceGetGpuInstanceId(gpu())") == "InvalidArgument"


def test_memory_and_processes(divided, asker, child):
    """What a process takes is its device's and its GPU's; the neighbour device sees nothing."""
    process = child()
    assert divided.take(0, process.pid, 512 * MIB, mig_device=2)
    asked = asker(divided)

    def used(handle):
        return asked.ask(f"nvmlDeviceGetMemoryInfo({handle}, version=nvmlMemory_v2).used")

    def holders(handle):
        return asked.ask(
            "[(p.pid, p.usedGpuMemory, p.gpuInstanceId) for p in "
            f"nvmlDeviceGetComputeRunningProcesses_v3({handle})]"
        )

    assert used(MIG.format(1)) == used("gpu()") == 512 * MIB
    assert used(MIG.format(0)) == 0
    assert holders(MIG.format(1)) == holders("gpu()") == [(process.pid, 512 * MIB, 3)]
    assert holders(MIG.format(0)) == []


@pytest.mark.parametrize(
    "expression",
    [
        "nvmlDeviceGetUtilizationRates(gpu())",
        f"nvmlDeviceGetUtilizationRates({MIG.format(0)})",
        "nvmlDeviceGetProcessUtilization(gpu(), 0)",
        "nvmlDeviceGetRemappedRows(gpu())",
        f"nvmlDeviceGetTemperature({MIG.format(0)}, 0)",
        "nvmlGpmSampleGet(gpu(), nvmlGpmSampleAlloc())",
    ],
)
def test_what_mig_takes_away(divided, asker, expression):
    """What belongs to the undivided GPU alone, or to none of its parts, is not supported."""
    assert asker(divided).ask(expression) == "NotSupported"
