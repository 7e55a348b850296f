"""GPUs as PCI sees them, in the simulator's tree and in trees that are none."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Gpu
from gpuward.agent.samplers.pci import PciSampler

profile = pytest.importorskip("gpuward.simulator.profile")
root_tree = pytest.importorskip("gpuward.simulator.root_tree")
state_module = pytest.importorskip("gpuward.simulator.state")

FIRST = Gpu("GPU-a", 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0")
SECOND = Gpu("GPU-b", 1, "NVIDIA H100 80GB HBM3", "00000000:43:00.0")


@pytest.fixture
def state(tmp_path):
    machine = profile.load("h100-sxm-x8")
    state = state_module.State.create(tmp_path / "state", len(machine.gpus))
    machine.write_to(state)
    yield state
    state.close()


@pytest.fixture
def tree(state, tmp_path):
    tree = root_tree.RootTree(tmp_path, state)
    tree.create()
    return tree


@pytest.fixture
def sampler(tmp_path):
    return PciSampler(tmp_path / "sys/bus/pci/devices", gpus=lambda: (FIRST, SECOND))


async def values(sampler):
    batch = await sampler.sample(1_000.0)
    return {(sample.key.signal, sample.key.gpu): sample.value for sample in batch.samples}


async def test_a_healthy_node(tree, sampler):
    """Eight are bound to the driver; of those with a name each is on the bus, without errors."""
    assert {
        ("node_gpus_expected", ""): 8.0,
        ("node_gpus_without_driver", ""): 0.0,
        **{
            (signal, gpu): value
            for gpu in ("GPU-a", "GPU-b")
            for signal, value in (
                ("gpu_on_pci_bus", 1.0),
                ("gpu_aer_fatal_total", 0.0),
                ("gpu_aer_nonfatal_total", 0.0),
                ("gpu_aer_correctable_total", 0.0),
            )
        },
    } == await values(sampler)


async def test_a_gpu_off_the_bus_and_its_errors(tree, state, sampler):
    state.gpu(1).lost = 1
    state.gpu(0).pcie_fatal_errors = 2
    tree.follow_gpus()
    seen = await values(sampler)

    assert (1.0, 0.0) == (seen["gpu_on_pci_bus", "GPU-a"], seen["gpu_on_pci_bus", "GPU-b"])
    assert 2.0 == seen["gpu_aer_fatal_total", "GPU-a"]
    assert 8.0 == seen["node_gpus_expected", ""], "it is still bound"


async def test_what_is_not_the_drivers_is_not_expected(tree, state, sampler, tmp_path):
    """A GPU given to a virtual machine, and all of them once the driver is unloaded."""
    link = tmp_path / "sys/bus/pci/devices/0000:43:00.0/driver"
    link.unlink()
    link.symlink_to("../../drivers/vfio-pci")
    assert 7.0 == (await values(sampler))["node_gpus_expected", ""]

    state.unload_driver()
    tree.follow_driver()
    assert {("node_gpus_without_driver", ""): 8.0} == await values(sampler)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda place: (place / "config").write_bytes(b""), id="empty config"),
        pytest.param(lambda place: (place / "config").unlink(), id="no config"),
        pytest.param(
            lambda place: (place / "aer_dev_fatal").write_text("TOTAL_ERR_FATAL x"), id="x"
        ),
        pytest.param(lambda place: (place / "class").write_bytes(b"\xff" * 9), id="class"),
    ],
)
async def test_a_damaged_entry_spoils_no_other(tree, sampler, tmp_path, spoil):
    place = tmp_path / "sys/bus/pci/devices/0000:1b:00.0"
    spoil(place)
    seen = await values(sampler)

    assert 1.0 == seen["gpu_on_pci_bus", "GPU-b"]
    is_readable = place.joinpath("config").exists() and place.joinpath("config").stat().st_size
    assert bool(is_readable) >= (("gpu_on_pci_bus", "GPU-a") in seen)


async def test_no_pci_is_nothing_seen(sampler):
    assert {} == await values(sampler)
