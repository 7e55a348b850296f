"""Read what PCI knows of NVIDIA's devices: links, error counters, the start of configuration space.

``/sys/bus/pci/devices``; it answers also while the driver hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VENDOR = "0x10de"
FILES = (
    "class",
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "revision",
    "numa_node",
    "current_link_speed",
    "current_link_width",
    "max_link_speed",
    "max_link_width",
    "aer_dev_correctable",
    "aer_dev_nonfatal",
    "aer_dev_fatal",
)
MOST_DEVICES = 4_096
TEXT_LIMIT = 4_096
# The standard header; the rest needs root and says little more.
CONFIG_BYTES = 64


def pci_facts(devices: Path) -> dict[str, dict[str, str]]:
    """Return each NVIDIA device's files by its address; empty where there is no PCI."""
    try:
        places = sorted(devices.iterdir())[:MOST_DEVICES]
    except OSError:
        return {}
    return {place.name: _facts(place) for place in places if _text(place / "vendor") == VENDOR}


def _facts(place: Path) -> dict[str, str]:
    facts = {name: text for name in FILES if (text := _text(place / name))}
    try:
        with (place / "config").open("rb", buffering=0) as config:
            facts["config"] = config.read(CONFIG_BYTES).hex()
    except OSError:
        pass
    return facts


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()[:TEXT_LIMIT]
    except OSError:
        return ""
