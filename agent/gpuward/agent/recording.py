"""The records that a recording is made of: what samplers brought, and when the judge judged.

Times are monotonic seconds.  A record is a MessagePack array that begins with its kind, so that
fields can be added at its end; ``docs/recording.md`` describes them.  Names of series stand once in
a table and are numbers after that: a node brings the same thousands of series every second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.model import SeriesKey  # noqa: TC001 - msgspec reads it
from gpuward.agent.recording_rows import (  # noqa: TC001 - msgspec reads them
    DriverRow,
    EventRow,
    GpuRow,
    ProcessRow,
    ServiceRow,
)

if TYPE_CHECKING:
    from gpuward.agent.model import Batch

# What this version writes; it reads this one and none above.
VERSION = 1


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="begun"):
    """The first record: of whom this is, and from when on; wall = monotonic + offset."""

    version: int
    agent_version: str
    node: str
    mono_s: float
    wall_offset_s: float
    with_names: bool


class Series(msgspec.Struct, frozen=True, array_like=True, tag="series"):
    """Names of series; the first of them has the number ``first``, and later ones are forgotten.

    Each is signal, GPU, process, service, endpoint.
    """

    first: int
    keys: list[SeriesKey]


class Taken(msgspec.Struct, frozen=True, array_like=True, tag="taken"):
    """What a sampler brought: samples as three columns, and whatever else it said."""

    at_s: float
    source: str
    series: list[int]
    # One for each sample, or one for all.
    times: list[float]
    values: list[float]
    events: list[EventRow] = []
    gpus: list[GpuRow] | None = None
    processes: list[ProcessRow] | None = None
    services: list[ServiceRow] | None = None
    driver: DriverRow | None = None


class Judged(msgspec.Struct, frozen=True, array_like=True, tag="judged"):
    """A judgement, with its number: some detectors look at every fifth only."""

    at_s: float
    number: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The last record of a recording that is complete."""

    at_s: float


Record = Begun | Series | Taken | Judged | Ended


@dataclass(frozen=True, slots=True)
class Brought:
    """A batch that a sampler brought."""

    at_s: float
    source: str
    batch: Batch


# What a reader of a recording is told, in order.
Moment = Brought | Judged


class RecordingError(ValueError):
    """It is no recording, or not one that this version can read; the message is one line."""
