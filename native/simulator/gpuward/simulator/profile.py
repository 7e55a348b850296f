"""A profile: the machine as it is before anything happens, as TOML beside this file.

``[gpu]`` holds what all GPUs have in common, ``[[gpus]]`` one table per GPU, ``[[mig_devices]]``
one per MIG device, with ``gpu``, the index of its GPU; other keys are the fields of the state
(``layout.py``), ``capabilities`` a list of names.  What is not named is zero, empty, or not
supported.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from gpuward.daemon.config import ConfigError, parse
from gpuward.simulator.layout import (
    GPU_TEXT,
    GPU_U32,
    GPU_U64,
    MAX_GPUS,
    MAX_MIG_DEVICES,
    MIG_TEXT,
    MIG_U32,
    MIG_U64,
    Capability,
    GpuRow,
    MigRow,
)

if TYPE_CHECKING:
    from gpuward.simulator.state import State

TEXT_SIZE = dict(GPU_TEXT)
LARGEST = dict.fromkeys(GPU_U64, 2**64 - 1) | dict.fromkeys(GPU_U32, 2**32 - 1)
MIG_TEXT_SIZE = dict(MIG_TEXT)
MIG_LARGEST = dict.fromkeys(("gpu", *MIG_U64), 2**64 - 1) | dict.fromkeys(MIG_U32, 2**32 - 1)

Values = dict[str, int | str | list[str]]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One machine."""

    driver_version: str
    cuda_version: int
    gpu: Values
    gpus: list[Values]
    mig_devices: list[dict[str, int | str]] = []

    def __post_init__(self) -> None:
        if not 1 <= len(self.gpus) <= MAX_GPUS:
            raise ValueError(f"gpus: 1 to {MAX_GPUS} tables, not {len(self.gpus)}")
        check_values("gpu", self.gpu)
        for index, values in enumerate(self.gpus):
            check_values(f"gpus[{index}]", values)
        for index, mig_values in enumerate(self.mig_devices):
            self._check_mig(f"mig_devices[{index}]", mig_values)

    def write_to(self, state: State) -> None:
        """Fill a blank ``state`` that was created for as many GPUs."""
        state.row.cuda_version = self.cuda_version
        for index, values in enumerate(self.gpus):
            row = state.gpu(index)
            row.minor_number = index
            for name, value in {**self.gpu, **values}.items():
                _write(row, name, value)
        for mig_values in self.mig_devices:
            gpu = state.gpu(int(mig_values["gpu"]))
            _fill(gpu.mig_devices[gpu.mig_device_count], mig_values)
            gpu.mig_device_count += 1
        state.load_driver(self.driver_version)

    def _check_mig(self, where: str, values: dict[str, int | str]) -> None:
        for name, value in values.items():
            if name in MIG_TEXT_SIZE:
                _check_text(f"{where}.{name}", value, MIG_TEXT_SIZE[name])
            elif name not in MIG_LARGEST:
                raise ValueError(f"{where}.{name}: a MIG device has no such field")
            else:
                _check_number(f"{where}.{name}", value, MIG_LARGEST[name])
        if not 0 <= int(values.get("gpu", -1)) < len(self.gpus):
            raise ValueError(f"{where}.gpu: the index of a GPU, 0 to {len(self.gpus) - 1}")
        mates = [each for each in self.mig_devices if each.get("gpu") == values["gpu"]]
        if len(mates) > MAX_MIG_DEVICES:
            raise ValueError(f"{where}.gpu: a GPU has {MAX_MIG_DEVICES} MIG devices at most")


def names() -> list[str]:
    """Return the names of the profiles that ship with the simulator, sorted."""
    folder = files("gpuward.simulator") / "profiles"
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def load(name: str) -> Profile:
    """Return the profile that ships as ``name``; raises ``ConfigError``."""
    if name not in names():
        raise ConfigError(f"profile {name!r}: there are {', '.join(names())}")
    text = (files("gpuward.simulator") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    return parse(text, Profile, name=f"profile {name}")


def check_values(where: str, values: Values) -> None:
    """Raise ``ValueError`` naming the key that no GPU has, or whose value does not fit."""
    for name, value in values.items():
        if name == "capabilities":
            _capabilities(where, value)
        elif name in TEXT_SIZE:
            _check_text(f"{where}.{name}", value, TEXT_SIZE[name])
        elif name not in LARGEST:
            raise ValueError(f"{where}.{name}: a GPU has no such field")
        else:
            _check_number(f"{where}.{name}", value, LARGEST[name])


def _check_text(where: str, value: object, size: int) -> None:
    if not isinstance(value, str) or len(value.encode()) >= size:
        raise ValueError(f"{where}: a text shorter than {size} bytes")


def _check_number(where: str, value: object, largest: int) -> None:
    if not isinstance(value, int) or not 0 <= value <= largest:
        raise ValueError(f"{where}: an integer from 0 to {largest}")


def _capabilities(where: str, value: object) -> Capability:
    if not isinstance(value, list):
        raise ValueError(f"{where}.capabilities: a list of names")  # noqa: TRY004 - msgspec's
    known = {capability.name.lower(): capability for capability in Capability if capability.name}
    for name in value:
        if name not in known:
            raise ValueError(f"{where}.capabilities: {name!r} is none of {', '.join(known)}")
    return Capability(sum(known[name] for name in value))


def _fill(row: MigRow, values: dict[str, int | str]) -> None:
    for name, value in values.items():
        if name != "gpu":
            setattr(row, name, value.encode() if isinstance(value, str) else value)


def _write(row: GpuRow, name: str, value: int | str | list[str]) -> None:
    if isinstance(value, list):
        value = int(_capabilities("gpu", value))
    setattr(row, name, value.encode() if isinstance(value, str) else value)
