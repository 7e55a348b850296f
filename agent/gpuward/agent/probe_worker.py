"""The probe worker: the process that may hold a CUDA context, one for each GPU.

    python -P -m gpuward.agent.probe_worker --gpu UUID|cpu --socket PATH [--leave-with FD]

It serves a SEQPACKET socket: one JSON request, one JSON reply, one caller at a time.

    {"probe": "latency", "budget_s": 0.01}
                          ->  {"figures": {"launch_seconds": 1.1e-05, ...}, "holds_context": true}
                          or  {"error": "stalled", "reason": "...", "holds_context": true}
    {"status": true}      ->  {"figures": {}, "holds_context": false}, and nothing is touched
    {"release": true}     ->  {"figures": {}}, once it holds nothing of the driver

``budget_s``: GPU time after which a burst ends, with the figures that it has; ``busy_seconds`` of
every answer is what it took.  The context is created at the first question that needs it, and from
then on what it holds does not change: the agent asks when no engine on the GPU is starting.

To let go of the driver it becomes a new program under the same pid: nothing less is sure to close
all that CUDA has opened.  The new one answers, and opens the driver again when it is next asked to
measure.

Under systemd it lives on when the agent restarts, so that an upgrade never takes or frees GPU
memory beside an engine that is starting, and SIGTERM stops it.  One that the agent started leaves
with the agent, however that ends: when nobody holds the other end of the descriptor any more.  If
it holds a context by then it goes on, and serves the next agent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gpuward.agent.probes import card, table
from gpuward.agent.probes.figure import Meter, Stalled, Unsupported, Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REQUEST_LIMIT_BYTES = 4_096
# A caller that connects and says nothing must not hold the worker.
CALLER_S = 2.0
BACKLOG = 4
# proc_pid_oom_score_adj(5): as the unit says too.
LAST_TO_GO = "-900"

ARGUMENTS = ("-P", "-m", "gpuward.agent.probe_worker")
NO_DESCRIPTOR = -1
UNUSABLE = "unusable"
RELEASED: dict[str, dict[str, float]] = {"figures": {}}

DEFAULT_BUDGET_S = 0.02
MOST_BUDGET_S = 1.0
# Where CUDA looks for the control daemon of MPS.  Without one a context is nobody's client.
NO_MPS = "/nonexistent/gpuward-probe"


def answer(request: bytes, device: str) -> dict[str, object]:
    """Return the reply to one request, whatever it holds.

    An error that a probe does not name ends the worker: after a CUDA error its context serves
    nobody, and a new worker gets a new one.  ``UNUSABLE`` ends it too, once it is told: a driver
    that comes later is seen by a new process only.
    """
    asked = _parse(request)
    if asked.get("status") is True:
        return _reply(figures={})
    name, budget_s = asked.get("probe"), asked.get("budget_s", DEFAULT_BUDGET_S)
    if not (isinstance(name, str) and name in table.ON_GPU and _is_budget(budget_s)):
        return _error("refused", f'expected {{"probe": one of {sorted(table.ON_GPU)}}}')
    meter = Meter(budget_s)
    try:
        figures = table.run(name, device, meter)
    except Stalled as error:
        return _error("stalled", str(error))
    except (ImportError, Unsupported) as error:
        return _error("unsupported", str(error))
    except Unusable as error:
        return _error(UNUSABLE, str(error))
    measured = {figure.name: figure.value for figure in figures}
    return _reply(figures=measured | {"busy_seconds": meter.busy_s})


def _parse(request: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(request)
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {}


def _is_budget(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 < value <= MOST_BUDGET_S


def _error(error: str, reason: str) -> dict[str, object]:
    return _reply(error=error, reason=reason)


def _reply(**what: object) -> dict[str, object]:
    return {**what, "holds_context": card.is_open()}


def is_release(request: bytes) -> bool:
    """Return whether the caller wants the driver to be let go of."""
    return bool(_parse(request).get("release"))


def serve(listener: socket.socket, device: str, leave_with: int | None = None) -> int | None:
    """Answer callers one after the other, until the descriptor ``leave_with`` ends.

    Returns the descriptor of a caller who asked for the driver to be let go of, and waits.
    """
    watched: list[socket.socket | int] = (
        [listener] if leave_with is None else [listener, leave_with]
    )
    while True:
        readable, _, _ = select.select(watched, [], [])
        if leave_with in readable:
            if not card.is_open():
                return None
            watched = [listener]
            leave_with = None
            continue
        caller, _ = listener.accept()
        with caller, contextlib.suppress(OSError):
            caller.settimeout(CALLER_S)
            if request := caller.recv(REQUEST_LIMIT_BYTES):
                if is_release(request):
                    return caller.detach()
                reply = answer(request, device)
                caller.send(json.dumps(reply).encode())
                if reply.get("error") == UNUSABLE:
                    return None


def begin_anew(options: argparse.Namespace, caller: int) -> NoReturn:
    """Become a new program that holds nothing but what it is given, and tells ``caller`` so."""
    arguments = ["--gpu", options.gpu, "--socket", str(options.socket), "--released", str(caller)]
    kept = [caller]
    if options.leave_with is not None:
        arguments += ["--leave-with", str(options.leave_with)]
        kept.append(options.leave_with)
    last = sys.stderr.fileno()
    for descriptor in sorted(kept):
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its only argument
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
    os.execv(sys.executable, [sys.executable, *ARGUMENTS, *arguments])  # noqa: S606 - no shell


def tell_released(caller: int) -> None:
    """Tell who asked that nothing is held any more."""
    with socket.socket(fileno=caller) as link, contextlib.suppress(OSError):
        link.send(json.dumps(RELEASED).encode())


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, in place of what an earlier worker left there.

    It comes there whole: who finds it can connect.
    """
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The agent's group may ask, nobody else.
    before = os.umask(0o117)
    try:
        listener.bind(str(unfinished))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    unfinished.replace(path)
    return listener


def environment(device: str) -> Mapping[str, str]:
    """Return what CUDA must find in the environment before it is loaded."""
    if device == table.CPU:
        # One thread: a probe of the processor must not take all of it.
        return {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Never a client of MPS: a fault of any client ends all of them, and the first one starts a
    # server of its own user's, beside which those of other users have to wait.
    return {
        "CUDA_VISIBLE_DEVICES": device,
        "CUDA_MODULE_LOADING": "LAZY",
        "CUDA_MPS_PIPE_DIRECTORY": NO_MPS,
    }


def stay() -> None:
    """Be among the last that the kernel kills for lack of memory, where we may say so.

    What a killed worker gives back on its GPU can end an engine that is starting there.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(LAST_TO_GO)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until asked to stop."""
    parser = argparse.ArgumentParser(prog="gpuward.agent.probe_worker")
    parser.add_argument("--gpu", required=True, help="UUID of the GPU, or cpu")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--leave-with", type=int, help="descriptor whose end is ours too")
    parser.add_argument("--released", type=int, default=NO_DESCRIPTOR, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    os.environ.update(environment(options.gpu))
    if options.gpu != table.CPU:
        stay()
    try:
        listener = listen(options.socket)
        mine = options.socket.stat().st_ino
    except OSError as error:
        sys.stderr.write(f"gpuward: {options.socket}: {error.strerror or error}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if options.released != NO_DESCRIPTOR:
        tell_released(options.released)
    try:
        caller = serve(listener, options.gpu, options.leave_with)
    finally:
        _remove(options.socket, mine)
    if caller is not None:
        begin_anew(options, caller)
    return 0


def _remove(path: Path, inode: int) -> None:
    """Remove our socket, not that of a worker that took over its place."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main())
