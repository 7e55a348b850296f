"""PagerDuty: what leaves is valid, what each answer means, and what is read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from gpuward.coordinator.alerts import Sight
from gpuward.coordinator.model import State
from gpuward.coordinator.page import Refused, Retry, Sent

TAKEN = {"status": "success", "message": "Event processed", "dedup_key": "inc-1-L1"}


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Events API v2, as documented."""


class Link(Strict):
    href: str
    text: str


class Payload(Strict):
    summary: Annotated[str, Meta(min_length=1, max_length=1024)]
    source: Annotated[str, Meta(min_length=1)]
    severity: Literal["critical", "error", "warning", "info"]
    timestamp: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")]
    custom_details: dict[str, str]


class Trigger(Strict):
    routing_key: str
    event_action: Literal["trigger"]
    dedup_key: Annotated[str, Meta(max_length=255)]
    client: str
    client_url: str
    links: list[Link]
    payload: Payload


class Other(Strict):
    routing_key: str
    event_action: Literal["acknowledge", "resolve"]
    dedup_key: Annotated[str, Meta(max_length=255)]


@pytest.fixture
def pager(channel):
    return channel("pagerduty")


@pytest.mark.parametrize(
    ("severity", "there"),
    [("SEV1", "critical"), ("SEV2", "error"), ("SEV3", "warning"), ("SEV4", "info")],
)
async def test_a_page_triggers(pager, server, play, *, severity, there):
    server.answers["/v2/enqueue"] = [play.answer(202, TAKEN)]

    assert Sent() == await pager.send(replace(play.message, severity=severity))

    event = msgspec.json.decode(server.requests[0].body, type=Trigger)
    assert (play.secret, "inc-1-L1", there) == (
        event.routing_key,
        event.dedup_key,
        event.payload.severity,
    )
    assert "20 % of 600 requests failed" == event.payload.custom_details["impact"]


async def test_a_page_that_is_too_long_keeps_what_matters(pager, server, play):
    server.answers["/v2/enqueue"] = [play.answer(202, TAKEN)]
    long = replace(play.message, summary="x" * 2000, causes=("y" * 600_000,))

    assert Sent() == await pager.send(long)

    body = server.requests[0].body
    event = msgspec.json.decode(body, type=Trigger)
    assert len(body) <= 512_000
    assert {"incident": play.message.url} == event.payload.custom_details


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(202, TAKEN, Sent(), id="taken"),
        pytest.param(
            400,
            {"status": "invalid event", "message": "no", "errors": ["key is wrong"]},
            Refused("status 400: key is wrong"),
            id="invalid",
        ),
        pytest.param(403, "", Refused("status 403"), id="forbidden"),
        pytest.param(429, "", Retry("status 429", 30.0), id="too many"),
        pytest.param(500, "<html>", Retry("status 500", 30.0), id="broken"),
        pytest.param(
            202,
            '{"status": "succ',
            Retry("status 202 with an unexpected answer", 30.0),
            id="cut off",
        ),
        pytest.param(
            200,
            "<html>log in</html>",
            Retry("status 200 with an unexpected answer", 30.0),
            id="a proxy in between",
        ),
    ],
)
async def test_answers(pager, server, play, *, status, body, expected):
    server.answers["/v2/enqueue"] = [play.answer(status, body)]

    assert expected == await pager.send(play.message)


@pytest.mark.parametrize(
    ("told", "now", "action"),
    [
        (State.OPEN, State.ACKNOWLEDGED, "acknowledge"),
        (State.OPEN, State.MITIGATED, "acknowledge"),
        (State.OPEN, State.RESOLVED, "resolve"),
        (State.ACKNOWLEDGED, State.RESOLVED, "resolve"),
        (State.ACKNOWLEDGED, State.MITIGATED, None),
        (State.ACKNOWLEDGED, State.OPEN, None),
        (State.OPEN, State.OPEN, None),
    ],
)
async def test_what_becomes_of_an_incident_is_told(pager, server, play, *, told, now, action):
    server.answers["/v2/enqueue"] = [play.answer(202, TAKEN)]

    assert Sent() == await pager.follow(
        play.alert(told=told), replace(play.message, state=now.value)
    )

    events = [msgspec.json.decode(request.body, type=Other) for request in server.requests]
    assert [action] * (action is not None) == [event.event_action for event in events]
    assert all(event.dedup_key == "inc-1-L1" for event in events)


def incident(status, *names, by=None):
    return {
        "incidents": [
            {
                "id": "PT4KHLK",
                "status": status,
                "incident_key": "inc-1-L1",
                "acknowledgements": [
                    {
                        "at": "2026-11-24T08:00:00Z",
                        "acknowledger": {"type": "user_reference", "id": "P1", "summary": name},
                    }
                    for name in names
                ],
                "last_status_change_by": by and {"type": "user_reference", "summary": by},
            }
        ],
        "limit": 1,
        "more": False,
    }


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(200, incident("triggered"), Sight(State.OPEN), id="triggered"),
        pytest.param(
            200, incident("acknowledged", "Ann"), Sight(State.ACKNOWLEDGED, "Ann"), id="ack"
        ),
        pytest.param(
            200, incident("resolved", by="Bob"), Sight(State.RESOLVED, "Bob"), id="resolved"
        ),
        pytest.param(200, incident("new word"), Sight(State.OPEN), id="unknown status"),
        pytest.param(200, {"incidents": []}, Sight(State.OPEN), id="not there yet"),
        pytest.param(401, "", Refused("status 401"), id="wrong token"),
        pytest.param(429, "", Retry("status 429"), id="too many"),
        pytest.param(200, "{", Retry("status 200 with an unexpected answer"), id="cut off"),
    ],
)
async def test_look(pager, server, play, *, status, body, expected):
    server.answers["/incidents"] = [play.answer(status, body)]

    assert expected == await pager.look(play.alert())

    (request,) = server.requests
    assert f"Token token={play.secret}" == request.headers["authorization"]
    assert "inc-1-L1" == request.query["incident_key"]
