"""Ask the probe workers for their figures, on a schedule.

The agent itself starts one worker only, that of the processor, and only where none answers.  A
worker on a GPU holds a CUDA context of some hundred MiB: whether there is room beside the engines
is for the operator to say, by enabling ``gpuward-probe@UUID``; where its socket is, it is asked,
unless the GPU is so full that even a burst might take what an engine is about to need.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Literal, Self

import msgspec
import structlog

from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.daemon import subprocesses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gpuward.agent.model import Gpu

log = structlog.get_logger()

Mode = Literal["auto", "cpu", "off"]

COMMAND = (sys.executable, "-P", "-m", "gpuward.agent.probe_worker")
CPU = "cpu"
STALLED = "stalled"
REQUEST = b'{"probe": "latency"}'
RELEASE = b'{"release": true}'
REPLY_LIMIT_BYTES = 65_536
# Longer than a probe's own deadline (2 s), shorter than a turn.
ANSWER_S = 3.0
# A probe that is under way, and the end of a CUDA context.
LET_GO_S = 8.0
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
LEAST_FREE_BYTES = 1 << 30
# One second after SIGTERM, one after SIGKILL.
LEAVE_POLLS = 50
POLL_S = 0.02


class Reply(msgspec.Struct, frozen=True):
    """What a worker answers: figures, or which condition kept it from measuring."""

    figures: dict[str, float] = {}
    error: str = ""
    reason: str = ""

    @property
    def complaint(self) -> str:
        """Return why there are no figures, for a person."""
        return ": ".join(filter(None, (self.error, self.reason)))[:200]


class ProbeSampler:
    """Turns the workers' launch latency into samples."""

    name = "probe"
    period_s = 10.0

    def __init__(
        self,
        directory: Path,
        *,
        mode: Mode = "auto",
        gpus: Callable[[], Sequence[Gpu]] = tuple,
        free_bytes: Callable[[str], float | None] = lambda _: None,
        is_released: Callable[[], bool] = lambda: False,
        command: Sequence[str] = COMMAND,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """``directory``: of the sockets; ``free_bytes``: memory left on the GPU with a UUID.

        ``is_released``: nobody may open the driver now.
        """
        self._directory = directory
        self._mode = mode
        self._gpus = gpus
        self._free_bytes = free_bytes
        self._is_released = is_released
        self._command = command
        self._env = env
        self._worker: subprocesses.Child | None = None
        # Our end of a pipe that the worker watches.
        self._ours = -1
        self._start_s = 0.0
        self._back_off_s = FIRST_BACK_OFF_S
        self._trouble: dict[str, str] = {}
        # GPUs come and go, but there are never many of them.
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def health(self) -> ComponentHealth:
        """Unknown while a worker does not measure, with the reason."""
        reasons = "; ".join(f"{device}: {text}" for device, text in sorted(self._trouble.items()))
        return ComponentHealth(self.name, Result.UNKNOWN if reasons else Result.OK, reasons)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def sample(self, now_s: float) -> Batch:
        """Return what each worker that answers has measured just now."""
        self._trouble.clear()
        async with asyncio.TaskGroup() as group:
            asked = [
                (device, group.create_task(self.measure(device, now_s)))
                for device in self._devices()
            ]
        launch_s = [(device, task.result().figures.get("launch_seconds")) for device, task in asked]
        return Batch(
            samples=tuple(
                Sample(_key(device), now_s, value)
                for device, value in launch_s
                if value is not None and math.isfinite(value)
            )
        )

    async def measure(self, device: str, now_s: float) -> Reply:
        """Return what the worker of ``device`` measures now, one question at a time."""
        async with self._turns.setdefault(device, asyncio.Lock()):
            reply = await self._ask(device, now_s)
        if reply.error:
            self._trouble[device] = reply.complaint
        else:
            self._back_off_s = FIRST_BACK_OFF_S
        return reply

    def refusal(self, device: str) -> str:
        """Return why ``device`` must not be measured now; empty when it may be."""
        if device == CPU:
            return ""
        if self._mode == "cpu":
            return "[probes] mode is cpu: GPUs are not measured on this node"
        if self._is_released():
            return "the driver is being changed: nobody may open it now"
        if not self._socket_path(device).exists():
            return f"no worker: gpuward-probe@{device} is not enabled"
        if not self._is_welcome(device):
            return f"too little memory is free: a probe needs {LEAST_FREE_BYTES >> 20} MiB"
        return ""

    async def stop(self) -> None:
        """Ask the worker that we started to stop."""
        self._let_go()
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if worker.poll() is None:
                subprocesses.kill_group(worker.pid, number)
            for _ in range(LEAVE_POLLS):
                if worker.poll() is not None:
                    return
                await asyncio.sleep(POLL_S)

    async def let_go(self) -> tuple[str, ...]:
        """Ask every worker on a GPU to close it; returns the GPUs of those that did not."""
        devices = sorted(path.stem for path in self._directory.glob("*.sock") if path.stem != CPU)
        async with asyncio.TaskGroup() as group:
            asked = [(device, group.create_task(self._has_let_go(device))) for device in devices]
        return tuple(device for device, task in asked if not task.result())

    async def _has_let_go(self, device: str) -> bool:
        try:
            async with asyncio.timeout(LET_GO_S):
                reply = await _request(self._socket_path(device), RELEASE)
        except (FileNotFoundError, ConnectionRefusedError):
            # A worker that is gone holds nothing.
            return True
        except (OSError, msgspec.MsgspecError):
            return False
        return not reply.error

    def _devices(self) -> list[str]:
        if self._mode == "off":
            return []
        if self._mode == "cpu" or self._is_released():
            return [CPU]
        return [CPU, *(gpu.uuid for gpu in self._gpus() if self._is_welcome(gpu.uuid))]

    def _is_welcome(self, uuid: str) -> bool:
        free = self._free_bytes(uuid)
        has_room = free is not None and free >= LEAST_FREE_BYTES
        return has_room and self._socket_path(uuid).exists()

    def _socket_path(self, device: str) -> Path:
        return self._directory / f"{device}.sock"

    async def _ask(self, device: str, now_s: float) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await _request(self._socket_path(device), REQUEST)
        except TimeoutError:
            return Reply(error=STALLED, reason=f"no answer within {ANSWER_S:g} s")
        except (FileNotFoundError, ConnectionError):
            if device == CPU:
                self._start_worker(now_s)
            return Reply(error="no worker")
        except (OSError, msgspec.MsgspecError) as error:
            return Reply(error="unreadable", reason=str(error))

    def _start_worker(self, now_s: float) -> None:
        if now_s < self._start_s or (self._worker and self._worker.poll() is None):
            return
        if self._worker:
            log.warning("probe_worker.ended", status=self._worker.poll())
        self._start_s = now_s + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, LONGEST_BACK_OFF_S)
        self._let_go()
        theirs, self._ours = os.pipe()
        try:
            self._worker = subprocesses.start(
                [
                    *(*self._command, "--gpu", CPU, "--socket", str(self._socket_path(CPU))),
                    *("--leave-with", str(theirs)),
                ],
                env=self._env,
                pass_fds=(theirs,),
            )
        finally:
            os.close(theirs)

    def _let_go(self) -> None:
        """Close our end of the worker's pipe: it leaves, as it would if we were killed."""
        if self._ours >= 0:
            os.close(self._ours)
        self._ours = -1


async def _request(path: Path, request: bytes) -> Reply:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as caller:
        await loop.sock_connect(caller, str(path))
        await loop.sock_sendall(caller, request)
        data = await loop.sock_recv(caller, REPLY_LIMIT_BYTES)
    if not data:
        raise ConnectionResetError("the worker hung up")
    return msgspec.json.decode(data, type=Reply)


def _key(device: str) -> SeriesKey:
    return SeriesKey("probe_launch_seconds", gpu="" if device == CPU else device)
