"""A page that means harm costs a bounded amount of memory and work, and its reason is said.

Bounds are counted in bytes, lines and series, never in seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tracemalloc
from types import FunctionType, MethodType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import KINDS, shipped
from gpuward.agent.http_get import HttpError
from gpuward.agent.openmetrics import ParseError
from gpuward.agent.samplers.engine_page import EnginePage

MIB = 1 << 20
NAME = "vllm:num_requests_waiting"
COUNT = "vllm:generation_tokens_total"


def reader():
    return PageReader("vllm", shipped("vllm"))


def peak_bytes(action):
    """Return the most memory that ``action`` had allocated at any time."""
    tracemalloc.start()
    try:
        with contextlib.suppress(ParseError):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", id="without a length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6400000\r\n", id="one chunk"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", id="with its length"),
    ],
)
async def test_a_hundred_megabytes_are_not_taken(head):
    """We hang up: the server gets rid of the limit, and of what sockets hold, no more."""
    sent = 0

    async def serve(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(OSError):
            writer.write(head)
            for _ in range(1_600):
                writer.write(bytes(65_536))
                await writer.drain()
                sent += 65_536
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        page = EnginePage(
            EngineConfig(
                service="chat", url=f"http://127.0.0.1:{port}", kind="vllm", timeout_s=15.0
            )
        )
        with pytest.raises(HttpError, match="limit is 4194304"):
            await page.read()
        page.close()

    assert sent <= 24 * MIB


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("\n" * 40_000, "more than 32768 lines", id="empty lines"),
        pytest.param("x 1\n" * 1_000_000, "more than 32768 lines", id="a million lines"),
        pytest.param(
            "".join(f'{NAME}{{a="{n}"}} 1\n' for n in range(10_000)), "8192 samples", id="series"
        ),
        pytest.param(f"{NAME} 1\n" * 20_000, "8192 samples", id="the same series"),
        pytest.param(f"{NAME} 1\n" * 2, "there twice", id="twice"),
        pytest.param(f"{NAME}{{{'a' * 4 * MIB}}} 1\n", "longer than 16384", id="endless line"),
        pytest.param(f"{NAME} {'1' * 4 * MIB}\n", "longer than 16384", id="endless number"),
        pytest.param(f'{NAME}{{a="{"x" * 20_000}"}} 1\n', "longer than 16384", id="a long label"),
        pytest.param(
            f"{NAME}{{" + ",".join(f'a{n}="1"' for n in range(1_500)) + "} 1\n",
            "more than 128 labels",
            id="many labels",
        ),
        pytest.param(f"{NAME} 1e400_0\n", "line 1: expected a value", id="digit groups"),
        pytest.param(f"{NAME} \u0663\n", "line 1: expected a value", id="other digits"),
        pytest.param(f'{NAME}{{a="\ufffd}} 1\n', "line 1: not a list of labels", id="open quote"),
    ],
)
def test_the_reason_is_said(text, reason):
    with pytest.raises(ParseError, match=reason):
        reader().read(text)


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        pytest.param(f"{NAME} NaN", f"{NAME} is nan", id="NaN"),
        pytest.param(f"{NAME} -1", f"{NAME} is -1", id="negative"),
        pytest.param(f"{NAME} 1e999", f"{NAME} is inf", id="beyond all numbers"),
        pytest.param(f"{NAME} 1e300", f"{NAME} is 1e+300", id="beyond all counting"),
        pytest.param(
            f"{NAME} 4294967296", f"{NAME} is 4.29497e+09, above 2.14748e+09", id="beyond requests"
        ),
        pytest.param(
            f'{COUNT}{{a="1"}} 9007199254740992\n{COUNT}{{a="2"}} 9007199254740992',
            f"{COUNT} is 1.80144e+16, above 9.0072e+15",
            id="a sum beyond all counting",
        ),
    ],
)
def test_a_figure_that_cannot_be_is_absent_and_said(line, broken):
    found = reader().read(f"{line}\nvllm:num_requests_running 2\n")

    assert found.figures == {"requests_running": 2.0}
    assert found.broken == (broken,)


@pytest.mark.parametrize("start", ["NaN", "-1", "0", "1e300", "+Inf"])
def test_a_start_that_cannot_be_is_none(start):
    assert reader().read(f"{NAME} 1\nprocess_start_time_seconds {start}\n").started_wall_s is None


def test_series_that_come_and_go_are_forgotten_rightly():
    """Whatever was forgotten on the way, each page says what it says to a stranger."""
    one = reader()
    for n in range(30):
        for size in (1, 400):
            text = "".join(f'{NAME}{{a="{n}-{place}"}} {place}\n' for place in range(size))
            for _ in range(2):
                assert one.read(text) == reader().read(text)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f'{NAME}{{a="%d{"x" * 900}"}}', id="series"),
        pytest.param(f"unwanted_%d{'x' * 900}", id="other lines"),
    ],
)
def test_memory_does_not_grow_with_the_number_of_pages(name):
    """A server whose lines are others each second is remembered no longer than its last pages."""
    one = reader()

    for n in range(40):
        names = (name % (1_000 * n + place) for place in range(500))
        one.read("".join(f"{one_name} 1\n" for one_name in names))

    assert MIB / 32 <= held_bytes(one) <= 8 * MIB


def held_bytes(one):
    """Return the size of all data that can be reached from ``one``."""
    seen, stack, total = set(), [one], 0
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, type | FunctionType | MethodType):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            stack += item
        else:
            stack += [getattr(item, name) for name in getattr(item, "__slots__", ())]
            stack += list(getattr(item, "__dict__", {}).values())
    return total


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f'{NAME}{{a="' + "\x00" * (4 * MIB - 40) + '"} 1', id="one line"),
        pytest.param(
            "".join(f"unwanted_{n}_{'x' * 100} 1\n" for n in range(32_000)), id="unwanted lines"
        ),
        pytest.param(
            "".join(f'{NAME}{{a="{n}{"x" * 480}"}} 1\n' for n in range(8_100)), id="wanted lines"
        ),
        pytest.param("# HELP x " + "y" * (4 * MIB), id="a comment"),
    ],
)
def test_a_page_takes_some_times_its_own_size(text):
    """A page of the largest size is 4 MiB; what becomes of it stays within ten times that."""
    assert peak_bytes(lambda: reader().read(text)) <= 48 * MIB


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_whatever_a_page_holds(kind, data):
    """Fuzz: names of the engine with anything around them; it is a reading, or a ParseError."""
    names = sorted(PageReader(kind, shipped(kind)).names)
    piece = st.one_of(
        st.sampled_from(names),
        st.sampled_from(["{", "}", '"', "=", ",", " ", "\t", "\n", "le=", "#", "# TYPE ", "\\"]),
        st.sampled_from(
            ["1", "-1", "NaN", "+Inf", "1e999", "0x1", "1_0", "\u0663", "\ufffd", "\x00"]
        ),
        st.text(max_size=6),
    )
    text = "".join(data.draw(st.lists(piece, max_size=60)))
    one = PageReader(kind, shipped(kind))

    for _ in range(2):
        with contextlib.suppress(ParseError):
            found = one.read(text)
            assert all(0 <= value <= 2**53 for value in found.figures.values())
            counts = [timing.count for timing in found.durations.values()]
            assert all(count is None or 0 <= count <= 2**53 for count in counts)


async def test_bad_utf_8_is_read_as_far_as_it_goes():
    """One broken label of an engine does not end the watch over it."""
    body = b'vllm:num_requests_waiting{a="\xff\xfe"} 3\n'

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        page = EnginePage(EngineConfig(service="chat", url=f"http://127.0.0.1:{port}", kind="vllm"))
        reading = await page.read()
        page.close()

    assert reading.figures == {"requests_waiting": 3.0}
