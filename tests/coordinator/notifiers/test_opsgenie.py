"""Opsgenie and JSM: a request is taken, followed until it is done, and read back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from gpuward.coordinator.alerts import Sight
from gpuward.coordinator.model import State
from gpuward.coordinator.page import Refused, Retry, Sent
from gpuward.daemon.testing import FakeClock

TAKEN = {"result": "Request will be processed", "took": 0.1, "requestId": "r-1"}
REQUEST = "/v2/alerts/requests/r-1"


def done(success=True, status="Created alert", alert_id="a-1"):
    data = {"isSuccess": success, "status": status, "alertId": alert_id, "alias": "inc-1-L1"}
    return {"data": data, "took": 0.02, "requestId": "r-1"}


class Alert(msgspec.Struct, forbid_unknown_fields=True):
    """Create alert, as documented."""

    message: Annotated[str, Meta(min_length=1, max_length=130)]
    alias: Annotated[str, Meta(max_length=512)]
    description: Annotated[str, Meta(max_length=15_000)]
    priority: Literal["P1", "P2", "P3", "P4", "P5"]
    source: Annotated[str, Meta(max_length=100)]
    tags: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=20)]
    details: dict[str, str]


async def run(clock, work):
    """Return the result of ``work``, the clock going on as long as it takes."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.advance(0.1)
        await asyncio.sleep(0.001)
    return task.result()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def pager(channel, clock):
    return channel("opsgenie", clock)


@pytest.mark.parametrize(
    ("severity", "priority"), [("SEV1", "P1"), ("SEV2", "P2"), ("SEV3", "P3"), ("SEV4", "P5")]
)
async def test_a_page_is_an_alert(pager, clock, server, play, *, severity, priority):
    server.answers["/v2/alerts"] = [play.answer(202, TAKEN)]
    server.answers[REQUEST] = [
        play.answer(404, {"message": "Request not found"}),
        play.answer(200, done()),
    ]
    message = replace(play.message, severity=severity, summary="x" * 200, causes=("y" * 20_000,))

    assert Sent("a-1") == await run(clock, pager.send(message))

    first, *asked = server.requests
    alert = msgspec.json.decode(first.body, type=Alert)
    assert ("inc-1-L1", priority) == (alert.alias, alert.priority)
    assert f"GenieKey {play.secret}" == first.headers["authorization"]
    assert [REQUEST] * 2 == [request.path for request in asked]


@pytest.mark.parametrize(
    ("taken", "became", "expected"),
    [
        pytest.param((202, TAKEN), (200, done()), Sent("a-1"), id="done"),
        pytest.param(
            (202, TAKEN),
            (200, done(success=False, status="Alert is rejected", alert_id="")),
            Refused("Alert is rejected"),
            id="processed and refused",
        ),
        pytest.param(
            (202, TAKEN),
            (404, {"message": "Request not found"}),
            Retry("taken, but not processed so far"),
            id="never processed",
        ),
        pytest.param(
            (202, TAKEN), (500, "<html>"), Retry("taken, but not processed so far"), id="unknown"
        ),
        pytest.param(
            (202, TAKEN), (200, "{"), Retry("taken, but not processed so far"), id="garbage"
        ),
        pytest.param(
            (422, {"message": "Message can not be empty."}),
            None,
            Refused("status 422: Message can not be empty."),
            id="invalid",
        ),
        pytest.param((401, ""), None, Refused("status 401"), id="wrong key"),
        pytest.param((429, ""), None, Retry("status 429"), id="too many"),
        pytest.param((503, ""), None, Retry("status 503"), id="down"),
    ],
)
async def test_answers(pager, clock, server, play, *, taken, became, expected):
    server.answers["/v2/alerts"] = [play.answer(*taken)]
    server.answers[REQUEST] = [play.answer(*became)] if became else []

    assert expected == await run(clock, pager.send(play.message))


@pytest.mark.parametrize(
    ("told", "now", "action"),
    [
        (State.OPEN, State.ACKNOWLEDGED, "acknowledge"),
        (State.ACKNOWLEDGED, State.OPEN, "unacknowledge"),
        (State.ACKNOWLEDGED, State.MITIGATED, None),
        (State.MITIGATED, State.RESOLVED, "close"),
    ],
)
async def test_what_becomes_of_an_incident_is_told(
    pager, clock, server, play, *, told, now, action
):
    server.answers["*"] = [play.answer(202, TAKEN)]
    server.answers[REQUEST] = [play.answer(200, done())]
    message = replace(play.message, state=now.value, acknowledged_by="Ann")

    assert isinstance(await run(clock, pager.follow(play.alert(told=told), message)), Sent)

    told_there = [request for request in server.requests if request.method == "POST"]
    expected = [f"/v2/alerts/inc-1-L1/{action}"] * (action is not None)
    assert expected == [request.path for request in told_there]
    assert all(request.query == {"identifierType": "alias"} for request in told_there)


def found(status="open", *, acknowledged=False, **report):
    return {"data": {"id": "a-1", "status": status, "acknowledged": acknowledged, "report": report}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(200, found(), Sight(State.OPEN), id="open"),
        pytest.param(
            200,
            found(acknowledged=True, acknowledgedBy="ann@x.test"),
            Sight(State.ACKNOWLEDGED, "ann@x.test"),
            id="acknowledged",
        ),
        pytest.param(
            200,
            found("closed", acknowledged=True, closedBy="bob@x.test"),
            Sight(State.RESOLVED, "bob@x.test"),
            id="closed",
        ),
        pytest.param(404, "", Refused("status 404"), id="not there"),
        pytest.param(500, "", Retry("status 500"), id="down"),
    ],
)
async def test_look(pager, server, play, *, status, body, expected):
    server.answers["/v2/alerts/a-1"] = [play.answer(status, body)]

    assert expected == await pager.look(play.alert(reference="a-1"))
    assert {"identifierType": "id"} == server.requests[0].query
