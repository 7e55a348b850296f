"""A chart in dots: what was least and most is seen, what was not known is blank."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.history_chart import (
    Frame,
    Reading,
    chart,
    frame_of,
    summary,
    time_axis,
    value_text,
)

MEMORY = "gpu_memory_used_bytes"
GIB = float(1 << 30)


def reading(at_s, value, least=None, most=None):
    return Reading(at_s, value, value if least is None else least, value if most is None else most)


def drawn(readings, *, frame=Frame(0.0, 20.0, 0.0, 3.0), width=22, rows=1):  # noqa: B008
    """Return the lines without their axis: ten characters, twenty dots of a second each."""
    return [line[12:] for line in chart(readings, frame, signal="x", width=width, rows=rows)]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([reading(0, 0.0)], "⡀", id="lowest, first column"),
        pytest.param([reading(1, 3.0)], "⠈", id="highest, second column"),
        pytest.param([reading(0, 1.0), reading(0, 2.0)], "⠆", id="two in a column are a bar"),
        pytest.param([reading(0, 1.0, 0.0, 3.0)], "⡇", id="least and most are a bar"),
        pytest.param([reading(0, 0.0), reading(1, 3.0)], "⡸", id="a rise is a line"),
        pytest.param([reading(0, 3.0), reading(1, 0.0)], "⢱", id="a fall is a line"),
        pytest.param([reading(at, 0.0) for at in (0, 1, 4)], "⣀ ⡀", id="a gap is blank"),
        pytest.param(
            [reading(0, 0.0), reading(1, 0.0), reading(4, 3.0)], "⣀ ⠁", id="no line over a gap"
        ),
        pytest.param([reading(at, 0.0) for at in (0, 2, 7)], "⣀⣀⣀⣀", id="2.5 pauses are held"),
        pytest.param([reading(at, 0.0) for at in (0, 2, 8)], "⣀⡀  ⡀", id="3 pauses are a gap"),
        pytest.param([reading(at, 0.0) for at in (0, 3, 6)], "⣀⣀⣀⡀", id="held until the next"),
        pytest.param([reading(-1, 1.0), reading(20, 1.0)], "", id="before and after"),
    ],
)
def test_dots(readings, expected):
    assert drawn(readings) == [expected]


def test_labels():
    lines = chart(
        [reading(0, 0.0)], Frame(0.0, 20.0, 0.0, 80 * GIB), signal=MEMORY, width=22, rows=6
    )

    assert [line[:12] for line in lines] == [
        "  80.0 GiB ┤",
        "           │",
        "           │",
        "  32.0 GiB ┤",
        "           │",
        "         0 ┤",
    ]


@pytest.mark.parametrize(
    ("values", "bottom", "top"),
    [
        pytest.param([1.0, 10.0], 0.0, 10.0, id="from 0"),
        pytest.param([60.0, 61.0], 60.0, 61.0, id="far from 0"),
        pytest.param([5.0, 10.0], 5.0, 10.0, id="half is far"),
        pytest.param([-4.0, 4.0], -4.0, 4.0, id="on both sides"),
        pytest.param([100.0], 95.0, 105.0, id="one value"),
        pytest.param([0.0], 0.0, 1.0, id="nothing but 0"),
        pytest.param([-10.0], -10.5, -9.5, id="one value below"),
    ],
)
def test_frame(values, bottom, top):
    frame = frame_of([reading(0, value) for value in values], 0.0, 1.0)

    assert (frame.bottom, frame.top) == (bottom, top)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(-1e15, 1e15), st.floats(0, 1e12)), min_size=1),
    st.integers(40, 200),
    st.integers(1, 12),
)
def test_it_never_leaves_its_width(rows_of, width, rows):
    readings = [Reading(at, value, value - by, value + by) for at, value, by in rows_of]
    frame = frame_of(readings, 0.0, 100.0)

    lines = chart(readings, frame, signal=MEMORY, width=width, rows=rows)
    lines += time_axis(frame, width, UTC)

    assert len(lines) == rows + 2
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("signal", "value", "text"),
    [
        ("gpu_memory_used_bytes", 61.2 * GIB, "61.2 GiB"),
        ("process_memory_headroom_bytes", -2.0 * GIB, "-2.00 GiB"),
        ("gpu_sm_clock_hertz", 1.98e9, "1.98 GHz"),
        ("gpu_power_draw_watts", 653.4, "653 W"),
        ("gpu_temperature_celsius", 41.0, "41 °C"),
        ("gpu_utilization_ratio", 0.973, "97 %"),
        ("probe_launch_seconds", 1.1e-5, "11.0 µs"),
        ("driver_call_wait_seconds", 0.0, "0 s"),
        ("driver_call_wait_seconds", 90.0, "90.0 s"),
        ("service_requests_total", 12_345.0, "12,345"),
        ("service_requests_running", 3.0, "3"),
    ],
)
def test_value_text(signal, value, text):
    assert value_text(signal, value) == text


def test_time_axis():
    assert time_axis(Frame(0.0, 3_600.0, 0.0, 1.0), 48, UTC) == [
        "           └┬─────────────────┬────────────────┬",
        "          00:00             00:30          01:00",
    ]


def test_summary():
    readings = [reading(0, 5.0, 1.0, 6.0), reading(60, 9.0), reading(120, 7.0)]

    assert summary(readings, signal="x", zone=UTC) == (
        "last 7   least 1 at 00:00:00   most 9 at 00:01:00"
    )
