"""Look at the GPUs from PCI, which answers also while the driver hangs or has lost them.

``/sys/bus/pci/devices``: which devices are NVIDIA's GPUs and bound to the driver, whether their
configuration space still reads (all ones: fell off the bus), and how often AER reported errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.model import Gpu

VENDOR = "0x10de"
# Display controllers: VGA (0x0300xx) and 3D (0x0302xx).
CLASSES = ("0x0300", "0x0302")
DRIVER = "nvidia"
OFF_THE_BUS = b"\xff\xff\xff\xff"
# Bound against a tree that is not sysfs.
MOST_DEVICES = 4_096
AER = {
    "aer_dev_fatal": ("gpu_aer_fatal_total", "TOTAL_ERR_FATAL"),
    "aer_dev_nonfatal": ("gpu_aer_nonfatal_total", "TOTAL_ERR_NONFATAL"),
    "aer_dev_correctable": ("gpu_aer_correctable_total", "TOTAL_ERR_COR"),
}


class PciSampler:
    """Counts the driver's GPUs on the bus and reads what PCI tells of each."""

    name = "pci"
    period_s = 10.0

    def __init__(self, devices: Path, *, gpus: Callable[[], Sequence[Gpu]]) -> None:
        """``devices``: ``/sys/bus/pci/devices``; ``gpus``: are known, to name an address."""
        self._devices = devices
        self._gpus = gpus

    async def sample(self, now_s: float) -> Batch:
        """Return what PCI shows now; nothing where there is no PCI."""
        gpus = [place for place in self._places() if _is_gpu(place)]
        if not gpus:
            return Batch()
        places = [place for place in gpus if _driver(place) == DRIVER]
        orphans = sum(not _driver(place) for place in gpus)
        samples = [Sample(SeriesKey("node_gpus_without_driver"), now_s, float(orphans))]
        if places:
            samples.append(Sample(SeriesKey("node_gpus_expected"), now_s, float(len(places))))
        by_address = {_address(gpu.pci_bus_id): gpu.uuid for gpu in self._gpus()}
        for place in places:
            if uuid := by_address.get(place.name.lower()):
                samples += _of_gpu(place, uuid, now_s)
        return Batch(samples=tuple(samples))

    def _places(self) -> list[Path]:
        try:
            return sorted(self._devices.iterdir())[:MOST_DEVICES]
        except OSError:
            return []


def _is_gpu(place: Path) -> bool:
    return _text(place / "vendor") == VENDOR and _text(place / "class").startswith(CLASSES)


def _driver(place: Path) -> str:
    """Return who drives it, if anybody: a GPU given to a virtual machine is another driver's."""
    link = place / "driver"
    return link.resolve().name if link.is_symlink() else ""


def _of_gpu(place: Path, uuid: str, now_s: float) -> Iterator[Sample]:
    try:
        with (place / "config").open("rb", buffering=0) as config:
            identity = config.read(4)
    except OSError:
        identity = b""
    if identity:
        on_bus = float(identity != OFF_THE_BUS)
        yield Sample(SeriesKey("gpu_on_pci_bus", gpu=uuid), now_s, on_bus)
    for file, (signal, total) in AER.items():
        for line in _text(place / file).splitlines():
            name, _, count = line.partition(" ")
            if name == total and count.strip().isdecimal():
                yield Sample(SeriesKey(signal, gpu=uuid), now_s, float(count))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _address(bus_id: str) -> str:
    """Return NVML's ``00000000:1B:00.0`` as the kernel writes it, ``0000:1b:00.0``."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"
