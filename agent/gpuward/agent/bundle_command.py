"""The work of `gpuward agent bundle`: collect, put together, write the file as a whole or not."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from gpuward.agent import wire
from gpuward.agent.agent_client import Agent, NoAnswerError, address_of, connected
from gpuward.agent.bundle_content import Collected, archive, files
from gpuward.agent.driver_log import driver_lines, record_lines
from gpuward.agent.look import boot_id, look
from gpuward.agent.pci_facts import pci_facts
from gpuward.agent.signals import SIGNALS, Scope
from gpuward.agent.version import VERSION
from gpuward.daemon import log, subprocesses
from gpuward.daemon.clock import SystemClock
from gpuward.memory_map.text import taken_text
from gpuward.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.config import AgentConfig

HOUR_S = 3_600
# Signals of a node of eight GPUs are some 800 series.
MOST_SERIES = 4_000
KMSG_LIMIT_BYTES = 16 << 20
RECORD_LIMIT_BYTES = 8_192
ANSWERED_WITHIN_S = 20.0
INFOROM = (sys.executable, "-P", "-m", "gpuward.agent.inforom_facts")
# Only what names the driver: the rest of a kernel's log is nobody's business.
JOURNAL = ("journalctl", "-k", "-q", "--no-pager", "-o", "short-iso-precise", "-n", "20000")
JOURNAL_MATCH = ("--grep", "NVRM|nvidia|SXid|AER")
DRIVER_VERSION = Path("/proc/driver/nvidia/version")
BOOTS = {"kernel.log": "0", "kernel-previous-boot.log": "-1"}


def bundle(config: AgentConfig, address: str, out: Path) -> int:
    """Write the bundle of this node to ``out``; return its size in bytes.  Raises ``OSError``."""
    # What the parts log about themselves is in the answer.
    log.configure(level="critical")
    at_s = SystemClock().wall_s()
    collected = _collect(config, address or address_of(config), at_s)
    folder = f"gpuward-{collected.node}-{datetime.fromtimestamp(at_s, UTC):%Y%m%dT%H%M%SZ}"
    content = archive(files(collected), folder=folder.replace("/", "_"), at_s=at_s)
    _write(out, content)
    return len(content)


def _collect(config: AgentConfig, address: str, at_s: float) -> Collected:
    missing: dict[str, str] = {}
    try:
        snapshot, history = _ask(address, at_s)
    except NoAnswerError as error:
        missing["history.csv"] = str(error)
        seen = asyncio.run(look(config, clock=SystemClock(), boot_id=boot_id()))
        snapshot, history = wire.snapshot_message(seen.snapshot), []
    logs, (inforom, trouble) = asyncio.run(_children())
    # Without a journal there is at least what the kernel still remembers.
    this_boot = next(iter(BOOTS))
    logs[this_boot] = logs[this_boot] or _kmsg_lines(Path(config.kmsg.path))
    pci = pci_facts(Path(config.pci.devices))
    missing |= {name: "no line of the driver" for name, lines in logs.items() if not lines}
    if trouble:
        missing["inforom.json"] = trouble
    if not pci:
        missing["pci.json"] = f"no NVIDIA device in {config.pci.devices}"
    return Collected(
        node=config.node_name,
        at=taken_text(at_s),
        snapshot=snapshot,
        history=history,
        logs=logs,
        inforom=inforom,
        pci=pci,
        versions=_versions(snapshot),
        missing=missing,
    )


async def _children() -> tuple[dict[str, Sequence[str]], tuple[bytes, str]]:
    """Return what other programs know: lines of the kernel by file, and InfoROM facts."""
    logs = {name: await _journal(boot) for name, boot in BOOTS.items()}
    return logs, await _inforom()


def _ask(
    address: str, at_s: float
) -> tuple[agent_pb2.Snapshot, list[agent_pb2.GetHistoryResponse]]:
    with connected(address) as agent:
        snapshot = agent.snapshot()
        return snapshot, list(_history(agent, snapshot, Timestamp(seconds=int(at_s) - HOUR_S)))


def _history(
    agent: Agent, snapshot: agent_pb2.Snapshot, since: Timestamp
) -> Iterator[agent_pb2.GetHistoryResponse]:
    """Yield the last hour of each signal of the hardware; processes and services are left out."""
    shown = [v.series for v in snapshot.values if _is_hardware(v.series.signal)]
    for series in shown[:MOST_SERIES]:
        request = agent_pb2.GetHistoryRequest(series=series, since=since)
        yield agent.ask(agent.stub.GetHistory, request)


def _is_hardware(signal: str) -> bool:
    # A newer agent may have signals that this command does not know.
    return signal in SIGNALS and SIGNALS[signal].scope in (Scope.GPU, Scope.NODE)


async def _journal(boot: str) -> Sequence[str]:
    try:
        done = await subprocesses.run(
            (*JOURNAL, "-b", boot, *JOURNAL_MATCH), timeout_s=ANSWERED_WITHIN_S
        )
    except OSError:
        return ()
    return list(driver_lines(done.stdout.decode("utf-8", "replace").splitlines()))


async def _inforom() -> tuple[bytes, str]:
    """Return the facts as JSON, or why there are none."""
    done = await subprocesses.run(INFOROM, timeout_s=ANSWERED_WITHIN_S)
    if done.timed_out:
        return b"", f"the driver did not answer within {ANSWERED_WITHIN_S:.0f} s"
    trouble = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return done.stdout, trouble if done.returncode else ""


def _kmsg_lines(path: Path) -> Sequence[str]:
    return list(driver_lines(record_lines(_kmsg(path))))


def _kmsg(path: Path) -> bytes:
    """Return what is in the kernel's log now: a device gives a record a read, a file all."""
    kept = bytearray()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        while len(kept) < KMSG_LIMIT_BYTES:
            try:
                record = os.read(fd, RECORD_LIMIT_BYTES)
            except BrokenPipeError:
                # Overwritten while we read; the next is at the oldest that is left.
                continue
            except OSError:
                break
            if not record:
                break
            kept += record
    finally:
        os.close(fd)
    return bytes(kept)


def _versions(snapshot: agent_pb2.Snapshot) -> dict[str, str]:
    try:
        module = DRIVER_VERSION.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        module = ""
    return {
        "gpuward": VERSION,
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "driver": snapshot.driver_version,
        "kernel_module": module,
    }


def _write(out: Path, content: bytes) -> None:
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
