"""Work in a thread beside the loop: its answer, its error, and who no longer waits for either."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gpuward.daemon.beside import beside


async def test_answer():
    """It comes of a thread of that name, which would keep no program from ending."""
    thread = await beside("look", threading.current_thread)

    assert (thread.name, thread.daemon) == ("look", True)


async def test_trouble(tmp_path):
    """It reaches who awaits."""
    with pytest.raises(FileNotFoundError):
        await beside("read", (tmp_path / "nothing").read_bytes)


async def test_bug(monkeypatch):
    """Nobody waits for ever for a thread that has failed, and the thread says why."""
    loop = asyncio.get_running_loop()
    said = loop.create_future()
    monkeypatch.setattr(
        threading,
        "excepthook",
        lambda failure: loop.call_soon_threadsafe(said.set_result, failure.exc_type),
    )
    with pytest.raises(RuntimeError, match=r"^divide failed$"):
        await beside("divide", lambda: 1 // 0)

    assert await said is ZeroDivisionError


async def test_cancelled():
    """The thread ends in its own time, and its answer is of no interest."""
    loop, begun, may_end = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work():
        loop.call_soon_threadsafe(begun.set)
        return may_end.wait(200)

    waiting = asyncio.create_task(beside("wait", work))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_end.set()
