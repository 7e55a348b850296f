"""The memory map on the incident's page and in the API, and the button for a fresh one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import grpc
import grpc.aio
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator import store_maps, store_reports
from gpuward.coordinator.agents import ask_memory_map
from gpuward.coordinator.map_request import MappedProcess
from gpuward.coordinator.memory_maps import MemoryMaps, plan_maps
from gpuward.memory_map.model import Block, BlockState, MemoryMap, Segment
from gpuward.v1 import agent_pb2, agent_pb2_grpc

MIB = 2**20
GIB = 2**30
PROCESS = MappedProcess("node-7", "GPU-7", "vllm/llama", 4711)
LIVE, FREE = BlockState.ALLOCATED, BlockState.FREE
SEGMENTS = (
    Segment(0x7F0000000000, 6 * GIB, (Block(0, 6 * GIB, 6 * GIB, LIVE),)),
    Segment(
        0x7F1000000000,
        2 * GIB,
        (Block(0, 512 * MIB, 500 * MIB, LIVE), Block(512 * MIB, 1536 * MIB, 0, FREE)),
    ),
    Segment(0x7F2000000000, 64 * MIB, (Block(0, 64 * MIB, 0, FREE),), stream=7),
)
NAME = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture
def incident_of(site):
    """Open an incident whose process was asked for its map."""

    async def make(finding, *, segments=SEGMENTS, refusal="", **facts):
        incident = await site.open(findings=(finding,))
        now_s = site.clock.wall_s()
        await plan_maps(site.store, now_s - 60)
        async with site.store.writing() as tx:
            ((process, _),) = await store_maps.lease(tx.connection, now_s - 60, 4)
            if refusal:
                await store_maps.mark_refused(tx.connection, process, refusal)
            else:
                values = {"process": process.process_key, "pid": 4711, "gpu": process.gpu_uuid}
                taken = MemoryMap(**values, taken_at_s=now_s - 58, segments=segments, **facts)
                await store_maps.mark_taken(tx.connection, process, taken)
        return incident

    return make


async def section(site, incident):
    """Return what the page says of memory."""
    page = (await site.browser.get(f"/incidents/{incident.id}")).text
    return re.search(r'<section class="panel" id="memory".*?</section>', page, re.DOTALL)[0]


async def fields(site, incident, process=PROCESS):
    """Return what the button sends."""
    form = await site.form(incident)
    return {"csrf": form["csrf"], "version": form["version"], "process": process.id}


async def press(site, incident, form):
    return await site.browser.post(f"/incidents/{incident.id}/memory-maps", data=form)


async def test_the_map_on_the_page(site, incident_of, fragmentation, golden):
    """Figures, legend and picture; rewrite with `make golden` when a change is meant."""
    incident = await incident_of(fragmentation)
    text = await section(site, incident)
    token = site.browser.cookies["gpuward_csrf"]

    golden("incident-memory.html", text.replace(incident.id, "01INCIDENT").replace(token, "TOKEN"))


async def test_figures_and_words(site, incident_of, fragmentation):
    """All that the picture says can be read, and is of the map alone."""
    text = await section(site, await incident_of(fragmentation))

    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", text))
    assert figures == {
        "reserved from the device": "8.06 GiB",
        "active": "6.50 GiB",
        "stranded: free, but pinned": "1.50 GiB",
        "releasable by empty_cache()": "64.0 MiB",
        "largest free block": "1.50 GiB",
    }
    assert "vllm/llama" in text
    assert "node node-7 · GPU-7 · pid 4711" in text
    assert ">2027-01-15 07:59:02 UTC</time>" in text
    large, other = re.findall(r'role="img" aria-label="([^"]+)"', text)
    assert "large pool, stream default · 2 segments, 8.00 GiB reserved" in large
    assert "1.50 GiB stranded, largest hole 1.50 GiB" in large
    assert "large pool, stream 7 · 1 segment, 64.0 MiB reserved, 0 stranded" in other


async def test_the_pictures_are_well_formed_and_obey_the_policy(site, incident_of, fragmentation):
    """No style of their own, no script: colours come from a style sheet of ours."""
    text = await section(site, await incident_of(fragmentation))
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    sheet = await site.browser.get("/memory-map.css")

    for picture in pictures:
        tags = {element.tag for element in ET.fromstring(picture).iter()}
        assert tags <= {"svg", "g", "title", "path", "rect"}
    assert " style=" not in text
    assert (200, "text/css") == (
        sheet.status_code,
        sheet.headers["content-type"].partition(";")[0],
    )
    for name in ("allocated", "stranded", "releasable"):
        assert f'class="{name}"' in text
        assert f".memory-map .{name}{{fill:#" in sheet.text
    assert "prefers-color-scheme:dark" in sheet.text


async def test_names_from_outside_are_text(site, incident_of, fragmentation):
    subject = replace(fragmentation.subject, process_key=NAME, gpu_uuid="GPU-<b>")
    incident = await incident_of(replace(fragmentation, subject=subject))

    text = await section(site, incident)

    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text


async def test_a_flood_of_streams_is_not_all_drawn(site, incident_of, fragmentation):
    """Who makes ten thousand streams does not make a page of megabytes."""
    segments = tuple(
        Segment(2**40 + at * 2 * MIB, 2 * MIB, (Block(0, 2 * MIB, 0, FREE),), stream=at)
        for at in range(10_000)
    )
    text = await section(site, await incident_of(fragmentation, segments=segments))

    assert 32 == text.count('role="img"')
    assert "Not drawn: 9,968 more pools and streams with 19.5 GiB reserved." in text
    assert len(text) < 100_000


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param({"segments": ()}, "The allocator held no memory on this GPU.", id="nothing"),
        pytest.param(
            {"is_truncated": True},
            "There is more: the highest addresses did not fit into the answer.",
            id="cut",
        ),
    ],
)
async def test_notes(site, incident_of, fragmentation, facts, words):
    assert words in await section(site, await incident_of(fragmentation, **facts))


async def test_why_there_is_no_map(site, incident_of, fragmentation):
    incident = await incident_of(fragmentation, refusal="no tap: nobody <answers>")

    text = await section(site, incident)

    assert "No map: no tap: nobody &lt;answers&gt;." in text
    assert "<svg" not in text
    assert "Take a fresh map" in text


async def test_a_map_that_is_waited_for(site, fragmentation):
    """First that it is coming; then why not yet, and when the process is asked again."""
    incident = await site.open(findings=(fragmentation,))
    now_s = site.clock.wall_s()
    assert "A map of the process is asked for within seconds." in await section(site, incident)

    await plan_maps(site.store, now_s)
    assert "The process is being asked" in await section(site, incident)

    async with site.store.writing() as tx:
        await store_maps.lease(tx.connection, now_s, 4)
        await store_maps.mark_later(tx.connection, PROCESS, now_s + 18, "busy: <later>")
    text = await section(site, incident)
    assert "No map: busy: &lt;later&gt;." in text
    assert "asked again <time" in text
    assert ">in 18 s</time>" in text
    assert "<button>" not in text


async def test_nothing_to_say(site, opened):
    """An incident without memory findings has no such part."""
    incident = await site.open(opened)

    assert (await section(site, incident)).endswith('aria-labelledby="memory-title"></section>')


async def test_over(site, incident_of, fragmentation):
    """The map stays; nobody is asked any more."""
    incident = await incident_of(fragmentation)
    await site.append(incident, e.Resolved("Bo"))

    text = await section(site, incident)

    assert "Map at the finding" in text
    assert "<button>" not in text


class Agent(agent_pb2_grpc.AgentServiceServicer):
    """Answers what a test says, over a real connection."""

    def __init__(self, answer):
        self.answer = answer

    async def GetMemoryMap(self, request, context):  # noqa: N802
        return self.answer


def answer(offset=0, **facts):
    block = agent_pb2.MemoryBlock(offset_bytes=offset, size_bytes=MIB)
    segment = agent_pb2.MemorySegment(address=2**40, size_bytes=MIB, blocks=[block])
    return agent_pb2.GetMemoryMapResponse(segments=[segment], pid=4711, **facts)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        pytest.param(
            answer(2**64 - 1),
            "No map: unusable: no allocator can be as the agent answered.",
            id="a negative offset",
        ),
        pytest.param(
            answer(refusal="<script>\x1b[2J"), "No map: &lt;script&gt; [2J.", id="hostile words"
        ),
        pytest.param(
            answer(refusal=2 * MIB * "a"),
            "No map: the agent of node node-7 is overloaded, or answers with more than 1 MiB.",
            id="without end",
        ),
        pytest.param(
            answer(truncated=True),
            "There is more: the highest addresses did not fit into the answer.",
            id="cut",
        ),
        pytest.param(
            None, "No map: the agent of node node-7 cannot be reached at unix:", id="nobody there"
        ),
    ],
)
async def test_from_the_agents_answer_to_the_page(site, fragmentation, tmp_path, said, words):
    """Whatever is at the agent's address: the page says it, in our words."""
    address = f"unix:{tmp_path}/agent.sock"
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Agent(said), server)
    if said is not None:
        server.add_insecure_port(address)
    await server.start()
    incident = await site.open(findings=(fragmentation,))
    async with site.store.writing() as tx:
        hello = {"boot_id": "b", "agent_version": "1", "query_address": address}
        await store_reports.open_session(tx.connection, "node-7", site.clock.wall_s(), **hello)
    await plan_maps(site.store, site.clock.wall_s())
    async with asyncio.TaskGroup() as group:
        assert 1 == await MemoryMaps(site.store, ask_memory_map, site.clock).start_due(group)
    await server.stop(None)

    assert words in await section(site, incident)


async def test_the_button(site, incident_of, fragmentation):
    incident = await incident_of(fragmentation)

    answer = await press(site, incident, await fields(site, incident))

    assert (303, f"/incidents/{incident.id}#memory") == (
        answer.status_code,
        answer.headers["location"],
    )
    text = await section(site, incident)
    assert "The process is being asked" in text
    assert "Map at the finding" in text
    assert "<button>" not in text


async def test_the_button_too_soon(site, incident_of, fragmentation):
    """A map stops the process: not more often than every half minute, for people too."""
    incident = await incident_of(fragmentation)
    form = await fields(site, incident)
    await press(site, incident, form)
    async with site.store.writing() as tx:
        await store_maps.lease(tx.connection, site.clock.wall_s(), 4)
        await store_maps.mark_refused(tx.connection, PROCESS, "failed: torch could not say")
    site.clock.jump_wall(12)

    answer = await press(site, incident, form)

    assert 429 == answer.status_code
    assert "Ask again in 18 s" in answer.text


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        pytest.param({"csrf": "other"}, 403, id="from another page"),
        pytest.param({"version": ""}, 400, id="no version"),
        pytest.param({"version": "99"}, 409, id="a version that never was"),
        pytest.param({"process": "0" * 32}, 409, id="another process"),
        pytest.param({"process": ""}, 409, id="no process"),
        pytest.param({"process": "x" * 20_000}, 413, id="a flood"),
    ],
)
async def test_what_the_button_refuses(site, incident_of, fragmentation, changes, status):
    incident = await incident_of(fragmentation)
    form = await fields(site, incident)

    answer = await press(site, incident, form | changes)

    assert status == answer.status_code
    async with site.store.reading() as connection:
        assert 1 == len(await store_maps.load(connection, incident.id))


async def test_another_site_may_not_press_it(site, incident_of, fragmentation):
    incident = await incident_of(fragmentation)
    form = await fields(site, incident)

    answer = await site.browser.post(
        f"/incidents/{incident.id}/memory-maps", data=form, headers={"origin": "http://evil.test"}
    )

    assert 403 == answer.status_code


async def test_a_stale_button(site, incident_of, fragmentation):
    """What counts versions only does not matter; what a person would want to know does."""
    incident = await incident_of(fragmentation)
    form = await fields(site, incident)
    await site.append(incident, e.Noted("Bo", "hm"))
    assert 303 == (await press(site, incident, form)).status_code

    incident = (await site.store.get_incident(incident.id)).incident
    await site.append(incident, e.Resolved("Bo"))
    answer = await press(site, incident, form)

    assert 409 == answer.status_code
    assert "out of date" in answer.text


async def test_no_such_incident(site):
    assert 404 == (await site.browser.get("/api/v1/incidents/nope/memory-maps")).status_code


async def test_the_api(site, incident_of, fragmentation):
    """Sizes in bytes, of the whole and of each pool and stream."""
    incident = await incident_of(fragmentation)
    answer = await site.browser.get(f"/api/v1/incidents/{incident.id}/memory-maps")
    (found,) = answer.json()["memory_maps"]
    now_s = site.clock.wall_s()

    assert found.pop("groups") == [
        {"pool": "large", "stream": "default", **found["totals"]}
        | {
            "segments": 2,
            "blocks": 3,
            "reserved_bytes": 8 * GIB,
            "releasable_bytes": 0,
        },
        {"pool": "large", "stream": "7", **dict.fromkeys(found["totals"], 0)}
        | {
            "segments": 1,
            "blocks": 1,
            "reserved_bytes": 64 * MIB,
            "releasable_bytes": 64 * MIB,
            "largest_free_block_bytes": 64 * MIB,
        },
    ]
    assert found == {
        "node": "node-7",
        "gpu_uuid": "GPU-7",
        "process_key": "vllm/llama",
        "pid": 4711,
        "on_request": False,
        "is_waiting": False,
        "due_at_s": None,
        "asked_at_s": now_s - 60,
        "refusal": "",
        "taken_at_s": now_s - 58,
        "is_truncated": False,
        "totals": {
            "segments": 3,
            "blocks": 4,
            "reserved_bytes": 8 * GIB + 64 * MIB,
            "allocated_bytes": 6 * GIB + 512 * MIB,
            "pending_free_bytes": 0,
            "releasable_bytes": 64 * MIB,
            "stranded_bytes": 1536 * MIB,
            "private_free_bytes": 0,
            "requested_bytes": 6 * GIB + 500 * MIB,
            "largest_free_block_bytes": 1536 * MIB,
        },
    }


async def test_the_api_without_a_map(site, incident_of, fragmentation):
    incident = await incident_of(fragmentation, refusal="no tap: nobody")
    answer = await site.browser.get(f"/api/v1/incidents/{incident.id}/memory-maps")
    (found,) = answer.json()["memory_maps"]

    assert ("no tap: nobody", None, None, None) == tuple(
        found[name] for name in ("refusal", "taken_at_s", "totals", "groups")
    )
