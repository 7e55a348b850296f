"""From fragmentation in a real torch to the memory map on the incident's page, all parts real."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import httpx2
import pytest

from gpuward.memory_map.text import size_text

# The agent and the coordinator start, findings must last, and the tap looks once a second.
pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
COORDINATOR = """
[state]
directory = "{folder}/coordinator"
[grpc]
address = "127.0.0.1:0"
[http]
address = "127.0.0.1:0"
"""
AGENT = """
[node]
name = "n1"
[state]
directory = "{folder}/agent"
[http]
address = "127.0.0.1:0"
[grpc]
address = "unix:{folder}/agent.sock"
[coordinator]
address = "{coordinator}"
report_interval_s = 1.0
[tap]
directory = "{folder}/tap"
[kmsg]
path = "/dev/null"
[probes]
mode = "off"
"""


class Daemons:
    """A coordinator and the agent that reports to it."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.environment = environment
        self.started = {}

    def start(self, name, config):
        path = self.folder / f"{name}.toml"
        path.write_text(config)
        argv = [sys.executable, "-P", "-m", f"gpuward.{name}", "run", "--config", path]
        with (self.folder / f"{name}.log").open("w") as log:
            self.started[name] = subprocess.Popen(
                argv, env=self.environment, stdout=log, stderr=log
            )
        addresses = self.folder / name / "addresses.json"
        deadline_s = time.monotonic() + 200
        while not addresses.exists():
            assert time.monotonic() < deadline_s, (self.folder / f"{name}.log").read_text()
            time.sleep(0.05)
        return json.loads(addresses.read_text())

    def end(self, name):
        process = self.started.pop(name)
        process.terminate()
        process.wait(200)


@pytest.fixture
def daemons(node, tmp_path):
    running = Daemons(tmp_path, node.environment())
    yield running
    for name in list(running.started):
        running.end(name)


@pytest.fixture
def site(daemons, tmp_path):
    """A browser at the coordinator, to which the agent reports."""
    addresses = daemons.start("coordinator", COORDINATOR.format(folder=tmp_path))
    daemons.start("agent", AGENT.format(folder=tmp_path, coordinator=addresses["grpc"]))
    with httpx2.Client(base_url=f"http://{addresses['http']}") as browser:
        yield browser


def fragment(server):
    """Leave a hole of 40 MiB in each of thirty segments, and fail for it, once the tap looks."""
    server.ask("malloc", "probe", MIB)
    server.ask("run_python", 1.5)
    names = [str(index) for index in range(60)]
    for name in names:
        server.ask("malloc", name, 100 * MIB)
    for name in names[::2]:
        server.ask("malloc", name, 60 * MIB)
    assert server.ask("malloc", "large", 2300 * MIB)["error"] == "OutOfMemoryError"


def wait_for(server, condition):
    """Keep torch busy until ``condition`` returns something."""
    deadline_s = time.monotonic() + 200
    while time.monotonic() < deadline_s:
        server.ask("run_python", 0.2)
        if found := condition():
            return found
    raise AssertionError("waited in vain")


def memory_maps(site, **facts):
    """Return incident and map of the first map of which ``facts`` are true."""
    for incident in site.get("/api/v1/incidents").json()["incidents"]:
        answer = site.get(f"/api/v1/incidents/{incident['id']}/memory-maps").json()
        for found in answer["memory_maps"]:
            if all(bool(found[name]) is wanted for name, wanted in facts.items()):
                return incident["id"], found
    return None


def test_the_map_of_a_fragmented_process_is_on_the_page(node, site, daemons, tap):
    """With totals as torch counts them; once the agent is gone, the page says why none is new."""
    server = node.serve(**tap)
    fragment(server)
    incident_id, found = wait_for(server, lambda: memory_maps(site, taken_at_s=True))
    stats = server.ask("stats")
    sums = found["totals"]
    held = {
        "reserved": sums["reserved_bytes"],
        "allocated": sums["allocated_bytes"],
        "requested": sums["requested_bytes"],
        "active": sums["allocated_bytes"] + sums["pending_free_bytes"],
    }
    page = site.get(f"/incidents/{incident_id}").text
    entries = site.get(f"/api/v1/incidents/{incident_id}").json()["timeline"]
    event = next(e["event"] for e in entries if e["event"]["type"] == "MemoryMapTaken")

    assert held == {name: stats[f"{name}_bytes"]["all"]["current"] for name in held}
    assert found["pid"] == server.process.pid
    assert event["stranded_bytes"] == sums["stranded_bytes"] > 0
    for name in ("reserved_bytes", "stranded_bytes", "releasable_bytes"):
        assert f"<dd>{size_text(sums[name])}</dd>" in page, name
    assert page.count('role="img"') == len(found["groups"])

    daemons.end("agent")
    form = dict(re.findall(r'name="(csrf|version|process)" [^>]*value="([^"]*)"', page))
    # The rule against asking too often holds for people too.
    asked = wait_for(server, lambda: ask_again(site, incident_id, form))
    _, refused = wait_for(server, lambda: memory_maps(site, on_request=True, refusal=True))
    page = site.get(f"/incidents/{incident_id}").text

    assert asked.status_code == 303
    assert "the agent of node n1 cannot be reached" in refused["refusal"]
    assert "No fresh map: the agent of node n1 cannot be reached" in page
    assert "Map at the finding" in page


def ask_again(site, incident_id, form):
    """Press the button; the answer, once the process may be asked again."""
    answer = site.post(f"/incidents/{incident_id}/memory-maps", data=form)
    return answer if answer.status_code != 429 else None
