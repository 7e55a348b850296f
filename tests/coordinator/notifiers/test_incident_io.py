"""incident.io: alerts fire and are resolved; who has it is read from their escalations."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from gpuward.coordinator.alerts import Sight
from gpuward.coordinator.model import State
from gpuward.coordinator.page import Refused, Retry, Sent

EVENTS = "/v2/alert_events/http/01SRC"
TAKEN = {"status": "success", "message": "Event accepted", "deduplication_key": "inc-1-L1"}


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """Alert Events V2, as documented."""

    title: Annotated[str, Meta(min_length=1)]
    status: Literal["firing", "resolved"]
    deduplication_key: Annotated[str, Meta(min_length=1)]
    description: str
    source_url: str
    metadata: dict[str, str]


@pytest.fixture
def pager(channel):
    return channel("incident_io")


@pytest.mark.parametrize(
    ("causes", "is_cut"),
    [pytest.param(("leak",), False, id="usual"), pytest.param(("y" * 600_000,), True, id="long")],
)
async def test_a_page_fires(pager, server, play, *, causes, is_cut):
    server.answers[EVENTS] = [play.answer(202, TAKEN)]

    assert Sent() == await pager.send(replace(play.message, causes=causes))

    (request,) = server.requests
    event = msgspec.json.decode(request.body, type=Event)
    assert ("firing", "inc-1-L1", "SEV2") == (
        event.status,
        event.deduplication_key,
        event.metadata["severity"],
    )
    assert f"Bearer {play.secret}" == request.headers["authorization"]
    assert is_cut == (event.description == play.message.url)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(401, "", Refused("status 401"), id="wrong token"),
        pytest.param(422, {"message": "no title"}, Refused("status 422: no title"), id="invalid"),
        pytest.param(429, "", Retry("status 429"), id="too many"),
        pytest.param(502, "<html>", Retry("status 502"), id="down"),
        pytest.param(
            202, "{}", Retry("status 202 with an unexpected answer"), id="does not say success"
        ),
    ],
)
async def test_answers(pager, server, play, *, status, body, expected):
    server.answers[EVENTS] = [play.answer(status, body)]

    assert expected == await pager.send(play.message)


@pytest.mark.parametrize(
    ("told", "now", "statuses"),
    [
        (State.OPEN, State.ACKNOWLEDGED, []),
        (State.OPEN, State.RESOLVED, ["resolved"]),
        (State.RESOLVED, State.RESOLVED, []),
    ],
)
async def test_only_the_end_can_be_told(pager, server, play, *, told, now, statuses):
    server.answers[EVENTS] = [play.answer(202, TAKEN)]
    message = replace(play.message, state=now.value)

    assert Sent() == await pager.follow(play.alert(told=told), message)
    assert statuses == [request.json["status"] for request in server.requests]


def escalation(status, *users):
    acked = {"event": "acked", "users": [{"id": "U1", "name": name} for name in users]}
    return {"id": "E1", "status": status, "events": [{"event": "triggered"}, acked]}


@pytest.mark.parametrize(
    ("alerts", "escalations", "expected"),
    [
        pytest.param([], None, Sight(State.OPEN), id="not there yet"),
        pytest.param(["A1"], [], Sight(State.OPEN), id="nobody was paged"),
        pytest.param(["A1"], [escalation("triggered")], Sight(State.OPEN), id="nobody has it"),
        pytest.param(
            ["A1"],
            [escalation("expired"), escalation("acked", "Ann")],
            Sight(State.ACKNOWLEDGED, "Ann"),
            id="one of two was taken",
        ),
        pytest.param(
            ["A1"], [escalation("resolved")], Sight(State.RESOLVED), id="resolved by nobody named"
        ),
    ],
)
async def test_look(pager, server, play, *, alerts, escalations, expected):
    server.answers["/v2/alerts"] = [play.answer(200, {"alerts": [{"id": a} for a in alerts]})]
    server.answers["/v2/escalations"] = [play.answer(200, {"escalations": escalations})]

    assert expected == await pager.look(play.alert())

    first, *rest = server.requests
    assert "inc-1-L1" == first.query["deduplication_key[is]"]
    assert ["A1"] * len(rest) == [request.query["alert[one_of]"] for request in rest]


@pytest.mark.parametrize("path", ["/v2/alerts", "/v2/escalations"])
async def test_look_that_fails(pager, server, play, path):
    server.answers["/v2/alerts"] = [play.answer(200, {"alerts": [{"id": "A1"}]})]
    server.answers[path] = [play.answer(503, "")]

    assert Retry("status 503") == await pager.look(play.alert())
