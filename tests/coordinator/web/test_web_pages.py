"""What a person sees and does in the browser."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.model import Severity, State

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>"


async def test_nothing_open(site):
    """An empty list says so in words: a blank page would leave doubt."""
    page = await site.browser.get("/")

    assert page.status_code == 200
    assert "Nothing is open." in page.text


async def test_list_says_who_is_paged_next_and_when(site, fragmentation):
    """A row holds severity, state, title, service, cause, age and the next page."""
    await site.open(findings=(fragmentation,))

    text = (await site.browser.get("/")).text

    for words in (
        "SEV2",
        "state-open",
        "chat: 20.0% of 600 requests failed",
        "process.memory.fragmentation",
        "for 10 min",
        "pages Ann",
    ):
        assert words in text


async def test_worst_first(site, opened):
    """The newest is not the worst: severity orders the open incidents."""
    await site.open()
    small = msgspec.structs.replace(
        opened, group_key="x", title="a small thing", severity=Severity.SEV4
    )
    await site.open(small, at_s=site.clock.wall_s())

    text = (await site.browser.get("/")).text

    assert text.index("chat: 20.0%") < text.index("a small thing")


async def test_tickets_about_causes_are_folded(site, fragmentation, opened):
    """One trouble is one row: the ticket about its cause waits below, out of the way."""
    ticket = msgspec.structs.replace(
        opened,
        group_key="x",
        kind=fragmentation.kind,
        title="the ticket",
        severity=Severity.SEV4,
        service="",
    )
    await site.open(ticket, findings=(fragmentation,))
    before = (await site.browser.get("/")).text
    await site.open(findings=(fragmentation,))
    after = (await site.browser.get("/")).text

    assert "<details" not in before
    assert "1 open incident</h1>" in after
    assert "the ticket" in after.partition("1 ticket about causes of the above")[2]


async def test_incident_page(site, fragmentation):
    """One page answers: what do users feel, why, how do we know, who is called when."""
    incident = await site.open(findings=(fragmentation,))
    await site.serve("chat", requests=600, failed=120)

    text = (await site.browser.get(f"/incidents/{incident.id}")).text

    for words in (
        "Users of chat have been affected for 11 min.",
        "Probable cause: <strong>vllm/llama strands 11.8 GiB of GPU-7.</strong>",
        "<dt>failed: 120 of 600 requests in 5 min</dt><dd>20.0 %</dd>",
        "11.8 GiB</td>",
        "4 GiB</td>",
        "CUDA out of memory",
        "Suggested: restart application",
        "L1 was due: paging Ann by console.",
        "in 5 min</time>",
        "Cy, Di at",
        "Vic at",
        "if users are still affected",
        'formaction="/incidents/',
        "Review draft",
    ):
        assert words in text


async def test_acknowledged_steps_say_that_they_are_stopped(site):
    """After an acknowledgement L2 shows as stopped; L3 still counts down."""
    incident = await site.open()
    incident = await site.append(incident, e.Acknowledged("Bo"))

    text = (await site.browser.get(f"/incidents/{incident.id}")).text

    assert "L2: stopped, acknowledged" in text
    assert "<strong>L3</strong>" in text


@pytest.mark.parametrize("path", ["/", "/incidents/{}", "/incidents/{}/review"])
async def test_hostile_text_is_text(site, fragmentation, opened, path):
    """Titles, summaries, evidence, names and notes come from outside and are escaped."""
    finding = replace(
        fragmentation,
        summary=HOSTILE,
        evidence=(replace(fragmentation.evidence[0], name=HOSTILE, text=HOSTILE, source=HOSTILE),),
        subject=replace(fragmentation.subject, process_key=HOSTILE),
    )
    event = msgspec.structs.replace(opened, title=HOSTILE, service=HOSTILE, reasons=(HOSTILE,))
    incident = await site.open(event, findings=(finding,))
    incident = await site.append(incident, e.Noted(HOSTILE, HOSTILE))

    text = (await site.browser.get(path.format(incident.id))).text

    assert "&lt;script&gt;" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text


async def test_acknowledge_by_button(site):
    """The button acknowledges, leads back to the incident, and the name is remembered."""
    incident = await site.open()

    answer = await site.browser.post(
        f"/incidents/{incident.id}/ack", data=await site.form(incident)
    )

    assert (303, f"/incidents/{incident.id}") == (answer.status_code, answer.headers["location"])
    record = await site.store.get_incident(incident.id)
    assert (State.ACKNOWLEDGED, "Bo") == (record.incident.state, record.incident.acknowledged_by)
    assert 'value="Bo"' in (await site.browser.get(f"/incidents/{incident.id}")).text


async def test_resolve_by_button(site):
    """The note becomes the resolution; a resolved incident offers no button."""
    incident = await site.open()
    form = {**await site.form(incident), "note": "restarted the replica"}

    await site.browser.post(f"/incidents/{incident.id}/resolve", data=form)

    text = (await site.browser.get(f"/incidents/{incident.id}")).text
    assert "“restarted the replica”" in text
    assert "<button" not in text


async def test_stale_button(site):
    """Somebody else acknowledged meanwhile: nothing is done, and the page says what is so now."""
    incident = await site.open()
    form = await site.form(incident)
    await site.append(incident, e.Acknowledged("Ann"))

    answer = await site.browser.post(f"/incidents/{incident.id}/resolve", data=form)

    assert answer.status_code == 409
    assert "Nothing was done" in answer.text
    assert "acknowledged by Ann" in answer.text
    record = await site.store.get_incident(incident.id)
    assert record.incident.state is State.ACKNOWLEDGED


async def test_a_sent_page_makes_no_button_stale(site):
    """Pages and notes count versions too; somebody half asleep must not have to press twice."""
    incident = await site.open()
    form = await site.form(incident)
    await site.append(incident, e.PageSent("L1", "Ann", "console", "key", 1), e.Noted("Cy", "hm"))

    answer = await site.browser.post(f"/incidents/{incident.id}/ack", data=form)

    assert answer.status_code == 303


async def test_resolving_twice_is_no_error(site):
    """The second click finds it done; it stays resolved by the first."""
    incident = await site.open()
    form = await site.form(incident)
    await site.browser.post(f"/incidents/{incident.id}/resolve", data=form)
    record = await site.store.get_incident(incident.id)
    form["version"] = str(record.incident.version)

    again = await site.browser.post(f"/incidents/{incident.id}/resolve", data=form)

    assert again.status_code == 303


async def test_no_review_for_a_small_incident(site, opened):
    """The page says why there is none, and the incident does not link to it."""
    incident = await site.open(msgspec.structs.replace(opened, severity=Severity.SEV3))

    answer = await site.browser.get(f"/incidents/{incident.id}/review")

    assert answer.status_code == 404
    assert "reviews are written for SEV1 and SEV2" in answer.text
    assert "Review draft" not in (await site.browser.get(f"/incidents/{incident.id}")).text


async def test_review_links_claims_to_the_timeline(site, fragmentation):
    """Every reference leads to an entry that is on the page."""
    incident = await site.open(findings=(fragmentation,))

    text = (await site.browser.get(f"/incidents/{incident.id}/review")).text

    assert '<a class="ref" href="#t2">[t2]</a>' in text
    assert '<li id="t2">' in text


@pytest.mark.parametrize("path", ["/nowhere", "/incidents/01NONE", "/incidents/01NONE/review"])
async def test_not_found_is_a_page(site, path):
    """A wrong address leads back to the list."""
    answer = await site.browser.get(path)

    assert answer.status_code == 404
    assert 'href="/">All incidents' in answer.text
