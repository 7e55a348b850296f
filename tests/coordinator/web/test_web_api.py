"""The JSON API: a contract with the command line, the demo and other programs."""

from __future__ import annotations

import msgspec
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.model import Severity


async def test_list(site, fragmentation):
    """Open incidents with the next page and the probable cause."""
    incident = await site.open(findings=(fragmentation,))

    (found,) = (await site.browser.get("/api/v1/incidents")).json()["incidents"]

    assert (incident.id, "open", "SEV2", "SEV2") == (
        found["id"],
        found["state"],
        found["severity"],
        found["peak_severity"],
    )
    assert found["next_page"]["people"] == "Ann"
    assert found["probable_cause"]["kind"] == "process.memory.fragmentation"


async def test_show(site, fragmentation):
    """Everything about one: timeline with words, evidence with readable figures, steps, pages."""
    incident = await site.open(findings=(fragmentation,))

    found = (await site.browser.get(f"/api/v1/incidents/{incident.id}")).json()

    assert [1, 2, 3] == [entry["seq"] for entry in found["timeline"]]
    assert ["Opened", "FindingLinked", "StepFired"] == [
        entry["event"]["type"] for entry in found["timeline"]
    ]
    assert found["timeline"][2]["text"] == "L1 was due: paging Ann by console."
    fact = found["evidence"][0]["evidence"][0]
    assert ("11.8 GiB", "4 GiB") == (fact["value_text"], fact["threshold_text"])
    assert {"L1", "L2", "L3", "executive"} <= {step["level"] for step in found["steps"]}
    assert ["Ann"] == [page["target"] for page in found["pages"]]


@pytest.mark.parametrize(
    ("verb", "state"), [("ack", "acknowledged"), ("resolve", "resolved")], ids=["ack", "resolve"]
)
async def test_act(site, verb, state):
    """The answer is the incident after it; the same again changes nothing."""
    incident = await site.open()
    path = f"/api/v1/incidents/{incident.id}/{verb}"

    first = await site.browser.post(path, json={"by": "Bo", "note": "mine"})
    again = await site.browser.post(path, json={"by": "Cy"})

    assert (200, state) == (first.status_code, first.json()["state"])
    assert (200, first.json()["version"]) == (again.status_code, again.json()["version"])


async def test_version_guards(site):
    """With a version that is not the newest, nothing is done."""
    incident = await site.open()
    await site.append(incident, e.Noted("Cy", "hm"))
    body = {"by": "Bo", "version": incident.version}

    answer = await site.browser.post(f"/api/v1/incidents/{incident.id}/ack", json=body)

    assert answer.status_code == 409
    assert "has changed" in answer.json()["error"]


async def test_acknowledging_what_is_resolved(site):
    """Refused, with the reason."""
    incident = await site.open()
    path = f"/api/v1/incidents/{incident.id}"
    await site.browser.post(f"{path}/resolve", json={"by": "Bo"})

    answer = await site.browser.post(f"{path}/ack", json={"by": "Bo"})

    assert (409, {"error": f"incident {incident.id}: it is resolved"}) == (
        answer.status_code,
        answer.json(),
    )


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        pytest.param(b'{"by": "Bo"}', "text/plain", 415, id="type that needs no preflight"),
        pytest.param(b"{", "application/json", 400, id="not JSON"),
        pytest.param(b"\xff", "application/json", 400, id="not text"),
        pytest.param(b"{}", "application/json", 400, id="nobody"),
        pytest.param(b'{"by": ""}', "application/json", 400, id="empty name"),
        pytest.param(b'{"by": "Bo", "how": 1}', "application/json", 400, id="unknown field"),
        pytest.param(b'{"by": 7}', "application/json", 400, id="name is no text"),
        pytest.param(b'"' + b"x" * 20_000, "application/json", 413, id="too long"),
    ],
)
async def test_bad_body(site, content, kind, status):
    """One sentence in JSON, and nothing is done."""
    incident = await site.open()

    answer = await site.browser.post(
        f"/api/v1/incidents/{incident.id}/ack", content=content, headers={"content-type": kind}
    )

    assert (status, {"error"}) == (answer.status_code, set(answer.json()))
    record = await site.store.get_incident(incident.id)
    assert record.incident.acknowledged_by == ""


@pytest.mark.parametrize("path", ["", "/review"])
async def test_unknown_incident(site, path):
    """404 in JSON, naming it."""
    answer = await site.browser.get(f"/api/v1/incidents/01NONE{path}")

    assert (404, {"error": "there is no incident 01NONE"}) == (answer.status_code, answer.json())


async def test_acting_on_an_unknown_incident(site):
    answer = await site.browser.post("/api/v1/incidents/01NONE/ack", json={"by": "Bo"})

    assert (404, {"error": "there is no incident 01NONE"}) == (answer.status_code, answer.json())


async def test_review_is_markdown(site, opened):
    """A draft for what was SEV1 or SEV2, a reason for the rest."""
    major = await site.open()
    minor = await site.open(msgspec.structs.replace(opened, group_key="x", severity=Severity.SEV3))

    draft = await site.browser.get(f"/api/v1/incidents/{major.id}/review")
    none = await site.browser.get(f"/api/v1/incidents/{minor.id}/review")

    assert draft.headers["content-type"] == "text/markdown; charset=utf-8"
    assert draft.text.startswith("# Review of incident")
    assert none.status_code == 404
    assert "SEV3" in none.json()["error"]
