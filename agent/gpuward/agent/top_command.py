"""The work of `gpuward agent top`: ask the agent once a second, draw, and listen for a key.

A frame is written at once, over the last one, so that nothing flickers on a slow line.  The agent
is asked without waiting for it: a key answers also while it does not.  ``Watch`` is not used, as it
speaks when findings change, and figures change every second.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from gpuward.agent.agent_client import (
    ANSWERED_WITHIN_S,
    Agent,
    connected,
)
from gpuward.agent.node_view import NodeView, node_view
from gpuward.agent.top_screen import Size, frame
from gpuward.daemon.clock import SystemClock
from gpuward.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.daemon.clock import Clock

PERIOD_S = 1.0
# What services do is shown as of the last so many seconds.
RATES_OVER_S = 10.0
QUIT = frozenset(b"qQ\x03\x04")
# The other screen, no cursor, no wrapping of what is too long; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
WITHOUT_TERMINAL = (120, 10_000)


class Views:
    """The last views, and what the agent was asked and has not answered yet."""

    def __init__(self, agent: Agent, clock: Clock) -> None:
        """Wait for the first one; raises ``NoAnswerError``."""
        self._agent = agent
        self._clock = clock
        self._kept: list[NodeView] = [node_view(agent.snapshot())]
        self._asked: Any = None
        self._answered_s = clock.mono_s()

    def update(self) -> None:
        """Take in an answer that has come; ask again when nothing is asked."""
        if self._asked is not None and self._asked.done():
            self._take(self._asked)
            self._asked = None
        if self._asked is None:
            request = agent_pb2.GetSnapshotRequest()
            self._asked = self._agent.stub.GetSnapshot.future(request, timeout=ANSWERED_WITHIN_S)

    def lines(self, size: Size, *, colours: bool) -> list[str]:
        """Return the frame to show now."""
        age_s = self._clock.mono_s() - self._answered_s
        return frame(self._kept[-1], self._kept[0], size=size, colours=colours, age_s=age_s)

    def _take(self, call: Any) -> None:
        try:
            view = node_view(call.result().snapshot)
        except grpc.RpcError:
            # The head of the next frames says for how long.
            return
        self._answered_s = self._clock.mono_s()
        oldest_s = view.at_s - RATES_OVER_S
        self._kept = [*(kept for kept in self._kept if kept.at_s >= oldest_s), view]


def once(address: str, *, colours: bool) -> str:
    """Return one frame, as high as it needs; raises ``NoAnswerError``."""
    with connected(address) as agent:
        view = node_view(agent.snapshot())
    size = Size(*shutil.get_terminal_size(WITHOUT_TERMINAL)[:1], WITHOUT_TERMINAL[1])
    return "\n".join(frame(view, view, size=size, colours=colours))


def live(address: str, *, colours: bool) -> None:
    """Show frames until a key or a signal ends it; raises ``NoAnswerError`` when nobody is there.

    Standard input and output are a terminal.
    """
    clock = SystemClock()
    with connected(address) as agent:
        views = Views(agent, clock)
        with _terminal() as woken:
            due_s = clock.mono_s()
            while True:
                if clock.mono_s() >= due_s:
                    views.update()
                    due_s = clock.mono_s() + PERIOD_S
                _show(
                    views.lines(Size(*os.get_terminal_size(sys.stdout.fileno())), colours=colours)
                )
                if _is_over(woken, max(0.0, due_s - clock.mono_s())):
                    return


def _show(lines: list[str]) -> None:
    text = "\n".join(line + _REST_OF_LINE for line in lines)
    sys.stdout.write(f"{_HOME}{text}{_REST_OF_SCREEN}")
    sys.stdout.flush()


def _is_over(woken: int, wait_s: float) -> bool:
    """Wait for a key, a signal or ``wait_s``; return whether the user wants to leave."""
    keyboard = sys.stdin.fileno()
    ready, _, _ = select.select([keyboard, woken], [], [], wait_s)
    if woken in ready:
        numbers = os.read(woken, 64)
        return any(number != signal.SIGWINCH for number in numbers)
    if keyboard in ready:
        keys = os.read(keyboard, 64)
        # No key at all: the terminal is gone.
        return not keys or not QUIT.isdisjoint(keys)
    return False


@contextmanager
def _terminal() -> Iterator[int]:
    """Take the terminal over; gives a descriptor that becomes readable with a signal's number."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    numbers = (signal.SIGWINCH, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    woken_before = signal.set_wakeup_fd(writing)
    try:
        tty.setcbreak(keyboard)
        sys.stdout.write(_ENTER)
        yield reading
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(woken_before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
