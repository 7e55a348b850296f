"""Tables for terminals: what fits is shown, what matters fits, nothing in a text steers."""

from __future__ import annotations

import pytest

from gpuward.agent.text_table import Cell, Column, Tone, clipped, duration, painted, table, wrapped


def column(heading, *texts, rank=0, is_number=True):
    return Column(heading, tuple(map(Cell, texts)), rank, is_number=is_number)


GPU = column("gpu", "0", "11", rank=0)
NAME = column("name", "H100", "H200 NVL", rank=2, is_number=False)
TEMP = column("temp", "31C", "-", rank=1)
NOBODY = column("ecc", "-", "-", rank=1)


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        pytest.param(
            19, ["gpu  name      temp", "  0  H100       31C", " 11  H200 NVL     -"], id="all fits"
        ),
        pytest.param(18, ["gpu  temp", "  0   31C", " 11     -"], id="one less"),
        pytest.param(2, ["gp", "  0", " 11"], id="the first stays"),
    ],
)
def test_what_does_not_fit_is_left_out_by_rank(width, lines):
    assert lines == list(table([GPU, NAME, NOBODY, TEMP], width=width, colours=False))


def test_a_column_that_fits_beside_one_that_does_not_is_shown():
    wide = column("a very wide heading", "x", "y", rank=1)
    assert list(table([GPU, wide, NAME], width=15, colours=False)) == [
        "gpu  name",
        "  0  H100",
        " 11  H200 NVL",
    ]


def test_no_word_no_table():
    assert list(table([NOBODY], width=80, colours=False)) == []


def test_colours_change_no_place():
    """Without its colours a coloured table is the plain one."""
    tinted = Column("temp", (Cell("88C", Tone.BAD),), 0)
    plain = list(table([tinted], width=80, colours=False))
    coloured = "\n".join(table([tinted], width=80, colours=True))
    for tone in Tone:
        if tone:
            coloured = coloured.replace(tone.value, "")
    assert plain == coloured.replace("\x1b[0m", "").split("\n") == ["temp", " 88C"]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        pytest.param("abcdef", 6, "abcdef", id="fits"),
        pytest.param("abcdefg", 6, "abc...", id="cut"),
        pytest.param("a\x1b[2Jb", 80, "a\ufffd[2Jb", id="does not steer"),
    ],
)
def test_clipped(text, width, expected):
    assert expected == clipped(text, width)


def test_wrapped():
    words = "a word \x1b that steers " + "x" * 20
    lines = list(wrapped(words, width=30, indent="  "))
    assert lines == ["  a word \ufffd that steers", "  " + "x" * 20]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(0.4, "0 s", id="nothing"),
        pytest.param(119.0, "119 s", id="below two minutes"),
        pytest.param(120.0, "2 min", id="two minutes"),
        pytest.param(7_199.0, "120 min", id="below two hours"),
        pytest.param(7_200.0, "2 h", id="two hours"),
        pytest.param(172_800.0, "2 d", id="two days"),
    ],
)
def test_duration(seconds, expected):
    assert expected == duration(seconds)


def test_nothing_is_painted_without_colours():
    assert painted("x", Tone.BAD, colours=False) == painted("x", Tone.PLAIN, colours=True) == "x"
