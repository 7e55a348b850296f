"""XIDs on the metrics page: a counter and the time of the last, in both formats, within bounds."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gpuward.agent.exporter import Exporter
from gpuward.agent.http_message import parse_request
from gpuward.agent.model import Event
from gpuward.agent.xid_totals import XidTotals


def xid(code, at_s, gpu="GPU-1"):
    return Event("gpu.xid", at_s, f"{code}-{at_s}", code=code, gpu=gpu)


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        pytest.param("text/plain", text_string_to_metric_families, id="classic"),
        pytest.param("application/openmetrics-text", openmetrics_families, id="OpenMetrics"),
    ],
)
async def test_page(clock, make_judge, accept, parse):
    """The last one's time is that of the newest, in whichever order they were read."""
    totals = XidTotals(clock)
    offset_s = clock.wall_s() - clock.mono_s()
    for event in (xid(31, 10.0), xid(31, 12.0), xid(31, 11.0), xid(79, 5.0)):
        totals.add(event)
    judge = make_judge()
    exporter = Exporter(
        clock=clock,
        snapshot=lambda: judge.snapshot,
        is_started=lambda: True,
        self_metrics=(),
        collectors=(totals,),
    )
    page = exporter.metrics(parse_request(f"GET /metrics HTTP/1.1\r\nAccept: {accept}".encode()))

    found = {
        (sample.name, sample.labels["xid"]): sample.value
        for family in parse(page.body)
        for sample in family.samples
        if "xid" in sample.labels
    }
    assert found == {
        ("gpuward_gpu_xids_total", "31"): 3.0,
        ("gpuward_gpu_xids_total", "79"): 1.0,
        ("gpuward_gpu_xid_last_timestamp_seconds", "31"): offset_s + 12.0,
        ("gpuward_gpu_xid_last_timestamp_seconds", "79"): offset_s + 5.0,
    }


def test_nothing_where_nothing_was_reported(clock):
    """No series is no XID since the kernel's log begins; a 0 for each code would be 172 series."""
    assert list(XidTotals(clock).collect()) == []


def test_bounded(clock):
    totals = XidTotals(clock)
    for code in range(1_500):
        totals.add(xid(code, 1.0))
    totals.add(xid(0, 2.0))
    count, _ = totals.collect()

    assert len(count.samples) == 1_000
    assert count.samples[0].value == 2.0


@pytest.mark.parametrize(
    ("jump_s", "moved_s"),
    [
        pytest.param(-86_400.0, -86_400.0, id="the node booted a day ahead"),
        pytest.param(3_600.0, 3_600.0, id="an hour behind"),
        pytest.param(0.9, 0.0, id="by so little that a new time would be taken for a new XID"),
    ],
)
def test_a_wall_clock_that_is_corrected_corrects_the_past(clock, jump_s, moved_s):
    """Alerts ask how long ago it was."""
    totals = XidTotals(clock)
    totals.add(xid(79, clock.mono_s()))
    at_s = clock.wall_s()
    clock.jump_wall(jump_s)
    _, last = totals.collect()

    assert last.samples[0].value == at_s + moved_s
