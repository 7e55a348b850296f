"""Figures as people read them."""

from __future__ import annotations

import pytest

from gpuward.coordinator.web.quantity import quantity


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        pytest.param(0, "bytes", "0 B", id="zero"),
        pytest.param(1023, "bytes", "1\u202f023 B", id="below a step"),
        pytest.param(1024, "bytes", "1 KiB", id="exactly a step"),
        pytest.param(12.34 * 2**30, "bytes", "12.3 GiB", id="three digits"),
        pytest.param(-(2**30), "bytes", "-1 GiB", id="negative"),
        pytest.param(2**60, "bytes", "1\u202f048\u202f576 TiB", id="beyond the last step"),
        pytest.param(1.98e9, "hertz", "1.98 GHz", id="clock"),
        pytest.param(0.4567, "ratio", "45.7 %", id="ratio"),
        pytest.param(9.99, "ratio", "999.0 %", id="ratio below ten"),
        pytest.param(10, "ratio", "10 times", id="a multiple"),
        pytest.param(0.0123, "seconds", "12.3 ms", id="milliseconds"),
        pytest.param(0.000025, "seconds", "25 µs", id="microseconds"),
        pytest.param(2.5, "seconds", "2.5 s", id="seconds"),
        pytest.param(83, "celsius", "83 °C", id="celsius"),
        pytest.param(512.4, "watts", "512 W", id="watts"),
        pytest.param(17, "1", "17", id="count"),
        pytest.param(17, "", "17", id="no unit"),
        pytest.param(17, "tokens", "17 tokens", id="a unit of its own"),
    ],
)
def test_quantity(value, unit, words):
    """Three digits that mean something, in the unit of the field."""
    assert quantity(value, unit) == words


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_not_a_number(value):
    """An agent may send it; the page must not fail for it."""
    assert quantity(value, "bytes")
