"""A map of the memory of a running process, asked for and answered through files alone."""

from __future__ import annotations

import os
import time

from gpuward.tap.layout import ACCEPTS_REQUESTS, unpack_header
from gpuward.tap.map_layout import MapBlock, Request, pack_request, unpack_map

GIB = 1 << 30
BUSY = """
import os, sys, threading, time, torch
torch.cuda.init()
threading.Thread(target=sys.stdin.read, name="stop").start()
while any(thread.name == "stop" for thread in threading.enumerate()):
    time.sleep(0.01)
"""


def until(condition):
    end_s = time.monotonic() + 200
    while not (found := condition()):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    return found


def ask(tap_file, nonce):
    unfinished = tap_file.with_suffix(".unfinished")
    unfinished.write_bytes(pack_request(Request(nonce, time.time_ns() + 25 * 10**9)))
    unfinished.rename(tap_file.with_suffix(".req"))


def answer(tap_file, nonce):
    path = tap_file.with_suffix(".map")
    found = unpack_map(path.read_bytes()) if path.exists() else None
    return found if found is not None and found.nonce == nonce else None


def test_a_request_is_answered(host, python):
    """With a map; a second one too soon after it with the time to come back."""
    nonces = [os.urandom(16) for _ in range(2)]
    with host.start(BUSY, python=python) as process:
        tap_file = until(lambda: next(iter(host.directory.glob("*.tap")), None))
        header = unpack_header(tap_file.read_bytes())
        answers = []
        for nonce in nonces:
            ask(tap_file, nonce)
            answers.append(until(lambda nonce=nonce: answer(tap_file, nonce)))
        tap_file.with_suffix(".req").unlink()
        process.stdin.close()
        process.wait(timeout=200)

    assert header.flags & ACCEPTS_REQUESTS
    assert 30_000 == header.snapshot_min_period_ms
    assert (0, 2) == tuple(found.outcome for found in answers)
    assert 20_000 < answers[1].retry_after_ms <= 30_000
    (segment,) = answers[0].segments
    assert [MapBlock(0, GIB, GIB, 1)] == segment.blocks
    assert "0b9c5b459f5d4f0c8d0f3c5fc1a3a001" == answers[0].gpus[segment.gpu].gpu_uuid.hex()
    assert [] == host.files
