"""The agent's vocabulary: immutable values that samplers make, detectors judge and servers show.

Times are monotonic seconds (``Clock.mono_s``) unless a name says ``wall``; the border modules
(``wire``, ``exporter``) turn them into wall time with ``Snapshot.wall_offset_s``.  Absent by nature
is ``None`` or missing, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.lost_gpu import LostGpu
    from gpuward.agent.maintenance import Maintenance
    from gpuward.agent.mig_device import MigDevice
    from gpuward.agent.service_totals import ServiceTotals


class Result(StrEnum):
    """Outcome of a check; unknown is not healthy."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class FindingClass(StrEnum):
    """How loud a kind is by default."""

    STORE = "store"
    TICKET = "ticket"
    PAGE = "page"


class CauseDomain(StrEnum):
    """What a cause belongs to; the coordinator picks the rotation by it."""

    GPU = "gpu"
    DRIVER = "driver"
    CAPACITY = "capacity"
    NETWORK = "network"
    MODEL = "model"
    DRIFT = "drift"
    RETRIEVAL = "retrieval"
    FRESHNESS = "freshness"
    PIPELINE = "pipeline"
    SOURCE = "source"


class Action(StrEnum):
    """The least harmful thing that would help."""

    NONE = "none"
    CHECK_APPLICATION = "check_application"
    RESTART_APPLICATION = "restart_application"
    SCALE_UP = "scale_up"
    RESET_GPU = "reset_gpu"
    REBOOT_NODE = "reboot_node"
    DRAIN_NODE = "drain_node"
    REPLACE_HARDWARE = "replace_hardware"
    INSTALL_DRIVER = "install_driver"


class Outcome(Enum):
    """What a detector saw of a condition this tick."""

    BAD = "bad"
    # Between the raise limit and the clear limit: keeps an open finding open, raises none.
    DOUBTFUL = "doubtful"
    # Could not look (stale, hung, gone): keeps whatever is.
    UNKNOWN = "unknown"


# Tuples, not dataclasses: thousands a second are made, and looked up by their hash.
class SeriesKey(NamedTuple):
    """Names a series; ``gpu`` is the UUID, ``process`` the process key, empty where not of one.

    ``endpoint``: with a service a replica's address, without one the name of an upstream.
    """

    signal: str
    gpu: str = ""
    process: str = ""
    service: str = ""
    endpoint: str = ""


class Sample(NamedTuple):
    """One value of a series, Prometheus base unit."""

    key: SeriesKey
    at_s: float
    value: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """Identity of a GPU; ``serial`` is empty on cards that have none."""

    uuid: str
    index: int
    name: str
    pci_bus_id: str
    serial: str = ""
    # Signals that this GPU does not support: polled no more, shown nowhere.
    unsupported: frozenset[str] = frozenset()
    # Empty unless the GPU is cut into slices.  Their processes belong to the GPU.
    mig: tuple[MigDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds GPU memory or publishes a tap file; pid in the host's namespace."""

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
    # Its place among those that serve one model together, in the engine's words: TP1, DP0_TP1.
    rank: str = ""
    endpoint: str = ""
    # Where its engine has its metrics page, 0 where nothing says so, and whether behind TLS.
    port: int = 0
    is_tls: bool = False
    # UUIDs of the MIG devices that it is in, where the driver says so.
    slices: tuple[str, ...] = ()
    pod_name: str = ""  # namespace/name, where the node says so; ``pod`` is the UID.


@dataclass(frozen=True, slots=True)
class Event:
    """What happened once, such as an XID; ``identity`` is the same however often it is read."""

    kind: str
    at_s: float
    identity: str
    code: int = 0
    gpu: str = ""
    process: str = ""
    pid: int = 0
    text: str = ""
    values: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about; ``endpoint``: a replica's address, or the name of an upstream."""

    gpu: str = ""
    gpu_serial: str = ""
    process: str = ""
    pid: int = 0
    unit: str = ""
    pod: str = ""
    container: str = ""
    engine: str = ""
    model: str = ""
    service: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact: value in the base unit ``unit``, or words in ``text``."""

    name: str
    value: float = 0.0
    unit: str = ""
    threshold: float | None = None
    text: str = ""
    source: str = ""
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector says of one condition at one tick; the judge gives it a life."""

    kind: str
    subject: Subject
    summary: str
    outcome: Outcome = Outcome.BAD
    result: Result = Result.FAIL
    code: int = 0
    # Estimated onset; the judge uses the first tick that saw it when None.
    since_s: float | None = None
    confidence: float = 1.0
    evidence: tuple[Evidence, ...] = ()
    action: Action | None = None
    # Where it is not the kind's: a cause may be anybody's.
    domain: CauseDomain | None = None
    causes: tuple[str, ...] = ()
    # A warning that has been seen for so long is a failure.
    fails_after_s: float | None = None
    # Seen while the driver was changed on purpose, so evidence only; raised on purpose, this loud.
    in_maintenance: bool = False
    drill: FindingClass | None = None

    @property
    def dedup_key(self) -> str:
        """Same trouble on the same subject, always the same key (the node is added on the wire)."""
        about = self.subject
        is_replica = bool(about.service and about.endpoint)
        # Whom a process serves is found out after it was judged, and may change; of a replica it is
        # the GPU and the process that are found out.
        service = "" if (about.gpu or about.process) and not is_replica else about.service
        gpu, process = ("", "") if is_replica else (about.gpu, about.process)
        parts = [self.kind, str(self.code or ""), gpu, process, service]
        parts += filter(None, (about.endpoint, "" if self.drill is None else "drill"))
        return "|".join(parts)


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A raised finding: its life, and what the detector said last."""

    finding_id: str
    finding: Finding
    since_s: float
    raised_s: float
    last_seen_s: float
    count: int
    # Keys of other findings that this one follows from, beside those that the detector named.
    explained_by: tuple[str, ...] = ()
    # One of them is as loud: this one is evidence, and nobody is told of it.
    suppressed: bool = False


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """Health of a sampler, detector or probe of the agent itself."""

    component: str
    result: Result
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one sampler saw in one turn; ``gpus``/``processes`` replace its earlier inventory."""

    samples: tuple[Sample, ...] = ()
    events: tuple[Event, ...] = ()
    gpus: tuple[Gpu, ...] | None = None
    processes: tuple[Process, ...] | None = None
    services: tuple[ServiceTotals, ...] | None = None
    driver: Driver | None = None


@dataclass(frozen=True, slots=True)
class Driver:
    """How the driver is: ``waiting_s`` is the age of the oldest unanswered call, 0 when none."""

    up: bool
    version: str = ""
    waiting_s: float = 0.0
    # GPU whose call is unanswered; empty when it is not of one GPU.
    waiting_gpu: str = ""
    waiting_call: str = ""
    # State letter and wait channel of the child's blocked thread, where /proc shows them.
    blocked_state: str = ""
    wait_channel: str = ""
    # Who else found the driver silent; empty while it is the word of one process.
    confirmed_by: str = ""
    reason: str = ""
    code: int = 0
    lost: tuple[LostGpu, ...] = ()
    denied: tuple[str, ...] = ()
    maintenance: Maintenance | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent picture of the node, swapped by reference, read without locks."""

    node: str
    boot_id: str
    at_s: float
    # wall = monotonic + offset, taken when the snapshot was made.
    wall_offset_s: float
    driver: Driver
    gpus: tuple[Gpu, ...] = ()
    processes: tuple[Process, ...] = ()
    samples: Mapping[SeriesKey, Sample] = field(default_factory=lambda: MappingProxyType({}))
    open_findings: tuple[OpenFinding, ...] = ()
    services: tuple[ServiceTotals, ...] = ()
    components: tuple[ComponentHealth, ...] = ()
