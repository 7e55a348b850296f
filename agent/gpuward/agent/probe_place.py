"""Where a GPU is plugged in, and who shares it: two facts that the rules of probes need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.agent.window import Window

# nvidia-cuda-mps-server, as /proc shows it: cut to 15 characters.
MPS_SERVER = "nvidia-cuda-mps"
COMM_LIMIT_BYTES = 64
# "0000:1b:00.0": NVML's own has a domain of eight digits, and capitals.
ADDRESS_LENGTH = 12


def root_port(pci_devices: Path, bus_id: str) -> str:
    """Return the port of the processor that the GPU is below: what is below one shares a link.

    ``pci_devices``: /sys/bus/pci/devices, whose entries are links to paths with each bridge in
    them.  Empty where it is not known, so that such GPUs count as neighbours.
    """
    try:
        path = (pci_devices / bus_id.lower()[-ADDRESS_LENGTH:]).resolve(strict=True)
    except OSError:
        return ""
    parts = path.parts
    bridge = next((place for place, part in enumerate(parts) if part.startswith("pci")), None)
    return "" if bridge is None else "/".join(parts[bridge : bridge + 2])


def mps_servers(window: Window, proc_root: Path) -> frozenset[int]:
    """Return the pids of MPS servers among the processes on GPUs."""
    return frozenset(
        process.pid
        for process in window.processes
        if process.gpus and _comm(proc_root, process.pid) == MPS_SERVER
    )


def _comm(proc_root: Path, pid: int) -> str:
    try:
        with (proc_root / str(pid) / "comm").open(errors="replace") as file:
            return file.read(COMM_LIMIT_BYTES).strip()
    except OSError:
        return ""
