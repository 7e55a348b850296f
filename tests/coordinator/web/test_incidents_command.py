"""`gpuward incidents` against a coordinator's real web server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, replace

import click.testing
import msgspec
import pytest
import uvicorn

from gpuward.coordinator import events as e
from gpuward.coordinator.incidents_command import incidents
from gpuward.coordinator.model import Evidence, Subject


@dataclass
class Coordinator:
    url: str
    incident_id: str

    def run(self, *argv, color=False):
        """Run the command against this coordinator; return its result."""
        runner = click.testing.CliRunner()
        return runner.invoke(incidents, [*argv, "--url", self.url], color=color)


@pytest.fixture
async def coordinator(site, fragmentation, opened):
    """A served coordinator with one incident; the command runs in a thread of its own."""
    hostile = replace(fragmentation, summary="strands \x1b[2J 11.8 GiB")
    event = msgspec.structs.replace(opened, title="chat: \x1b]0;owned\x07 20% failed")
    incident = await site.open(event, findings=(hostile,))
    server = uvicorn.Server(uvicorn.Config(site.app, port=0, log_config=None, lifespan="off"))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Coordinator(f"http://127.0.0.1:{port}", incident.id)
        server.should_exit = True


async def in_thread(function, *argv, **options):
    """Run blocking code beside the loop that serves it."""
    done = asyncio.Event()
    loop, results = asyncio.get_running_loop(), []

    def call():
        results.append(function(*argv, **options))
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=call, daemon=True).start()
    await done.wait()
    return results[0]


async def test_list(coordinator):
    """A table: aligned, the title last, control characters gone, no colour in a pipe."""
    result = await in_thread(coordinator.run, "list")

    head, row = result.output.splitlines()
    assert result.exit_code == 0
    assert ["SEV", "STATE", "AGE", "NEXT", "PAGE", "ID", "TITLE"] == head.split()
    assert head.index("ID") == row.index(coordinator.incident_id)
    assert row.startswith("SEV2  open ")
    assert row.endswith("chat: ]0;owned 20% failed")
    assert "\x1b" not in result.output


async def test_list_of_a_card(site, coordinator, fragmentation, opened):
    """Resolved ones too, with the node that it was in; the page leads there and lists the same."""
    incident = await site.open(
        msgspec.structs.replace(opened, group_key="g2", node="node-2", gpu_uuid="GPU-2"),
        findings=(replace(fragmentation, finding_id="f2", subject=Subject("node-2", "GPU-2")),),
    )
    await site.append(incident, e.Resolved("Bo"))
    listed = await in_thread(coordinator.run, "list", "--gpu", "GPU-2")
    nothing = await in_thread(coordinator.run, "list", "--gpu", "a&b/\x1b[2J")
    shown = (await site.browser.get(f"/incidents/{incident.id}")).text
    page = (await site.browser.get("/?gpu=GPU-2")).text
    unknown = (await site.browser.get("/?gpu=<b>")).text

    head, row = listed.output.splitlines()
    assert head.index("NODE") == row.index("node-2")
    assert incident.id in row
    assert nothing.output == "No incident is known of GPU a&b/ [2J.\n"
    assert '<a href="/?gpu=GPU-2" title="all incidents of this GPU">GPU-2</a>' in shown
    assert page.count('<li class="incident-row') == 1
    assert ("No incident is known of it." in unknown, "<b>" in unknown) == (True, False)


async def test_colour_on_a_terminal(coordinator):
    """SEV2 is yellow there."""
    result = await in_thread(coordinator.run, "list", color=True)

    assert "\x1b[33m\x1b[1mSEV2" in result.output


async def test_show(coordinator):
    """Evidence with limits and the timeline, and nothing that a terminal obeys."""
    result = await in_thread(coordinator.run, "show", coordinator.incident_id)

    assert result.exit_code == 0
    assert "11.8 GiB (limit 4 GiB)" in result.output
    assert "L1 was due: paging Ann by console." in result.output
    assert "\x1b" not in result.output


async def test_an_event_and_what_stands_since_are_shown_once(
    site, coordinator, fragmentation, opened
):
    """In the terminal, on the page and in the API; what the title says is not said again."""
    event = replace(
        fragmentation,
        finding_id="event-1",
        cleared_at_s=fragmentation.last_seen_s,
        evidence=(*fragmentation.evidence, Evidence("seen_in_a_day", 3.0, "1")),
    )
    incident = await site.open(
        msgspec.structs.replace(opened, group_key="service|other", title=fragmentation.summary),
        findings=(fragmentation, event),
    )
    shown = (await in_thread(coordinator.run, "show", incident.id)).output
    page = (await site.browser.get(f"/incidents/{incident.id}")).text

    assert shown.count("process_memory_stranded_bytes") == 1
    assert page.count("process_<wbr>memory_<wbr>stranded_<wbr>bytes") == 1
    assert page.count("on the same GPU") + page.count("in this service") == 1
    assert ("seen_in_a_day" in shown, "seen_<wbr>in_<wbr>a_<wbr>day" in page) == (True, True)
    assert "  cause" not in shown


async def test_acknowledge_and_resolve(coordinator):
    """One line says what is so now; the notes are in the timeline."""
    incident_id = coordinator.incident_id
    ack = await in_thread(coordinator.run, "ack", incident_id, "--by", "Bo", "--note", "on it")
    resolve = await in_thread(coordinator.run, "resolve", incident_id, "--by", "Cy")
    again = await in_thread(coordinator.run, "ack", incident_id, "--by", "Bo")
    show = await in_thread(coordinator.run, "show", incident_id)
    rest = await in_thread(coordinator.run, "list")

    assert ack.output == f"{incident_id}: acknowledged by Bo\n"
    assert resolve.output == f"{incident_id}: resolved by Cy\n"
    assert (1, f"Error: incident {incident_id}: it is resolved\n") == (
        again.exit_code,
        again.output,
    )
    assert "Acknowledged by Bo. “on it”" in show.output
    assert rest.output == "Nothing is open.\n"


async def test_json(coordinator):
    """For programs: what the API says."""
    listed = await in_thread(coordinator.run, "list", "--json")
    shown = await in_thread(coordinator.run, "show", coordinator.incident_id, "--json")

    assert [coordinator.incident_id] == [i["id"] for i in json.loads(listed.output)["incidents"]]
    assert json.loads(shown.output)["state"] == "open"


@pytest.mark.parametrize("incident_id", ["01NONE", "../../healthz", "a b"])
async def test_no_such_incident(coordinator, incident_id):
    """One line, whatever the id looks like."""
    result = await in_thread(coordinator.run, "show", incident_id)

    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.startswith("Error: ")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("http://127.0.0.1:1", "does not answer", id="down"),
        pytest.param("nonsense", "does not answer", id="no URL"),
        pytest.param("http://a:b:c", "--url http://a:b:c: ", id="broken URL"),
    ],
)
def test_no_coordinator(url, words):
    """One line that names the address, no traceback."""
    result = Coordinator(url, "").run("list")

    assert result.exit_code == 1
    assert words in result.output
    assert result.output.count("\n") == 1


async def test_not_a_coordinator(coordinator):
    """Something else answers at that address."""
    other = Coordinator(f"{coordinator.url}/static/style.css", "")

    result = await in_thread(other.run, "list")

    assert result.exit_code == 1
    assert "is not a coordinator" in result.output
