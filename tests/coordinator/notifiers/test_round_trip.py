"""A page through a provider and back: decided, sent, taken there, known here, resolved there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuward.coordinator import delivery, notifiers
from gpuward.coordinator import events as e
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.fallback import Fallback
from gpuward.coordinator.model import State
from gpuward.coordinator.notifiers.file import FileConfig
from gpuward.coordinator.timers import Escalation, fire_due


class PagerDutyThere:
    """As PagerDuty keeps alerts: a trigger of one that is open is a line in its log."""

    kind = "pagerduty"

    def __init__(self, answer):
        self.answer = answer
        self.alerts = {}
        self.refuses = False

    def __call__(self, request):
        if self.refuses:
            return self.answer(500, "<html>something went wrong</html>")
        if request.method == "GET":
            return self.answer(200, {"incidents": self._found(request.query["incident_key"])})
        event = request.json
        status = {"acknowledge": "acknowledged", "resolve": "resolved"}.get(event["event_action"])
        if status:
            if event["dedup_key"] in self.alerts:
                self.alerts[event["dedup_key"]] = (status, "")
        else:
            self.alerts.setdefault(event["dedup_key"], ("triggered", ""))
        return self.answer(202, {"status": "success", "dedup_key": event["dedup_key"]})

    def take(self, key, name):
        self.alerts[key] = ("acknowledged", name)

    def ended(self, key):
        return self.alerts[key][0] == "resolved"

    def _found(self, key):
        if key not in self.alerts:
            return []
        status, name = self.alerts[key]
        acknowledgements = [{"acknowledger": {"summary": name}}] if name else []
        return [{"status": status, "acknowledgements": acknowledgements}]


class OpsgenieThere:
    """As Opsgenie keeps alerts: a request is taken at once, and done when it is asked about."""

    kind = "opsgenie"

    def __init__(self, answer):
        self.answer = answer
        self.alerts = {}

    def __call__(self, request):
        _, _, *path = request.path.split("/")[1:]
        if request.method == "POST":
            alias = path[0] if path else request.json["alias"]
            alert = self.alerts.setdefault(alias, {"status": "open", "report": {}})
            action = path[1] if path else "create"
            alert.update(
                {
                    "create": {},
                    "acknowledge": {"acknowledged": True},
                    "unacknowledge": {"acknowledged": False},
                    "close": {"status": "closed"},
                }[action]
            )
            return self.answer(202, {"result": "Request will be processed", "requestId": alias})
        if path[0] == "requests":
            done = {"isSuccess": True, "status": "done", "alertId": path[1]}
            return self.answer(200, {"data": done})
        return self.answer(200, {"data": self.alerts[path[0]]})

    def take(self, key, name):
        self.alerts[key] |= {"acknowledged": True, "report": {"acknowledgedBy": name}}

    def ended(self, key):
        return self.alerts[key]["status"] == "closed"


class IncidentIoThere:
    """As incident.io keeps alerts: each starts an escalation, which people take."""

    kind = "incident_io"

    def __init__(self, answer):
        self.answer = answer
        self.alerts = {}
        self.taken = {}

    def __call__(self, request):
        if request.method == "POST":
            self.alerts[request.json["deduplication_key"]] = request.json["status"]
            return self.answer(202, {"status": "success", "message": "Event accepted"})
        if request.path == "/v2/alerts":
            key = request.query["deduplication_key[is]"]
            return self.answer(200, {"alerts": [{"id": key}] if key in self.alerts else []})
        name = self.taken.get(request.query["alert[one_of]"])
        events = [{"event": "acked", "users": [{"name": name}]}] if name else []
        status = "acked" if name else "triggered"
        return self.answer(200, {"escalations": [{"status": status, "events": events}]})

    def take(self, key, name):
        self.taken[key] = name

    def ended(self, key):
        return self.alerts[key] == "resolved"


async def run(clock, work):
    """Return the result of ``work``, the clock going on only for those who sleep."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.advance(0.01)
        await asyncio.sleep(0.001)
    return task.result()


@pytest.fixture
async def incident(store, make):
    async with store.writing() as tx:
        incident = await tx.open(make.opened(), (), make.now_s)
    await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), make.now_s)
    return incident


@pytest.fixture
def there(server, play, request):
    """A provider that remembers, behind the server."""
    server.respond = request.param(play.answer)
    return server.respond


@pytest.fixture
def site(store, clock, channel, there, incident):
    """A coordinator that pages by that provider alone."""
    sending = delivery.create(
        store,
        {"pager": channel(there.kind, clock)},
        clock,
        "https://gpuward.test",
        speed=1.0,
        fallback=Fallback(),
    )
    return SimpleNamespace(there=there, sending=sending, id=incident.id)


@pytest.mark.parametrize("there", [PagerDutyThere, OpsgenieThere, IncidentIoThere], indirect=True)
async def test_round_trip(store, clock, site):
    key = f"inc-{site.id}-L1"
    assert 1 == await run(clock, site.sending.outbox.do_due())
    assert [key] == list(site.there.alerts)
    site.there.take(key, "Ann")

    await clock.advance(15.0)
    assert 1 == await run(clock, site.sending.looking.do_due())
    record = await store.get_incident(site.id)
    assert (State.ACKNOWLEDGED, "Ann") == (record.incident.state, record.incident.acknowledged_by)

    await store.submit(site.id, e.Resolve("bob"), now_s=clock.wall_s())
    assert 1 == await run(clock, site.sending.telling.do_due())
    assert site.there.ended(key)
    await clock.advance(60.0)
    assert 0 == await run(clock, site.sending.looking.do_due())


@pytest.mark.parametrize("there", [PagerDutyThere], indirect=True)
async def test_a_provider_that_is_down_is_gone_round(store, clock, site, channel, tmp_path):
    """Every event answered 500: the page is in a file in a minute, and there once it is up."""
    path = tmp_path / "pages.jsonl"
    record = notifiers.create(FileConfig(name="record", path=str(path)), clock)
    site.there.refuses = True
    sending = delivery.create(
        store,
        {"pager": channel("pagerduty", clock), "record": record},
        clock,
        "https://gpuward.test",
        speed=1.0,
        fallback=Fallback(last_resort=("record",)),
    )

    def lines():
        return path.read_text().splitlines() if Path(path).exists() else []

    for _ in range(4):
        await run(clock, sending.outbox.do_due())
        await clock.advance(15.0)
    assert 1 == len(lines())

    site.there.refuses = False
    await clock.advance(30.0)
    await run(clock, sending.outbox.do_due())

    assert [f"inc-{site.id}-L1"] == list(site.there.alerts)
    assert 1 == len(lines())
    timeline = [at.event for at in (await store.get_incident(site.id)).timeline]
    fell = [event for event in timeline if isinstance(event, e.PageFellBack)]
    assert [("pager", "record", "status 500")] == [(f.channel, f.onto, f.reason) for f in fell]
    assert {"pager", "record"} == {
        event.channel for event in timeline if isinstance(event, e.PageSent)
    }
