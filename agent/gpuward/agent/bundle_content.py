"""Put a hardware bundle together from what was collected: names and bytes.  Pure.

A bundle leaves the house: it goes to who takes the hardware back.  So it holds GPUs, driver and
kernel, and of processes only what the agent shows anyway; no environment, no command line.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf import json_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gpuward.v1 import agent_pb2

# A file that is longer is cut at its end, and says so.
FILE_LIMIT_BYTES = 32 << 20
CUT = b"\n(cut here: too long)\n"
CONTENTS = {
    "findings.json": "what is wrong, with the evidence",
    "snapshot.json": "everything that the agent knew at that moment",
    "history.csv": "each signal of GPUs and driver in the last hour, oldest first",
    "kernel.log": "lines of the driver and of PCIe errors, this boot",
    "kernel-previous-boot.log": "the same of the boot before",
    "inforom.json": "serial, part, VBIOS and InfoROM of each GPU, remapped rows",
    "pci.json": "each NVIDIA device as PCI shows it: links, error counters",
    "versions.json": "of the driver, the kernel and gpuward",
}


@dataclass(frozen=True, slots=True)
class Collected:
    """What goes into a bundle; ``missing``: why a file is not there, by its name."""

    node: str
    at: str
    snapshot: agent_pb2.Snapshot
    history: Sequence[agent_pb2.GetHistoryResponse]
    # Lines of each log, newest last.
    logs: Mapping[str, Sequence[str]]
    # Bytes of JSON that was made elsewhere.
    inforom: bytes
    pci: Mapping[str, Any]
    versions: Mapping[str, str]
    missing: Mapping[str, str]


def files(collected: Collected) -> dict[str, bytes]:
    """Return the bundle's files by name, the README first."""
    snapshot = json_format.MessageToDict(collected.snapshot, preserving_proto_field_name=True)
    made = {
        "findings.json": _json(snapshot.pop("findings", [])),
        "snapshot.json": _json(snapshot),
        "history.csv": "".join(_history(collected.history)).encode(),
        **{name: _text(lines) for name, lines in collected.logs.items()},
        "inforom.json": collected.inforom,
        "pci.json": _json(collected.pci),
        "versions.json": _json(collected.versions),
    }
    present = {
        name: _cut(content) for name, content in made.items() if name not in collected.missing
    }
    return {"README.txt": _readme(collected, present).encode(), **present}


def archive(named: Mapping[str, bytes], *, folder: str, at_s: float) -> bytes:
    """Return a compressed tar of ``named`` in ``folder``, readable by its owner alone."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, content in named.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mtime, info.mode = len(content), int(at_s), 0o600
            tar.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def _readme(collected: Collected, present: Iterable[str]) -> str:
    lines = [
        f"Hardware bundle of node {collected.node}, {collected.at}, made by gpuward.",
        "",
        *(f"{name:26}{CONTENTS[name]}" for name in present),
    ]
    if collected.missing:
        lines += ["", "Not in it:"]
        lines += [f"{name:26}{why}" for name, why in collected.missing.items()]
    lines += [
        "",
        "Units are those of Prometheus: bytes, seconds, celsius, hertz, watts. Names of processes",
        "in kernel lines are left out; no command line and no environment is in any file.",
    ]
    return "\n".join(lines) + "\n"


def _history(answers: Iterable[agent_pb2.GetHistoryResponse]) -> Iterator[str]:
    yield "signal,gpu,at,value\n"
    for answer in answers:
        series = answer.series
        for point in answer.points:
            at = point.at.ToJsonString()
            yield f"{series.signal},{series.gpu_uuid},{at},{point.value!r}\n"


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value))


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _cut(content: bytes) -> bytes:
    return content if len(content) <= FILE_LIMIT_BYTES else content[:FILE_LIMIT_BYTES] + CUT
