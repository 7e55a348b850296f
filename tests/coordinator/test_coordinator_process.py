"""The coordinator as a process: it starts, stops, says what is wrong, and survives kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator import store_reports
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.migrate import upgrade
from gpuward.coordinator.model import State
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.daemon.subprocesses import kill_group, run, start
from gpuward.v1 import coordinator_pb2 as pb
from gpuward.v1 import coordinator_pb2_grpc, finding_pb2, report_pb2

COMMAND = [sys.executable, "-m", "gpuward.coordinator"]
# Five minutes in a quarter of a second: the whole chain takes three seconds.
SPEED = 1200.0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "c.toml").write_text(f"""
[state]
directory = "{tmp_path}/state"
[grpc]
address = "127.0.0.1:0"
[http]
address = "127.0.0.1:0"
[escalation]
speed = {SPEED}
[[notifiers]]
type = "file"
name = "pages"
path = "{tmp_path}/pages.jsonl"
""")
    return tmp_path


class Coordinator:
    """One after the other on the same state directory."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def start(self, **env):
        (self.folder / "state" / "addresses.json").unlink(missing_ok=True)
        self.log = (self.folder / "log").open("ab")
        self.process = start(
            [*COMMAND, "run", "--config", str(self.folder / "c.toml")],
            env={**os.environ, **env},
            stdout=self.log,
            stderr=self.log,
        )
        return self.addresses()

    def addresses(self):
        path = self.folder / "state" / "addresses.json"
        while not path.exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.01)
        return json.loads(path.read_text())

    def end(self, number):
        kill_group(self.process.pid, number)
        self.log.close()
        return self.process.wait(200)

    def pages(self):
        path = self.folder / "pages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def coordinator(folder):
    coordinator = Coordinator(folder)
    yield coordinator
    if coordinator.process is not None and coordinator.process.poll() is None:
        coordinator.end(signal.SIGKILL)


def test_it_serves_and_stops_within_its_bound(coordinator):
    addresses = coordinator.start()

    for address in addresses.values():
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), 200).close()
    assert 0 == coordinator.end(signal.SIGTERM)
    assert "coordinator.stopped" in (coordinator.folder / "log").read_text()


def test_it_tells_systemd(coordinator, folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(folder / "notify"))
        supervisor.settimeout(200)
        coordinator.start(NOTIFY_SOCKET=str(folder / "notify"))
        ready, watchdog = supervisor.recv(1000), supervisor.recv(1000)
        coordinator.end(signal.SIGTERM)

    assert ready.startswith(b"READY=1\nSTATUS=people on http://127.0.0.1:")
    assert b"WATCHDOG=1" == watchdog


def test_a_second_one_on_the_same_state_is_refused(coordinator, folder):
    coordinator.start()

    finished = asyncio.run(call("run", folder / "c.toml"))

    assert 1 == finished.returncode
    assert f"state.directory: {folder}/state: another coordinator runs here" in one_line(finished)


async def call(*arguments):
    *words, path = arguments
    return await run([*COMMAND, *words, "--config", str(path)], timeout_s=200)


def one_line(finished):
    lines = finished.stderr.decode().splitlines()
    assert 1 == len(lines), lines
    return lines[0]


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        pytest.param("[http]\nport = 1", 2, "port", id="unknown key"),
        pytest.param(
            "[http]\naddress = '{taken}'", 1, "http.address: {taken}: ", id="web port taken"
        ),
        pytest.param(
            "[grpc]\naddress = '{taken}'", 1, "grpc.address: {taken}: ", id="gRPC port taken"
        ),
        pytest.param(
            "[state]\ndirectory = '/proc/gpuward'",
            1,
            "state.directory: /proc/gpuward: ",
            id="state",
        ),
        pytest.param("[database]\nurl = 'x'", 1, "database.url: x: ", id="no database URL"),
        pytest.param(
            "[database]\nurl = 'sqlite+aiosqlite:////nowhere/x.db'",
            1,
            "unable to open database file",
            id="no database",
        ),
    ],
)
def test_one_line_says_why_it_cannot_start(tmp_path, text, status, message):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        defaults = {
            "[state]": f"[state]\ndirectory = '{tmp_path}/state'",
            "[http]": "[http]\naddress = '127.0.0.1:0'",
            "[grpc]": "[grpc]\naddress = '127.0.0.1:0'",
        }
        rest = "\n".join(lines for table, lines in defaults.items() if table not in text)
        (tmp_path / "c.toml").write_text(text.replace("{taken}", taken) + "\n" + rest)
        finished = asyncio.run(call("run", tmp_path / "c.toml"))

    assert status == finished.returncode
    assert message.replace("{taken}", taken) in one_line(finished)


def test_check_config(folder):
    finished = asyncio.run(call("check-config", folder / "c.toml"))

    assert (0, f"{folder}/c.toml: ok\n") == (finished.returncode, finished.stdout.decode())
    assert not (folder / "state").exists()


def test_db_upgrade(folder):
    finished = asyncio.run(call("db", "upgrade", folder / "c.toml"))

    assert (0, "database: up to date\n") == (finished.returncode, finished.stdout.decode())
    assert (folder / "state" / "coordinator.db").exists()


def test_kill_9_at_any_instant_loses_nothing(coordinator, folder, make):
    """Killed as soon as a page has left, which is before it is marked, and while starting.

    Every step is decided once; every page arrives at least once; a repeated one has the same key.
    """
    kills, wanted = 5, {"L1", "L1-repeat", "L2", "L3", "executive"}
    ids = asyncio.run(open_incidents(folder, make, 3))
    for kill in range(kills):
        coordinator.start()
        before, until = len(coordinator.pages()), time.monotonic() + 1.0
        while len(coordinator.pages()) == before and time.monotonic() < until:
            time.sleep(0.001)
        if kill % 2:
            time.sleep(0.05)
        coordinator.end(signal.SIGKILL)
    coordinator.start()
    until = time.monotonic() + 200
    while not all(page.sent_at_s for page in asyncio.run(read_pages(folder, ids, len(wanted)))):
        assert time.monotonic() < until, coordinator.pages()
        time.sleep(0.05)
    coordinator.end(signal.SIGTERM)

    assert {f"inc-{i}-{level}" for i in ids for level in wanted} == {
        page["dedup_key"] for page in coordinator.pages()
    }
    for record in asyncio.run(read_incidents(folder, ids)):
        fired = Counter(
            entry.event.level for entry in record.timeline if isinstance(entry.event, e.StepFired)
        )
        assert dict.fromkeys(wanted, 1) == dict(fired)
        assert State.OPEN is record.incident.state


def store_of(folder):
    (folder / "state").mkdir(exist_ok=True)
    engine = create_engine(f"sqlite+aiosqlite:///{folder}/state/coordinator.db")
    return engine, Store(engine, policy=DEFAULT_POLICY, speed=SPEED)


async def open_incidents(folder, make, count):
    engine, store = store_of(folder)
    await upgrade(engine)
    now_s = time.time()
    opened = []
    for n in range(count):
        async with store.writing() as tx:
            event = make.opened(group_key=f"g{n}", kind="gpu.xid", service="", impact_since_s=now_s)
            opened.append((await tx.open(event, (), now_s)).id)
    await store.close()
    return opened


async def read_pages(folder, ids, count):
    """Return the pages of all incidents; until there are ``count`` of each, one that is unsent."""
    records = await read_incidents(folder, ids)
    pages = [page for record in records for page in record.pages]
    return pages if len(pages) == count * len(ids) else [SimpleNamespace(sent_at_s=None)]


async def read_incidents(folder, ids):
    _, store = store_of(folder)
    records = [await store.get_incident(i) for i in ids]
    await store.close()
    return records


def test_kill_9_loses_nothing_that_was_acknowledged(coordinator, folder):
    """Nodes that raise a finding with each report, killed while many reports are in one commit."""
    acknowledged = Counter()
    for _ in range(3):
        address = coordinator.start()["grpc"]
        asyncio.run(raise_until_killed(coordinator, address, acknowledged))
    known = asyncio.run(read_findings(folder))

    assert 20 == len(acknowledged)
    for node, seq in acknowledged.items():
        # What was sent and not answered may be there as well.
        assert known[node] in (seq, seq + 1), node


async def raise_until_killed(coordinator, address, acknowledged):
    async with grpc.aio.insecure_channel(address) as channel:
        session = coordinator_pb2_grpc.CoordinatorServiceStub(channel).Session
        enough, wanted = asyncio.Event(), acknowledged.total() + 200

        def acknowledge(node, seq):
            acknowledged[node] = seq
            if acknowledged.total() == wanted:
                enough.set()

        async with asyncio.TaskGroup() as group:
            for n in range(20):
                node = f"node-{n}"
                group.create_task(raise_findings(session(), node, acknowledged[node], acknowledge))
            await enough.wait()
            coordinator.end(signal.SIGKILL)


async def raise_findings(call, node, seq, acknowledge):
    hello = pb.Hello(protocol_revision=1, node=node, boot_id="b", agent_version="1")
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call.write(pb.SessionRequest(hello=hello))
        await call.read()
        while True:
            seq += 1
            finding = finding_pb2.Finding(
                finding_id=f"{node}-{seq}", kind="gpu.xid", default_class="FINDING_CLASS_STORE"
            )
            report = report_pb2.Report(
                node=node, boot_id="b", agent_instance="a", seq=seq, findings=[finding]
            )
            await call.write(pb.SessionRequest(report=report))
            answer = await call.read()
            if answer is grpc.aio.EOF:
                return
            acknowledge(node, answer.report_ack.report_seq)


async def read_findings(folder):
    """Return the number of the open finding of each node: it has no other."""
    _, store = store_of(folder)
    async with store.reading() as connection:
        findings = await store_reports.load_open_findings(connection)
    await store.close()
    assert len(findings) == len({f.subject.node for f in findings})
    return {f.subject.node: int(f.finding_id.rpartition("-")[2]) for f in findings}
