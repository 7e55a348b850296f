"""The tree of files beside NVML."""

import pytest

from gpuward.simulator.root_tree import RootTree

FILES = {
    "sys/bus/pci/devices/0000:1b:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:1b:00.0/device": "0x2330\n",
    "sys/bus/pci/devices/0000:1b:00.0/class": "0x030200\n",
    "sys/bus/pci/devices/0000:df:00.0/numa_node": "1\n",
    "sys/bus/pci/devices/0000:df:00.0/current_link_speed": "32.0 GT/s PCIe\n",
    "sys/bus/pci/devices/0000:df:00.0/max_link_width": "16\n",
    "sys/module/nvidia/version": "580.95.05\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05\n",
    "dev/kmsg": "",
}


@pytest.fixture
def tree(state, tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kmsg").write_text("of an earlier simulation\n")
    tree = RootTree(tmp_path, state)
    tree.create()
    return tree


def test_files(tree, tmp_path):
    """PCI, driver and kernel log are as the kernel writes them; an older log is gone."""
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES
    assert len(list((tmp_path / "sys/bus/pci/devices").iterdir())) == 8


def test_information(tree, tmp_path):
    """The driver's page about a GPU names it."""
    text = (tmp_path / "proc/driver/nvidia/gpus/0000:43:00.0/information").read_text()

    assert "Model:       \t NVIDIA H100 80GB HBM3\n" in text
    assert "GPU UUID:    \t GPU-3c0f2b5e-7a41-4d86-9e12-5b8d40a6c101\n" in text


def test_pci_outlives_the_driver(tree, state, tmp_path):
    """Without the driver its files are gone, and the devices are not."""
    state.unload_driver()
    tree.follow_driver()

    assert not (tmp_path / "proc/driver/nvidia").exists()
    assert len(list((tmp_path / "sys/bus/pci/devices").iterdir())) == 8


def test_a_gpu_that_fell_off_the_bus(tree, state, tmp_path):
    """Its folder stays, its configuration space reads as ones; of the others nothing changes."""
    folder = tmp_path / "sys/bus/pci/devices"
    assert (folder / "0000:43:00.0/config").read_bytes()[:4] == b"\xde\x10\x30\x23"

    state.gpu(1).lost = 1
    state.gpu(2).pcie_link_width = 8
    state.gpu(2).pcie_fatal_errors = 3
    tree.follow_gpus()

    assert (folder / "0000:43:00.0/config").read_bytes() == b"\xff" * 64
    assert (folder / "0000:1b:00.0/config").read_bytes()[:2] == b"\xde\x10"
    assert (folder / "0000:52:00.0/current_link_width").read_text() == "8\n"
    assert (folder / "0000:52:00.0/aer_dev_fatal").read_text().endswith("TOTAL_ERR_FATAL 3\n")
