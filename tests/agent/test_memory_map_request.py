"""A tap is asked for its map at most once in a while, and its answer is not trusted."""

from __future__ import annotations

import asyncio
import os
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.memory_map_answer import Refused, Taken, decode
from gpuward.agent.memory_map_request import MemoryMapRequests, read
from gpuward.agent.samplers.tap import TapWriter
from gpuward.memory_map.model import Block, BlockState, Segment
from gpuward.tap.map_layout import (
    MapBlock,
    MapGpu,
    MapSegment,
    MemoryMap,
    pack_map,
    unpack_request,
)

MIB = 2**20
NONCE = bytes(range(16))
GPU = bytes(range(1, 17))
UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"
NAME = "00000000-0000-4000-8000-000000000000"


def map_segment(*blocks, address=2**40, size=4 * MIB, gpu=0, pool=(0, 0), flags=0, page_mib=0):
    made = [MapBlock(*block) for block in blocks]
    return MapSegment(address, size, 0, pool, gpu, flags, made, page_mib)


def answer(*segments, nonce=NONCE, **facts):
    gpus = (MapGpu(GPU, 0), MapGpu(bytes(16), 1))
    return pack_map(MemoryMap(nonce, 1, 1, gpus=gpus, segments=segments, **facts))


class Tap:
    """A tap in a folder, which answers what the test says, when it says so."""

    def __init__(self, directory, clock):
        self.clock = clock
        self.writer = TapWriter(
            path=directory / f"{NAME}.tap",
            uid=os.getuid(),
            pid=77,
            accepts_requests=True,
            is_degraded=False,
        )
        self.question = directory / f"{NAME}.req"
        self.answer = directory / f"{NAME}.map"
        self.requests = MemoryMapRequests(self._writer_of, clock)
        self.directory = directory

    def ask(self, key="vllm:llama", gpu=UUID):
        return asyncio.create_task(self.requests.ask(key, gpu))

    async def nonce(self):
        """Return the nonce of the question, once it is asked."""
        await asyncio.sleep(0)
        request = unpack_request(self.question.read_bytes())
        assert request.deadline_real_ns == (self.clock.wall_s() + 4.5) * 1e9
        return request.nonce

    def put(self, content):
        unfinished = self.directory / "unfinished"
        unfinished.write_bytes(content)
        unfinished.rename(self.answer)

    def _writer_of(self, key, gpu, pid):
        return self.writer if (key, gpu, pid) == ("vllm:llama", UUID, 0) else None


@pytest.fixture
def tap(tmp_path, clock):
    return Tap(tmp_path, clock)


async def test_a_question_is_answered_and_both_files_removed(tap):
    asked = tap.ask()
    nonce = await tap.nonce()
    assert tap.question.stat().st_mode & 0o777 == 0o644
    await tap.clock.advance(1.0)
    told = map_segment((0, MIB, 1000, 1), (MIB, 3 * MIB, 0, 3), flags=2, page_mib=64)
    tap.put(answer(told, nonce=nonce))
    await tap.clock.advance(0.1)

    blocks = (Block(0, MIB, 1000, BlockState.ALLOCATED), Block(MIB, 3 * MIB, 0, BlockState.FREE))
    segment = Segment(2**40, 4 * MIB, blocks, expandable=True, page_bytes=64 * MIB)
    assert await asked == Taken((segment,), pid=77)
    assert list(tap.directory.iterdir()) == []


async def test_an_answer_to_another_question_is_passed_over(tap):
    tap.put(answer())
    asked = tap.ask()
    nonce = await tap.nonce()
    await tap.clock.advance(1.0)
    tap.put(answer(nonce=nonce))
    await tap.clock.advance(0.1)

    assert await asked == Taken((), pid=77)


async def test_no_answer_is_told_before_the_five_seconds_of_the_caller_are_over(tap):
    asked = tap.ask()
    await tap.clock.advance(4.4)
    assert not asked.done()
    await tap.clock.advance(0.2)

    assert (await asked).reason.startswith("timeout: ")
    assert list(tap.directory.iterdir()) == []


async def test_one_question_at_a_time(tap):
    first = tap.ask()
    await tap.nonce()

    assert (await tap.ask()).reason == "busy: another question to this process is under way"
    first.cancel()


@pytest.mark.parametrize(
    ("after_s", "refused"),
    [pytest.param(29.9, True, id="not yet"), pytest.param(30.0, False, id="half a minute later")],
)
async def test_not_again_within_half_a_minute(tap, after_s, refused):
    first = tap.ask()
    await tap.clock.advance(after_s)
    await first
    second = tap.ask()
    await tap.clock.advance(6.0)

    assert refused == (await second).reason.startswith("busy: this process was asked a moment ago")


async def test_the_refusal_says_when_to_ask_again(tap):
    first = tap.ask()
    await tap.clock.advance(12.0)
    await first

    assert (await tap.ask()).reason.endswith("; ask again in 18 s")


async def test_a_tap_that_says_when_may_be_asked_then(tap):
    """It walks on its own account too, and knows best when it may again."""
    first = tap.ask()
    nonce = await tap.nonce()
    tap.put(answer(nonce=nonce, outcome=2, retry_after_ms=9001))
    await tap.clock.advance(0.1)
    assert (await first).reason.endswith("; ask again in 7 s")
    second = tap.ask()
    nonce = await tap.nonce()
    tap.put(answer(nonce=nonce))
    await tap.clock.advance(0.1)

    assert await second == Taken((), pid=77)


async def test_a_question_that_was_cancelled_leaves_no_files(tap):
    asked = tap.ask()
    await tap.nonce()
    asked.cancel()
    await asyncio.wait([asked])

    assert list(tap.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"is_degraded": True}, "degraded", id="unsafe to ask"),
        pytest.param({"accepts_requests": False}, "no tap", id="a tap without an ear"),
    ],
)
async def test_who_is_not_asked(tap, change, word):
    tap.writer = replace(tap.writer, **change)

    assert (await tap.ask()).reason.startswith(f"{word}: ")
    assert list(tap.directory.iterdir()) == []


async def test_nobody_of_that_name(tap):
    assert (await tap.ask(key="other")).reason.startswith("no tap: ")


async def test_a_directory_that_cannot_be_written(tap):
    tap.writer = replace(tap.writer, path=tap.directory / "gone" / f"{NAME}.tap")

    assert "cannot be written: No such file" in (await tap.ask()).reason


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        pytest.param(1, "degraded", id="degraded"),
        pytest.param(2, "busy", id="busy"),
        pytest.param(3, "too large", id="too large"),
        pytest.param(4, "recording", id="recording"),
        pytest.param(5, "failed", id="failed"),
        pytest.param(6, "no tap", id="unknown kind"),
        pytest.param(99, "failed", id="one of the future"),
    ],
)
def test_what_the_tap_refuses(outcome, word):
    refused = decode(answer(outcome=outcome, retry_after_ms=2000), NONCE, UUID)

    assert refused.reason.startswith(f"{word}: ")
    assert ("ask again in 1 s" in refused.reason) == (word == "busy")


@pytest.mark.parametrize(
    ("segments", "plausible"),
    [
        pytest.param([map_segment((0, MIB, 1, 1), (MIB, 3 * MIB, 0, 3))], True, id="whole"),
        pytest.param([map_segment((0, MIB, 1, 1))], True, id="cut short: truncated"),
        pytest.param([map_segment((0, 4 * MIB, 4 * MIB, 1))], True, id="filled"),
        pytest.param([map_segment((0, 4 * MIB + 1, 0, 3))], False, id="block beyond its segment"),
        pytest.param([map_segment((0, 2, 0, 3), (1, 2, 0, 3))], False, id="blocks overlap"),
        pytest.param([map_segment((1, 2, 0, 3), (0, 1, 0, 3))], False, id="blocks out of order"),
        pytest.param([map_segment((0, 0, 0, 3))], False, id="empty block"),
        pytest.param([map_segment((0, 1, 2, 1))], False, id="more asked than given"),
        pytest.param([map_segment(size=0)], False, id="empty segment"),
        pytest.param([map_segment(), map_segment(address=2**40 + 1)], False, id="overlap"),
        pytest.param([map_segment(address=2**48 - 4 * MIB)], True, id="at the end"),
        pytest.param([map_segment(address=2**48 - 4 * MIB + 1)], False, id="beyond the end"),
        pytest.param([map_segment(size=2**63)], False, id="without end"),
    ],
)
def test_what_no_allocator_can_be_is_refused(segments, plausible):
    found = decode(answer(*segments), NONCE, UUID)

    assert plausible == isinstance(found, Taken)
    assert plausible or found.reason.startswith("unusable: ")


def test_the_gpu_that_was_asked_for():
    other = map_segment(address=2**41, gpu=1)
    found = decode(answer(other, map_segment()), NONCE, UUID)

    assert [segment.address for segment in found.segments] == [2**40]


def test_facts_of_a_segment():
    flags = decode(answer(map_segment((0, MIB, 0, 9), pool=(0, 3), flags=3)), NONCE, UUID)
    (found,) = flags.segments

    assert (found.small_pool, found.expandable, found.private_pool) == (True, True, True)
    # A state of the future is not called free.
    assert found.blocks[0].state is BlockState.ALLOCATED


def test_a_map_that_was_cut_says_so():
    assert decode(answer(flags=1), NONCE, UUID).is_truncated


@given(st.binary(max_size=300))
def test_noise_is_no_answer(raw):
    assert not isinstance(decode(raw, NONCE, UUID), Taken)


@given(st.data())
def test_an_answer_with_wrong_bytes_is_no_answer(data):
    raw = bytearray(answer(map_segment((0, MIB, 1, 1), (MIB, MIB, 0, 3)), map_segment(gpu=1)))
    # Four bytes of padding after the checksum mean nothing.
    at = data.draw(st.integers(0, len(raw) - 1).filter(lambda at: not 92 <= at < 96))
    raw[at] ^= data.draw(st.integers(1, 255))

    assert not isinstance(decode(bytes(raw), NONCE, UUID), Taken)
    assert not isinstance(decode(bytes(raw[:at]), NONCE, UUID), Taken)


NUMBER = st.integers(0, 2**64 - 1)
BLOCKS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER, st.integers(0, 2**32 - 1)), max_size=4)


@given(st.lists(st.tuples(NUMBER, NUMBER, BLOCKS), max_size=4))
def test_a_hostile_tap_makes_no_impossible_map(made):
    """Whatever numbers it signs."""
    segments = [map_segment(*found, address=address, size=size) for address, size, found in made]
    found = decode(answer(*segments), NONCE, UUID)

    assert isinstance(found, Taken | Refused)
    if isinstance(found, Taken):
        for segment in found.segments:
            assert sum(block.size for block in segment.blocks) <= segment.size <= 2**48


def test_counts_without_end_are_refused_at_once():
    raw = bytearray(answer())
    struct.pack_into("<II", raw, 24, 2**32 - 1, 2**32 - 1)

    assert isinstance(decode(bytes(raw), NONCE, UUID), Refused)


def hostile(path, kind):
    other = path.with_name("other")
    other.write_bytes(b"secret")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(other)
    elif kind == "hard link":
        path.hardlink_to(other)
    elif kind == "folder":
        path.mkdir()
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(4 * MIB + 1)
    elif kind == "another user's":
        path.write_bytes(b"answer")
        os.chown(path, os.getuid() + 1, -1)


@pytest.mark.parametrize(
    "kind", ["pipe", "symlink", "hard link", "folder", "too large", "another user's", "absent"]
)
def test_files_that_are_no_answer(tmp_path, kind):
    try:
        hostile(tmp_path / "a.map", kind)
    except PermissionError:
        pytest.skip("only root may give files away")

    assert read(tmp_path / "a.map", os.getuid(), None) is None


def test_an_answer_is_read_once(tmp_path):
    path = tmp_path / "a.map"
    path.write_bytes(b"answer")
    first = read(path, os.getuid(), None)

    assert first.content == b"answer"
    assert read(path, os.getuid(), first.identity) is None
