"""The agent's HTTP server: three pages, everything else refused, nothing unbounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gpuward.agent import http_server
from gpuward.agent.exporter import Exporter
from gpuward.agent.http_message import Request, Response, parse_request
from gpuward.agent.http_server import HttpServer
from gpuward.agent.model import Batch, Driver
from gpuward.agent.self_metrics import SelfCollector, SelfMetric


@contextlib.asynccontextmanager
async def serving(routes):
    server = HttpServer(routes)
    address = await server.start("127.0.0.1", 0)
    try:
        yield server, address
    finally:
        await server.close()


async def say(address, request):
    """Send bytes, return all that comes back."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        async with asyncio.timeout(200):
            return await reader.read()
    finally:
        writer.close()


async def get(address, path, method="GET"):
    answer = await say(address, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), head, body


async def all_closed(server):
    while server._open:  # noqa: ASYNC110 - seen from outside, there is no event
        await asyncio.sleep(0.001)


ASK = Request("/any")
PAGES = {"/page": lambda _: Response("text\n")}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param(b"GET /page HTTP/1.1", 200, id="a page"),
        pytest.param(b"GET /page HTTP/1.0", 200, id="an old client"),
        pytest.param(b"GET /page?x=1 HTTP/1.1", 200, id="a query is ignored"),
        pytest.param(b"HEAD /page HTTP/1.1", 200, id="head only"),
        pytest.param(b"GET /other HTTP/1.1", 404, id="no such page"),
        pytest.param(b"GET //page HTTP/1.1", 404, id="not quite"),
        pytest.param(b"POST /page HTTP/1.1", 405, id="nothing is changed here"),
        pytest.param(b"GET /page", 400, id="no version"),
        pytest.param(b"GET /page HTTP/2", 400, id="another protocol"),
        pytest.param(b"\x16\x03\x01\x02\x00 \xff \x80", 400, id="TLS to a plain port"),
        pytest.param(b"", 400, id="empty line"),
        pytest.param(b"GET /" + b"x" * 9_000 + b" HTTP/1.1", 431, id="too long"),
    ],
)
async def test_requests(request_line, status):
    async with serving(PAGES) as (_, address):
        answer = await say(address, request_line + b"\r\nHost: x\r\n\r\n")

    assert int(answer.split(b" ")[1]) == status
    assert (b"text\n" in answer) == (status == 200 and not request_line.startswith(b"HEAD"))


async def test_the_answer_is_complete_and_the_connection_ends():
    async with serving(PAGES) as (_, address):
        answer = await say(address, b"GET /page HTTP/1.1\r\n\r\n")

    assert answer == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 5\r\nConnection: close\r\n\r\ntext\n"
    )


async def test_the_41st_connection_is_turned_away():
    """Forty idle clients cannot make more work; and when they are gone all is well."""
    async with serving(PAGES) as (server, address):
        idle = [await asyncio.open_connection(*address) for _ in range(40)]
        await asyncio.sleep(0)
        refused, head, _ = await get(address, "/page")
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        await all_closed(server)
        served, _, _ = await get(address, "/page")

    assert (refused, served, server.refused) == (503, 200, 1)
    assert "\r\nRetry-After: 1" in head


async def test_a_client_that_dribbles_is_dropped(monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_WITHIN_S", 0.05)
    async with serving(PAGES) as (_, address):
        answer = await say(address, b"GET /page HTTP/1.1\r\nX-Slow: ")

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_does_not_read_is_dropped(monkeypatch):
    """Its page does not stay in our memory."""
    monkeypatch.setattr(http_server, "TAKEN_WITHIN_S", 0.05)
    pages = {"/page": lambda _: Response("x" * (32 << 20))}
    async with serving(pages) as (server, address):
        reader, writer = await asyncio.open_connection(*address, limit=1)
        writer.write(b"GET /page HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(200):
            await reader.read(1)
            await all_closed(server)
        writer.close()


async def test_nobody_takes_a_page_that_prometheus_no_longer_waits_for():
    """Its header says for how long it waits; our own ten seconds are then too long."""
    pages = {"/page": lambda _: Response("x" * (32 << 20))}
    async with serving(pages) as (server, address):
        reader, writer = await asyncio.open_connection(*address, limit=1)
        writer.write(b"GET /page HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.05\r\n\r\n")
        async with asyncio.timeout(200):
            await reader.read(1)
            await all_closed(server)
        writer.close()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("10", 10.0, id="seconds"),
        pytest.param("0.5", 0.5, id="less than one"),
        pytest.param("", None, id="nothing"),
        pytest.param("soon", None, id="no number"),
        pytest.param("0", None, id="no time at all"),
        pytest.param("-1", None, id="less"),
        pytest.param("nan", None, id="nan"),
        pytest.param("inf", None, id="for ever"),
    ],
)
def test_scrape_timeout(said, expected):
    head = f"GET /metrics HTTP/1.1\r\nX-PROMETHEUS-scrape-timeout-seconds: {said}\r\n\r\n"

    assert expected == parse_request(head.encode()).scrape_timeout_s


@pytest.mark.parametrize(
    ("length", "asked", "is_compressed"),
    [
        pytest.param(4_096, "gzip", True, id="a long page"),
        pytest.param(4_095, "gzip", False, id="a short page"),
        pytest.param(4_096, "identity", False, id="not asked for"),
    ],
)
async def test_compression(length, asked, is_compressed):
    async with serving({"/page": lambda _: Response("x" * length)}) as (_, address):
        request = f"GET /page HTTP/1.1\r\nAccept-Encoding: {asked}\r\n\r\n"
        head, _, body = (await say(address, request.encode())).partition(b"\r\n\r\n")

    assert is_compressed == (b"\r\nContent-Encoding: gzip" in head)
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert b"x" * length == (gzip.decompress(body) if is_compressed else body)


async def test_a_client_that_leaves_is_no_error():
    async with serving(PAGES) as (_, address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"GET")
        writer.close()
        await writer.wait_closed()
        status, _, _ = await get(address, "/page")

    assert status == 200


async def test_a_taken_port_is_an_error():
    async with serving(PAGES) as (_, (host, port)):
        with pytest.raises(OSError, match="in use"):
            await HttpServer(PAGES).start(host, port)


@pytest.fixture
def make_exporter(clock, make_judge):
    def make(*, is_started=True, child_pid=lambda: None):
        judge = make_judge()
        metrics = (SelfMetric("judgements_total", "Turns of the loop.", lambda: judge.ticks),)
        exporter = Exporter(
            clock=clock,
            snapshot=lambda: judge.snapshot,
            is_started=lambda: is_started,
            self_metrics=metrics,
            child_pid=child_pid,
        )
        return exporter, judge

    return make


async def test_metrics_hold_the_node_and_the_agent_itself(make_exporter):
    exporter, judge = make_exporter()
    judge.tick()

    page = exporter.metrics(ASK)
    read = {s.name for f in text_string_to_metric_families(page.body) for s in f.samples}

    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "\ngpuward_agent_judgements_total 1.0\n" in page.body
    assert {
        "gpuward_driver_up",
        "gpuward_build_info",
        "gpuward_agent_process_resident_memory_bytes",
    } <= read


@pytest.mark.parametrize(
    ("late_s", "status"),
    [
        pytest.param(10.0, 200, id="the loop is late"),
        pytest.param(10.1, 503, id="the loop is stuck"),
    ],
)
async def test_health_is_the_judges_loop(make_exporter, clock, late_s, status):
    exporter, judge = make_exporter()
    judge.tick()
    await clock.advance(late_s)

    assert exporter.healthz(ASK).status == status
    assert exporter.readyz(ASK).status == status


async def test_a_hung_driver_changes_neither_health_nor_readiness(make_exporter, clock):
    exporter, judge = make_exporter()
    for waiting_s in range(90):
        judge.take("nvml", Batch(driver=Driver(up=True, waiting_s=float(waiting_s))))
        judge.tick()
        await clock.advance(1.0)

    assert [f.finding.kind for f in judge.snapshot.open_findings] == ["driver.unresponsive"]
    assert (exporter.healthz(ASK).status, exporter.readyz(ASK).status) == (200, 200)


async def test_not_ready_before_the_first_round(make_exporter):
    exporter, judge = make_exporter(is_started=False)
    judge.tick()

    assert (exporter.healthz(ASK).status, exporter.readyz(ASK).status) == (200, 503)


async def test_prometheus_gets_openmetrics(make_exporter):
    exporter, judge = make_exporter()
    judge.tick()

    page = exporter.metrics(Request("/metrics", headers={"accept": "application/openmetrics-text"}))
    read = {family.name: family for family in openmetrics_families(page.body)}

    assert page.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert page.body.endswith("\n# EOF\n")
    assert "info" == read["gpuward_build"].type
    assert "counter" == read["gpuward_agent_judgements"].type


async def test_the_agent_tells_what_it_costs(make_exporter):
    """CPU and memory of the agent, and of its child while there is one."""
    costs = {
        f"gpuward_{who}_process_{what}"
        for who in ("agent", "nvml_child")
        for what in ("cpu_seconds_total", "resident_memory_bytes")
    }
    pages = []
    for pid in (None, os.getpid()):
        exporter, _ = make_exporter(child_pid=lambda pid=pid: pid)
        text = exporter.metrics(ASK).body
        pages.append({s.name for f in text_string_to_metric_families(text) for s in f.samples})

    assert {name for name in costs if "nvml_child" in name} == costs - pages[0]
    assert costs <= pages[1]


async def test_a_number_for_each_of_several():
    metric = SelfMetric("age_seconds", "Age.", lambda: {"b": 2, "a": 1.5}, "sampler")
    (family,) = list(SelfCollector((metric,)).collect())[1:]

    assert [({"sampler": "a"}, 1.5), ({"sampler": "b"}, 2)] == [
        (sample.labels, sample.value) for sample in family.samples
    ]


async def test_conditions(make_exporter, clock):
    exporter, judge = make_exporter()
    judge.take("nvml", Batch(driver=Driver(up=True)))
    judge.tick()

    everything = exporter.conditions(ASK)
    one = exporter.conditions(Request("/conditions", query="type=GpuFault"))
    none = exporter.conditions(Request("/conditions", query="type=NoSuch"))
    await clock.advance(10.1)
    stuck = exporter.conditions(Request("/conditions", query="type=GpuFault"))

    told = json.loads(everything.body)["conditions"]
    assert ["GpuDriverFault", "GpuFault", "GpuDegraded"] == [each["type"] for each in told]
    assert "False\nNoGpuFault: nothing found\n" == one.body
    assert 404 == none.status
    assert "Unknown\n" == stuck.body.partition("AgentStuck")[0]
