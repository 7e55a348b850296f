"""Kinds of findings in the API and on their page: what counts, and who said so."""

import pytest


async def kind(site, name):
    kinds = (await site.browser.get("/api/v1/kinds")).json()["kinds"]
    return {row["kind"]: row for row in kinds}[name]


async def change(site, name, **body):
    return await site.browser.post(f"/api/v1/kinds/{name}", json={"by": "Bo", **body})


async def test_every_kind_is_as_agents_say(site):
    row = await kind(site, "gpu.ecc.sram_threshold")

    assert {
        "kind": "gpu.ecc.sram_threshold",
        "default": "page",
        "told": "page",
        "override": None,
    } == row


async def test_promote_demote_reset(site):
    """One step each time, unless it is said how far; who, when and why are kept."""
    steps = [
        ("promote", {}, "ticket"),
        ("promote", {}, "page"),
        ("demote", {"to": "store"}, "store"),
        ("reset", {}, "store"),
    ]
    told = []
    for verb, more, _ in steps:
        answer = await change(site, "gpu.saturated", verb=verb, reason="because", **more)
        told.append(answer.json()["told"])

    history = (await site.browser.get("/api/v1/kinds")).json()["history"]
    assert [expected for _, _, expected in steps] == told
    assert [verb for verb, _, _ in reversed(steps)] == [entry["verb"] for entry in history]
    assert {("Bo", "because", site.clock.wall_s())} == {
        (entry["by"], entry["reason"], entry["at_s"]) for entry in history
    }
    assert (await kind(site, "gpu.saturated"))["override"] is None


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        pytest.param(
            "gpu.saturatd",
            {"verb": "promote"},
            404,
            "there is no kind 'gpu.saturatd': did you mean gpu.saturated",
            id="a slip",
        ),
        pytest.param("weather", {"verb": "promote"}, 404, "no kind 'weather'", id="nothing near"),
        pytest.param("gpu.lost", {"verb": "promote"}, 400, "told page already", id="no louder"),
        pytest.param("gpu.saturated", {"verb": "demote"}, 400, "told store", id="no quieter"),
        pytest.param("gpu.lost", {"verb": "demote", "by": " "}, 400, "who you are", id="nobody"),
        pytest.param("gpu.lost", {"verb": "silence"}, 400, "verb", id="no such verb"),
        pytest.param("gpu.lost", {"verb": "demote", "to": "mail"}, 400, "to", id="no such class"),
        pytest.param("gpu.lost", {"verb": "reset", "to": "page"}, 400, "no 'to'", id="reset to"),
    ],
)
async def test_refused(site, name, body, status, words):
    """Nothing is changed, and one sentence says why."""
    answer = await change(site, name, **body)

    assert status == answer.status_code
    assert words in answer.json()["error"]
    assert [] == (await site.browser.get("/api/v1/kinds")).json()["history"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"content-type": "text/plain"}, 415, id="a form of another site"),
        pytest.param(
            {"content-type": "application/json", "origin": "http://evil.test"}, 403, id="its script"
        ),
    ],
)
async def test_a_page_of_another_site_changes_nothing(site, headers, status):
    body = b'{"by": "Bo", "verb": "demote"}'
    answer = await site.browser.post("/api/v1/kinds/gpu.lost", content=body, headers=headers)

    assert status == answer.status_code
    assert "page" == (await kind(site, "gpu.lost"))["told"]


async def test_a_kind_that_only_a_newer_agent_knows(site, fragmentation, make_unknown):
    """It is open, so it is known; a step from a class that nobody knows is none."""
    await site.open(findings=(make_unknown(fragmentation),))

    refused = await change(site, "gpu.new_trouble", verb="promote")
    taken = await change(site, "gpu.new_trouble", verb="promote", to="page")

    assert 400 == refused.status_code
    assert (None, "page") == (taken.json()["default"], taken.json()["told"])


@pytest.fixture
def make_unknown():
    from dataclasses import replace

    return lambda finding: replace(finding, kind="gpu.new_trouble")


async def test_the_page(site):
    """Reasons come from people: they are text."""
    await change(site, "gpu.saturated", verb="promote", reason="<b>users</b> wait")

    page = (await site.browser.get("/kinds")).text

    assert "&lt;b&gt;users&lt;/b&gt; wait" in page
    assert "<strong>ticket</strong>" in page
    assert '<a class="small" href="/kinds">' in (await site.browser.get("/")).text
