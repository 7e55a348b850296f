"""Print what a manufacturer asks about each GPU before it takes one back: a program of its own.

``python -m gpuward.agent.inforom_facts`` asks NVML and prints JSON.  It is a child of
`gpuward agent bundle`, so that a driver that hangs costs the bundle this file and nothing else.
A fact that a product lacks is left out.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable

# NVML's inforom objects: OEM, ECC, power.
INFOROM_OBJECTS = {"oem": 0, "ecc": 1, "power": 2}
CALLS: dict[str, Callable[[Any], Any]] = {
    "uuid": pynvml.nvmlDeviceGetUUID,
    "serial": pynvml.nvmlDeviceGetSerial,
    "name": pynvml.nvmlDeviceGetName,
    "board_part_number": pynvml.nvmlDeviceGetBoardPartNumber,
    "vbios_version": pynvml.nvmlDeviceGetVbiosVersion,
    "gsp_firmware_version": pynvml.nvmlDeviceGetGspFirmwareVersion,
    "inforom_image_version": pynvml.nvmlDeviceGetInforomImageVersion,
    "inforom_checksum": pynvml.nvmlDeviceGetInforomConfigurationChecksum,
    "pci_bus_id": lambda handle: pynvml.nvmlDeviceGetPciInfo(handle).busId,
    "remapped_rows": pynvml.nvmlDeviceGetRemappedRows,
    "module_id": pynvml.nvmlDeviceGetModuleId,
}


def facts() -> dict[str, Any]:
    """Return versions of the driver and the facts of each GPU; a call that fails is left out."""
    pynvml.nvmlInit()
    found: dict[str, Any] = {
        "driver_version": pynvml.nvmlSystemGetDriverVersion(),
        "nvml_version": pynvml.nvmlSystemGetNVMLVersion(),
        "gpus": [],
    }
    for index in range(pynvml.nvmlDeviceGetCount()):
        found["gpus"].append({"index": index, **_of_gpu(index)})
    return found


def _of_gpu(index: int) -> dict[str, Any]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return {"error": str(error)}
    facts: dict[str, Any] = {}
    for name, call in CALLS.items():
        value = _asked(call, handle)
        if value is not None:
            facts[name] = value
    versions = {
        name: _asked(partial(_inforom_version, number), handle)
        for name, number in INFOROM_OBJECTS.items()
    }
    facts["inforom_versions"] = {name: v for name, v in versions.items() if v is not None}
    return facts


def _inforom_version(number: int, handle: Any) -> Any:
    return pynvml.nvmlDeviceGetInforomVersion(handle, number)


def _asked(call: Callable[[Any], Any], handle: Any) -> Any:
    try:
        value = call(handle)
    except pynvml.NVMLError:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def main() -> None:
    """Print the facts, or one line why there are none."""
    try:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(facts())))
    except pynvml.NVMLError as error:
        sys.exit(f"NVML: {error}")


if __name__ == "__main__":
    main()
