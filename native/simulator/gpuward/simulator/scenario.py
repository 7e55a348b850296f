"""A scenario: what happens to a simulated machine over time, as TOML.

    profile = "h100-sxm-x8"

    [[steps]]
    at_s = 10
    do = "ramp"
    over_s = 30
    gpus = [3]
    values = { temperature_celsius = 92 }

Each step has ``at_s`` (seconds from the start) and ``do``, which says what other keys it has: one
struct below per ``do``.  ``gpus`` left out means all.  Values are the fields of ``layout.py``, in
NVML's own units.
"""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, ClassVar

import msgspec

from gpuward.daemon.config import ConfigError
from gpuward.daemon.config import load as load_toml
from gpuward.simulator import profile as profiles
from gpuward.simulator.layout import ALL_CALLS, MAX_MIG_DEVICES, CallGroup, ProcessKind
from gpuward.simulator.profile import LARGEST, Profile

if TYPE_CHECKING:
    from pathlib import Path

CALL_GROUPS = {group.name.lower(): group for group in CallGroup if group.name}
MOST_LINES = 1_000_000
PROCESS_KINDS = {kind.name.lower(): kind for kind in ProcessKind}


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="do"):
    """Something that happens ``at_s``."""

    at_s: float
    gpus: list[int] | None = None

    spans: ClassVar[tuple[str, ...]] = ("at_s", "over_s", "for_s", "delay_s")

    def __post_init__(self) -> None:
        for name in self.spans:
            value = getattr(self, name, None)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: seconds, zero or more")


class _Fields(Step, frozen=True, kw_only=True):
    """A step about fields of GPUs."""

    values: dict[str, int]

    def __post_init__(self) -> None:
        Step.__post_init__(self)
        for name, value in self.values.items():
            if name not in LARGEST:
                raise ValueError(f"values.{name}: a GPU has no such number")
            if not 0 <= value <= LARGEST[name]:
                raise ValueError(f"values.{name}: an integer from 0 to {LARGEST[name]}")


class Set(_Fields, frozen=True, kw_only=True, tag="set"):
    """Set fields at once."""


class Ramp(_Fields, frozen=True, kw_only=True, tag="ramp"):
    """Move fields in a straight line to ``values``, ``over_s`` from now."""

    over_s: float


class Noise(_Fields, frozen=True, kw_only=True, tag="noise"):
    """Add at most ``values``, up or down, ten times a second; an amplitude of 0 ends it."""


class _Calls(Step, frozen=True, kw_only=True):
    """A step about groups of driver calls; without ``gpus`` it includes those about no GPU."""

    calls: list[str] = msgspec.field(default_factory=lambda: list(CALL_GROUPS))
    for_s: float | None = None

    def __post_init__(self) -> None:
        Step.__post_init__(self)
        for name in self.calls:
            if name not in CALL_GROUPS:
                raise ValueError(f"calls: {name!r} is none of {', '.join(CALL_GROUPS)}")

    @property
    def groups(self) -> CallGroup:
        """The groups as a mask."""
        return ALL_CALLS & CallGroup(sum(CALL_GROUPS[name] for name in set(self.calls)))


class Hang(_Calls, frozen=True, kw_only=True, tag="hang"):
    """Calls do not return for ``for_s``, or for ever; an empty list of calls ends it."""


class Delay(_Calls, frozen=True, kw_only=True, tag="delay"):
    """Each call takes ``delay_s`` longer."""

    delay_s: float


class Lost(Step, frozen=True, kw_only=True, tag="lost"):
    """The GPU falls off the bus."""


class Xid(Step, frozen=True, kw_only=True, tag="xid"):
    """The driver reports an XID: a kernel log line and an NVML event.

    ``process``: the name of the started process that it blames.
    """

    code: int
    message: str | None = None
    process: str | None = None


class Sxid(Step, frozen=True, kw_only=True, tag="sxid"):
    """The driver of the NVSwitches reports an SXid: a kernel log line, about no GPU."""

    code: int
    switch: int = 0
    fatal: bool = False
    message: str | None = None


class KernelLines(Step, frozen=True, kw_only=True, tag="kernel_lines"):
    """The kernel log gets ``text``, ``count`` times at once; ``{n}`` in it is the line's number."""

    text: str
    count: int = 1
    level: int = 6

    def __post_init__(self) -> None:
        Step.__post_init__(self)
        if not 0 < self.count <= MOST_LINES:
            raise ValueError(f"count: 1 to {MOST_LINES}")


class Start(Step, frozen=True, kw_only=True, tag="start"):
    """A real child process starts and takes ``memory_bytes`` of each GPU.

    ``mig_device``: of the MIG device with this number, counted from 1, instead of the whole GPU.
    """

    process: str
    memory_bytes: int = 0
    sm_percent: int = 0
    kind: str = "compute"
    mig_device: int = 0
    command: list[str] = msgspec.field(default_factory=lambda: ["sleep", "infinity"])

    def __post_init__(self) -> None:
        Step.__post_init__(self)
        if self.kind not in PROCESS_KINDS:
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(PROCESS_KINDS)}")
        if not self.command:
            raise ValueError("command: at least the program")
        if self.memory_bytes < 0:
            raise ValueError("memory_bytes: zero or more")
        if not 0 <= self.mig_device <= MAX_MIG_DEVICES:
            raise ValueError(f"mig_device: 1 to {MAX_MIG_DEVICES}, or 0 for the whole GPU")


class Take(Step, frozen=True, kw_only=True, tag="take"):
    """A started process takes more memory, or gives back when ``memory_bytes`` is negative."""

    process: str
    memory_bytes: int


class Stop(Step, frozen=True, kw_only=True, tag="stop"):
    """A started process gets a signal; the driver frees its memory when it is gone."""

    process: str
    signal: str = "TERM"

    def __post_init__(self) -> None:
        Step.__post_init__(self)
        if f"SIG{self.signal}" not in signal.Signals.__members__:
            raise ValueError(f"signal: {self.signal!r} is none, such as TERM or KILL")


class Unbind(Step, frozen=True, kw_only=True, tag="unbind"):
    """The driver announces that it is to leave its GPUs, as before an unload."""


class Bind(Step, frozen=True, kw_only=True, tag="bind"):
    """The driver announces that it has its GPUs again."""


class Unload(Step, frozen=True, kw_only=True, tag="unload"):
    """The driver's kernel module is unloaded."""


class Load(Step, frozen=True, kw_only=True, tag="load"):
    """The driver is loaded as ``version``.

    Processes that had initialised NVML before keep the older library, hence "version mismatch".
    ``library_version``: of the library that new processes load, when it differs.
    """

    version: str
    library_version: str | None = None


AnyStep = (
    Set
    | Ramp
    | Noise
    | Hang
    | Delay
    | Lost
    | Xid
    | Sxid
    | KernelLines
    | Start
    | Take
    | Stop
    | Unbind
    | Bind
    | Unload
    | Load
)


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A machine and what happens to it."""

    profile: str
    seed: int = 0
    steps: list[AnyStep] = []

    def __post_init__(self) -> None:
        started: set[str] = set()
        for index, step in sorted(enumerate(self.steps), key=lambda each: each[1].at_s):
            process = getattr(step, "process", None)
            if isinstance(step, Start):
                if step.process in started:
                    raise ValueError(f"steps[{index}].process: {step.process!r} has started before")
                started.add(step.process)
            elif process is not None and process not in started:
                raise ValueError(f"steps[{index}].process: {process!r} has not started by then")


def load(name: str, path: Path) -> tuple[Scenario, Profile]:
    """Return the scenario at ``path``, or an uneventful one of the profile called ``name``.

    Raises ``ConfigError``.
    """
    if not path.exists() and name in profiles.names():
        return Scenario(profile=name), profiles.load(name)
    if not path.exists():
        raise ConfigError(
            f"{name}: no such scenario file, and no profile ({', '.join(profiles.names())})"
        )
    scenario = load_toml(path, Scenario)
    try:
        profile = profiles.load(scenario.profile)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    _check_gpus(path, scenario, len(profile.gpus))
    return scenario, profile


def _check_gpus(path: Path, scenario: Scenario, gpu_count: int) -> None:
    for index, step in enumerate(scenario.steps):
        for gpu in step.gpus or ():
            if not 0 <= gpu < gpu_count:
                raise ConfigError(
                    f"{path}: steps[{index}].gpus: {gpu} is not 0 to {gpu_count - 1}, "
                    f"the GPUs of {scenario.profile}"
                )
