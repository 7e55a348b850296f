"""What a recording says of GPUs, processes, services, events and the driver, by name.

These are the model's own values with their own names, read back without trust: an unknown field is
passed over, a missing one has the model's default, a wrong type is an error.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import asdict

from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.maintenance import Maintenance
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Driver, Event, Gpu, Process
from gpuward.agent.service_totals import ServiceTotals


class MigRow(msgspec.Struct, frozen=True):
    """A slice of a GPU."""

    uuid: str
    gpu_instance: int
    compute_instance: int


class GpuRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU."""

    uuid: str
    index: int
    name: str
    pci_bus_id: str
    serial: str = ""
    unsupported: tuple[str, ...] = ()
    mig: tuple[MigRow, ...] = ()

    def value(self) -> Gpu:
        slices = tuple(MigDevice(**asdict(one)) for one in self.mig)
        return Gpu(**{**asdict(self), "unsupported": frozenset(self.unsupported), "mig": slices})


class ProcessRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process."""

    key: str
    pid: int
    start_ticks: int
    gpus: tuple[str, ...] = ()
    unit: str = ""
    pod: str = ""
    container: str = ""
    engine: str = ""
    model: str = ""
    service: str = ""
    tapped: bool = False
    rank: str = ""
    endpoint: str = ""
    port: int = 0
    is_tls: bool = False
    slices: tuple[str, ...] = ()

    def value(self) -> Process:
        return Process(**asdict(self))


class ServiceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Totals of one instance of a service."""

    service: str
    instance: str
    started_wall_s: float
    observed_wall_s: float
    requests: int
    failed: int
    timed_out: int
    over_objective: int
    tokens: int
    ready: bool
    waiting: int
    running: int
    model: str = ""
    version: str = ""
    previous_model: str = ""
    previous_version: str = ""
    changed_wall_s: float = 0.0

    def value(self) -> ServiceTotals:
        return ServiceTotals(**asdict(self))


class EventRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened once."""

    kind: str
    at_s: float
    identity: str
    code: int = 0
    gpu: str = ""
    process: str = ""
    pid: int = 0
    text: str = ""
    values: dict[str, float] = {}

    def value(self) -> Event:
        return Event(**{**asdict(self), "values": MappingProxyType(self.values)})


class LostRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU that does not answer as one."""

    index: int
    code: int
    gpu: str = ""
    text: str = ""


class MaintenanceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A time in which the driver is being changed."""

    since_s: float
    until_s: float
    reason: str
    is_release: bool = False


class DriverRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the driver is."""

    up: bool
    version: str = ""
    waiting_s: float = 0.0
    waiting_gpu: str = ""
    waiting_call: str = ""
    blocked_state: str = ""
    wait_channel: str = ""
    confirmed_by: str = ""
    reason: str = ""
    code: int = 0
    lost: tuple[LostRow, ...] = ()
    denied: tuple[str, ...] = ()
    maintenance: MaintenanceRow | None = None

    def value(self) -> Driver:
        lost = tuple(LostGpu(**asdict(one)) for one in self.lost)
        planned = None if self.maintenance is None else Maintenance(**asdict(self.maintenance))
        return Driver(**{**asdict(self), "lost": lost, "maintenance": planned})


Row = GpuRow | ProcessRow | ServiceRow | EventRow | DriverRow


def row_of(kind: type[Any], value: object) -> Any:
    """Return ``value`` of the model as a row of ``kind``; fields that rows lack stay behind."""
    return msgspec.convert(value, kind, from_attributes=True)
