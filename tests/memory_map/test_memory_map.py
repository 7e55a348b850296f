"""A memory map adds up, is drawn within its room, and says the same in colours, letters and SVG."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.memory_map import svg, text
from gpuward.memory_map.cells import lay_out
from gpuward.memory_map.model import (
    Block,
    BlockState,
    MemoryMap,
    Segment,
    State,
    Totals,
    groups,
    largest_groups,
    totals,
)

MIB = 2**20
GIB = 2**30
BASE = 0x7F0000000000
LIVE, PENDING, FREE = BlockState.ALLOCATED, BlockState.PENDING_FREE, BlockState.FREE


def segment(*blocks, at=BASE, **facts):
    """Return a segment of (MiB, state), one after the other."""
    made, offset = [], 0
    for mib, state in blocks:
        size = int(mib * MIB)
        made.append(Block(offset, size, 0 if state is FREE else size - 100, state))
        offset += size
    return Segment(at, offset, tuple(made), **facts)


@pytest.mark.parametrize(
    ("found", "pieces"),
    [
        pytest.param(segment((20, FREE)), [(0, 20, State.RELEASABLE)], id="idle"),
        pytest.param(
            segment((8, LIVE), (12, FREE)),
            [(0, 8, State.ALLOCATED), (8, 12, State.STRANDED)],
            id="pinned by a live block",
        ),
        pytest.param(
            segment((8, PENDING), (12, FREE)),
            [(0, 8, State.PENDING_FREE), (8, 12, State.RELEASABLE)],
            id="a stream will soon be done with it",
        ),
        pytest.param(
            segment((4, PENDING), (8, LIVE), (8, FREE)),
            [(0, 4, State.PENDING_FREE), (4, 8, State.ALLOCATED), (12, 8, State.STRANDED)],
            id="pinned whether a stream is done or not",
        ),
        pytest.param(
            segment((1, LIVE), (14, FREE), (10, PENDING), (17, FREE), expandable=True),
            [
                (0, 1, State.ALLOCATED),
                (1, 14, State.STRANDED),
                (15, 10, State.PENDING_FREE),
                (25, 15, State.RELEASABLE),
                (40, 2, State.STRANDED),
            ],
            id="expandable: a page of two blocks",
        ),
        pytest.param(
            segment((1, LIVE), (30, FREE), expandable=True, page_bytes=8 * MIB),
            [
                (0, 1, State.ALLOCATED),
                (1, 7, State.STRANDED),
                (8, 16, State.RELEASABLE),
                (24, 7, State.STRANDED),
            ],
            id="expandable: pages as the process has them",
        ),
        pytest.param(
            segment((20, FREE), private_pool=True), [(0, 20, State.KEPT)], id="private pool"
        ),
        pytest.param(
            segment((5, LIVE), (60, FREE), (15, LIVE), expandable=True),
            [
                (0, 5, State.ALLOCATED),
                (5, 15, State.STRANDED),
                (20, 40, State.RELEASABLE),
                (60, 5, State.STRANDED),
                (65, 15, State.ALLOCATED),
            ],
            id="expandable: whole pages of 20 MiB",
        ),
        pytest.param(
            segment((1, LIVE), (39, FREE), expandable=True),
            [(0, 1, State.ALLOCATED), (1, 19, State.STRANDED), (20, 20, State.RELEASABLE)],
            id="expandable: to the end",
        ),
        pytest.param(
            segment((1, LIVE), (38, FREE), (1, LIVE), expandable=True),
            [(0, 1, State.ALLOCATED), (1, 38, State.STRANDED), (39, 1, State.ALLOCATED)],
            id="expandable: a large hole without a whole page",
        ),
        pytest.param(
            segment((1, LIVE), (3, FREE), expandable=True, small_pool=True),
            [(0, 1, State.ALLOCATED), (1, 1, State.STRANDED), (2, 2, State.RELEASABLE)],
            id="expandable small pool: pages of 2 MiB",
        ),
    ],
)
def test_the_states_of_a_segment(found, pieces):
    assert [(offset * MIB, size * MIB, state) for offset, size, state in pieces] == list(
        found.ranges()
    )


def test_totals():
    found = totals(
        [
            segment((8, LIVE), (12, FREE)),
            segment((30, FREE)),
            segment((2, PENDING), (1, LIVE), small_pool=True),
            segment((64, FREE), (1, LIVE), private_pool=True),
        ]
    )

    expected = Totals(4, 7, 118 * MIB, 10 * MIB, 2 * MIB, 30 * MIB, 12 * MIB, 64 * MIB, 30 * MIB)
    assert expected == found._replace(requested=0)
    assert found.requested == 12 * MIB - 4 * 100
    assert found.free == 42 * MIB


def test_groups_are_pools_and_streams():
    one = segment((1, LIVE), at=2 * GIB)
    two = segment((1, LIVE), at=GIB)
    other = segment((1, LIVE), at=3 * GIB, stream=7, small_pool=True, private_pool=True)

    assert [("large", 0, (two, one)), ("private small", 7, (other,))] == groups([other, one, two])


@st.composite
def memory(draw):
    """Segments of any pools, next to one another in address space."""
    found, at = [], BASE
    for _ in range(draw(st.integers(0, 12))):
        blocks = draw(
            st.lists(
                st.tuples(st.sampled_from([0.5, 1, 3, 20, 700]), st.sampled_from(BlockState)),
                min_size=1,
                max_size=8,
            )
        )
        facts = {name: draw(st.booleans()) for name in ("small_pool", "expandable", "private_pool")}
        found.append(segment(*blocks, at=at, stream=draw(st.integers(0, 1)), **facts))
        at += found[-1].size + draw(st.sampled_from([0, 2 * MIB]))
    return found


@given(memory(), st.integers(10, 100), st.integers(1, 30))
def test_every_byte_is_in_one_cell(segments, columns, rows):
    """However little room there is, the picture has all of it, in lines that fit."""
    pictures = lay_out(segments, columns=columns, rows=rows)
    lines = [line for picture in pictures for line in picture.lines]
    cells = [cell for line in lines for cell in line.cells if cell is not None]
    sums = totals(segments)

    assert [sum(column) for column in zip(*cells, strict=True)] == (
        [sums.allocated, sums.pending, sums.releasable, sums.stranded, sums.kept] if cells else []
    )
    assert sum(sum(cell) for cell in cells) == sums.reserved
    assert all(0 < len(line.cells) <= columns and line.cells[0] is not None for line in lines)
    assert all(line.cells[-1] is not None for line in lines)
    assert len(lines) <= max(rows, len(groups(segments)))
    for picture in pictures:
        addresses = [line.address for line in picture.lines]
        assert addresses == sorted(addresses)
        assert all(
            sum(cell) <= picture.cell_bytes for line in picture.lines for cell in line.cells if cell
        )


def fragmented():
    """A server after a long day: weights, then pieces; always the same."""
    chance = random.Random(193400)
    states = (LIVE, FREE, FREE, PENDING)
    found = [segment((4096, LIVE)), segment((2048, LIVE), (512, FREE), at=BASE + 8 * GIB)]
    for number in range(24):
        sizes = chance.choices([2, 10, 20, 48], k=4)
        blocks = [(size, chance.choice(states)) for size in sizes]
        found.append(segment(*blocks, at=BASE + (16 + number) * GIB, stream=number % 8 // 7))
    found += [
        segment((0.5, LIVE), (1.5, FREE), at=BASE + 64 * GIB + number * 2 * MIB, small_pool=True)
        for number in range(6)
    ]
    found.append(segment((40, LIVE), (24, FREE), at=BASE + 80 * GIB, private_pool=True))
    return MemoryMap(
        "vllm:llama", 77, "GPU-01020304-0506-0708-090a-0b0c0d0e0f10", 1_800_000_000.0, tuple(found)
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_in_letters(golden, width):
    drawn = text.render(fragmented(), width=width, colours=False)
    golden(f"memory-map-{width}.txt", drawn)


def test_the_picture_in_colours(golden):
    golden("memory-map-colours.txt", text.render(fragmented(), width=100, colours=True))


def test_the_picture_as_svg(golden):
    golden("memory-map.svg", svg.render(fragmented()))


def test_letters_are_ascii_and_colours_end():
    letters = text.render(fragmented(), width=80, colours=False)
    colours = text.render(fragmented(), width=80, colours=True)

    assert letters.isascii()
    assert "\x1b" not in letters
    assert all(
        line.count("\x1b[0m") * 2 == line.count("\x1b") for line in colours.splitlines() if line
    )


@given(memory(), st.integers(0, 200), st.booleans())
def test_lines_fit_the_terminal(segments, width, colours):
    picture = text.render(
        MemoryMap("p", 1, "GPU-1", 0.0, tuple(segments)), width=width, colours=colours
    )
    drawn = re.findall(r"^[0-9a-f]{12} .*$", re.sub(r"\x1b\[[0-9;]*m", "", picture), re.MULTILINE)

    assert all(len(line) <= max(40, width) for line in drawn)
    assert bool(drawn) == bool(segments)


@given(memory(), st.text(max_size=40))
def test_the_svg_is_well_formed_and_speaks(segments, name):
    """Whatever a process calls itself."""
    document = ET.fromstring(
        svg.render(MemoryMap(name, 1, name, 0.0, tuple(segments), is_truncated=True))
    )
    xmlns = "{http://www.w3.org/2000/svg}"

    assert document.find(f"{xmlns}title").text
    assert "stranded" in document.find(f"{xmlns}desc").text
    assert document.get("aria-labelledby") == "title desc"
    tags = {element.tag.removeprefix(xmlns) for element in document.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "path", "text"}


def streams(count):
    """One segment on each of ``count`` streams, the larger the later."""
    return [
        segment((1 + number, FREE), at=BASE + number * GIB, stream=number)
        for number in range(count)
    ]


def test_all_streams_that_fit_are_drawn():
    found, rest = largest_groups(streams(32))

    assert groups(streams(32)) == found
    assert [] == rest


def test_of_too_many_streams_the_largest_are_drawn():
    """The rest is told: a process may make as many as it likes."""
    memory_map = MemoryMap("p", 1, "GPU-1", 0.0, tuple(streams(34)))
    told = "Not drawn: 2 more pools and streams with 3.00 MiB reserved."

    found, rest = largest_groups(memory_map.segments)

    assert list(range(2, 34)) == [group.stream for group in found]
    assert [0, 1] == [group.stream for group in rest]
    assert told in text.render(memory_map, width=120, colours=False)
    assert "all" in text.render(memory_map, width=120, colours=False)
    assert told in svg.render(memory_map)
    assert 32 == len(svg.pictures(memory_map, rows=12))


def test_the_bars_of_a_page_are_those_of_the_document():
    """One renderer: the same rectangles, moved."""
    memory_map = fragmented()
    document = ET.fromstring(svg.render(memory_map))
    found = [
        path.get("class")
        for picture in svg.pictures(memory_map, rows=24)
        for path in ET.fromstring(svg.bars(picture)).iter("path")
    ]

    drawn = document.iter("{http://www.w3.org/2000/svg}path")
    assert [path.get("class") for path in drawn] == found


def test_a_name_cannot_command_the_terminal():
    drawn = text.render(MemoryMap("a\x1b]0;b\x07", 1, "GPU\r1", 0.0, ()), width=80, colours=True)

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", drawn)
    assert "holds no memory" in drawn


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0"),
        (512, "512 B"),
        (1024, "1.00 KiB"),
        (20 * MIB, "20.0 MiB"),
        (1023 * MIB, "1023 MiB"),
        (int(61.2 * GIB), "61.2 GiB"),
        (3 * 2**50, "3072 TiB"),
    ],
)
def test_sizes(size, expected):
    assert expected == text.size_text(size)
