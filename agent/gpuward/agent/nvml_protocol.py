"""What the NVML child tells its parent: a list of messages a datagram, child to parent only.

A SEQPACKET socket pair keeps the borders of datagrams, never hands over half of one, and its end is
the parent's way of asking the child to leave.  The child never waits for the parent: messages
that do not fit in the socket's buffer are dropped and counted in the next ``Heartbeat``.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.mig_device import MigDevice  # noqa: TC001 - msgspec needs them at run time
from gpuward.agent.model import Process  # noqa: TC001 - msgspec needs them at run time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Far above the largest message (512 processes), far below the socket's default buffer (208 KiB).
MESSAGE_LIMIT_BYTES = 131_072


class Present(msgspec.Struct, frozen=True, tag="present"):
    """NVML is initialised; ``gpus`` of them will each report by themselves."""

    driver_version: str
    gpus: int


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A GPU said who it is; sent again whenever it becomes known what it does not answer."""

    index: int
    uuid: str
    name: str
    pci_bus_id: str
    serial: str = ""
    unsupported: tuple[str, ...] = ()
    # Calls that NVML refuses to the child's user.
    denied: tuple[str, ...] = ()
    mig: tuple[MigDevice, ...] = ()


class Trouble(msgspec.Struct, frozen=True, tag="trouble"):
    """A GPU does not answer as a GPU any more: lost, not found, or in need of a reset."""

    index: int
    code: int
    text: str


class Readings(msgspec.Struct, frozen=True, tag="readings"):
    """What one turn of a lane read of a GPU, or of a MIG device of it: values in the base unit.

    ``names``: of the signals, with a space between.  They stay the same from second to second, so
    they are one text, which is compared and not read.
    """

    index: int
    at_s: float
    names: str
    values: list[float]
    # UUID of the MIG device; empty of the GPU itself.
    mig: str = ""


def readings(index: int, at_s: float, values: Mapping[str, float], mig: str = "") -> Readings:
    """Return ``values`` by signal as a message."""
    return Readings(index, at_s, " ".join(values), list(values.values()), mig)


class Holder(msgspec.Struct, frozen=True):
    """A process that holds memory of a GPU; figures are ``None`` where NVML cannot say."""

    process: Process
    memory_bytes: int | None
    utilization_ratio: float | None = None
    # GPU instance and compute instance of each MIG device that it is in.
    instances: tuple[tuple[int, int], ...] = ()


class Holders(msgspec.Struct, frozen=True, tag="holders"):
    """Every process that holds memory of a GPU."""

    index: int
    at_s: float
    processes: tuple[Holder, ...]


class Waiting(msgspec.Struct, frozen=True):
    """A call that has not returned; ``index`` is -1 when it is not about one GPU."""

    index: int
    call: str
    since_s: float
    thread_id: int


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """The child's main thread lives, and these calls are unanswered."""

    at_s: float
    waiting: tuple[Waiting, ...] = ()
    dropped: int = 0


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """The driver is missing or another one was loaded; the child ends with EX_TEMPFAIL."""

    code: int
    text: str


class XidReported(msgspec.Struct, frozen=True, tag="xid"):
    """NVML has an event of an XID; the rest of what the driver says stands in the kernel's log."""

    index: int
    # When it was heard of, late on a busy node or of a slow driver: at ``since_s`` it was not yet.
    at_s: float
    code: int
    since_s: float


class Leaving(msgspec.Struct, frozen=True, tag="leaving"):
    """The driver wants to leave its GPUs: the child ends, and must not come back before that."""


Message = Present | Found | Trouble | Readings | Holders | Heartbeat | XidReported | Gone | Leaving

_DECODER: msgspec.msgpack.Decoder[list[Message]] = msgspec.msgpack.Decoder(list[Message])
_ENCODER = msgspec.msgpack.Encoder()


def encode(messages: Sequence[Message]) -> bytes:
    """Return ``messages`` as one datagram, however large."""
    return _ENCODER.encode(messages)


def datagrams(messages: Sequence[Message]) -> Iterator[tuple[bytes, int]]:
    """Return ``messages`` in few datagrams that are not too large, each with its count of them."""
    data = encode(messages)
    if len(data) <= MESSAGE_LIMIT_BYTES or len(messages) == 1:
        yield data, len(messages)
        return
    half = len(messages) // 2
    yield from datagrams(messages[:half])
    yield from datagrams(messages[half:])


def decode(data: bytes) -> list[Message]:
    """Return the messages in one datagram; raises ``msgspec.MsgspecError``."""
    return _DECODER.decode(data)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the parent's end and the child's end; neither end ever waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    return ours, theirs
