"""The pages and the review as they are, so that a change of their look is seen and meant."""

from __future__ import annotations

import pytest

from gpuward.coordinator import events as e


@pytest.fixture
async def incident(site, fragmentation):
    """A serious incident, acknowledged late; its pages are to be kept."""
    incident = await site.open(findings=(fragmentation,))
    await site.serve("chat", requests=600, failed=120)
    return await site.append(
        incident,
        e.AcknowledgementMissed(site.clock.wall_s() - 300),
        e.Acknowledged("Bo", "looking"),
        e.Noted("Bo", "one replica is full"),
    )


async def shown(site, path, incident):
    """Return the page without what differs from run to run."""
    text = (await site.browser.get(path)).text
    token = site.browser.cookies.get("gpuward_csrf", "no token")
    return text.replace(incident.id, "01INCIDENT").replace(token, "TOKEN")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("incidents.html", "/"),
        ("incident.html", "/incidents/{}"),
        ("review.html", "/incidents/{}/review"),
        ("review.md", "/api/v1/incidents/{}/review"),
    ],
)
async def test_golden(site, incident, golden, name, path):
    """Rewrite with `make golden` when the change is meant."""
    golden(name, await shown(site, path.format(incident.id), incident))
