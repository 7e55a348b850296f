"""Files that the kernel would show about the simulated GPUs, below a directory of one's choice.

``dev/kmsg``, ``sys/bus/pci/devices/*``, ``sys/module/nvidia/version``, ``proc/driver/nvidia/*``:
what an agent reads besides NVML.  The driver's own files come and go with it; PCI stays.
"""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.simulator.layout import GpuRow
    from gpuward.simulator.state import State

LINK_SPEEDS = {1: "2.5 GT/s PCIe", 2: "5.0 GT/s PCIe", 3: "8.0 GT/s PCIe"} | {
    4: "16.0 GT/s PCIe",
    5: "32.0 GT/s PCIe",
    6: "64.0 GT/s PCIe",
}
CONFIGURATION_BYTES = 64


class RootTree:
    """The directory ``root``, made to agree with ``state``."""

    def __init__(self, root: Path, state: State) -> None:
        self._root = root
        self._state = state
        self.kernel_log = root / "dev" / "kmsg"

    def create(self) -> None:
        """Write everything; existing files of the same names are replaced."""
        self.kernel_log.parent.mkdir(parents=True, exist_ok=True)
        self.kernel_log.unlink(missing_ok=True)
        self.kernel_log.touch()
        self.follow_driver()

    def follow_gpus(self) -> None:
        """Write what PCI shows of each GPU as it is now."""
        for gpu in self._gpus():
            folder = f"sys/bus/pci/devices/{bus_id(gpu)}"
            self._write_files(folder, _pci_files(gpu))
            (self._root / folder / "config").write_bytes(_configuration(gpu))
            self._bind(self._root / folder)

    def _bind(self, device: Path) -> None:
        """Link a device to the driver that it is bound to, if any."""
        link = device / "driver"
        link.unlink(missing_ok=True)
        if self._state.row.driver_loaded:
            link.symlink_to("../../drivers/nvidia")

    def follow_driver(self) -> None:
        """Write the driver's own files while it is loaded, remove them while it is not."""
        drivers = self._root / "sys/bus/pci/drivers/nvidia"
        drivers.mkdir(parents=True, exist_ok=True)
        for folder in ("proc/driver/nvidia", "sys/module/nvidia"):
            shutil.rmtree(self._root / folder, ignore_errors=True)
        self.follow_gpus()
        if not self._state.row.driver_loaded:
            return
        version = self._state.row.driver_version.decode()
        self._write_files("sys/module/nvidia", {"version": f"{version}\n"})
        self._write_files(
            "proc/driver/nvidia",
            {"version": f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}\n"},
        )
        for gpu in self._gpus():
            self._write_files(
                f"proc/driver/nvidia/gpus/{bus_id(gpu)}", {"information": _information(gpu)}
            )

    def _gpus(self) -> list[GpuRow]:
        return [self._state.gpu(index) for index in range(self._state.row.gpu_count)]

    def _write_files(self, folder: str, texts: dict[str, str]) -> None:
        directory = self._root / folder
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")


def bus_id(gpu: GpuRow) -> str:
    """Return the kernel's name of the PCI device."""
    return f"{gpu.pci_domain:04x}:{gpu.pci_bus:02x}:{gpu.pci_device:02x}.0"


def _pci_files(gpu: GpuRow) -> dict[str, str]:
    # NVML packs device and vendor into one number, each 16 bits.
    return {
        "vendor": f"0x{gpu.pci_device_id & 0xFFFF:04x}\n",
        "device": f"0x{gpu.pci_device_id >> 16:04x}\n",
        "class": f"0x{gpu.pci_class:06x}\n",
        "numa_node": f"{gpu.numa_node}\n",
        "current_link_speed": f"{LINK_SPEEDS[gpu.pcie_link_generation]}\n",
        "max_link_speed": f"{LINK_SPEEDS[gpu.pcie_link_generation_max]}\n",
        "current_link_width": f"{gpu.pcie_link_width}\n",
        "max_link_width": f"{gpu.pcie_link_width_max}\n",
        "aer_dev_correctable": f"RxErr {gpu.pcie_correctable_errors}\nTOTAL_ERR_COR "
        f"{gpu.pcie_correctable_errors}\n",
        "aer_dev_nonfatal": f"TLP 0\nTOTAL_ERR_NONFATAL {gpu.pcie_nonfatal_errors}\n",
        "aer_dev_fatal": f"TLP 0\nTOTAL_ERR_FATAL {gpu.pcie_fatal_errors}\n",
    }


def _configuration(gpu: GpuRow) -> bytes:
    """Return the head of the configuration space; of a device that fell off the bus, all ones."""
    if gpu.lost:
        return b"\xff" * CONFIGURATION_BYTES
    # Vendor and device: 16 bits each, in one number for NVML too.
    return struct.pack("<I", gpu.pci_device_id).ljust(CONFIGURATION_BYTES, b"\0")


def _information(gpu: GpuRow) -> str:
    lines = {
        "Model": gpu.name.decode(),
        "GPU UUID": gpu.uuid.decode(),
        "Video BIOS": gpu.vbios_version.decode(),
        "Bus Type": "PCIe",
        "Bus Location": bus_id(gpu),
        "Device Minor": str(gpu.minor_number),
    }
    return "".join(f"{name + ':':<12} \t {value}\n" for name, value in lines.items())
