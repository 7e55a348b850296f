"""What the web side refuses, and what every answer carries."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/static/style.css", "/nowhere", "/api/v1/incidents"]
)
async def test_security_headers(site, path):
    """Every answer carries them, errors and files included; no script but our own may run."""
    answer = await site.browser.get(path)

    assert HEADERS == {name: answer.headers.get(name) for name in HEADERS}
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


async def test_no_inline_script_or_style(site):
    """The policy above would break them; nothing comes from another host either."""
    incident = await site.open()
    for path in ("/", f"/incidents/{incident.id}", f"/incidents/{incident.id}/review"):
        text = (await site.browser.get(path)).text
        assert "<script>" not in text
        assert " style=" not in text
        assert "://" not in text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"origin": "http://evil.test"}, id="origin"),
        pytest.param({"origin": "null"}, id="opaque origin"),
        pytest.param({"sec-fetch-site": "cross-site"}, id="cross-site"),
        pytest.param({"sec-fetch-site": "same-site"}, id="another host of the site"),
    ],
)
@pytest.mark.parametrize("path", ["/incidents/{}/ack", "/api/v1/incidents/{}/ack"])
async def test_another_site_may_not_act(site, path, headers):
    """A page elsewhere cannot press our buttons, whatever it knows."""
    incident = await site.open()
    form = await site.form(incident)
    body = {"json": {"by": "Bo"}} if path.startswith("/api") else {"data": form}

    answer = await site.browser.post(path.format(incident.id), headers=headers, **body)

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("gpuward.test", 303, id="configured name"),
        pytest.param("127.0.0.1:9480", 303, id="address"),
        pytest.param("[::1]:9480", 303, id="address of version 6"),
        pytest.param("localhost:9480", 303, id="localhost"),
        pytest.param("evil.test:9480", 403, id="name that was made to resolve to us"),
    ],
)
async def test_own_pages_may_act(site, host, status):
    """What browsers send from our own page passes, unless it came by a name that is not ours."""
    incident = await site.open()
    form = await site.form(incident)
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}

    answer = await site.browser.post(f"/incidents/{incident.id}/ack", data=form, headers=headers)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        pytest.param("csrf", "guessed", 403, id="wrong token"),
        pytest.param("csrf", "", 403, id="no token"),
        pytest.param("by", "  ", 400, id="nobody"),
        pytest.param("by", "x" * 101, 400, id="name too long"),
        pytest.param("by", "gpuward", 400, id="not the machine"),
        pytest.param("note", "x" * 1001, 400, id="note too long"),
        pytest.param("version", "", 400, id="no version"),
        pytest.param("version", "soon", 400, id="version is no number"),
        pytest.param("version", "0", 409, id="version of nothing"),
        pytest.param("version", "999", 409, id="version of the future"),
        pytest.param("note", "x" * 20_000, 413, id="body too long"),
    ],
)
async def test_bad_form(site, field, value, status):
    """Each bad field is refused with a page, and nothing is done."""
    incident = await site.open()
    form = {**await site.form(incident), field: value}

    answer = await site.browser.post(f"/incidents/{incident.id}/ack", data=form)

    assert answer.status_code == status
    assert "<h1>" in answer.text
    record = await site.store.get_incident(incident.id)
    assert record.incident.acknowledged_by == ""


async def test_form_that_is_not_text(site):
    """Bytes that are no UTF-8 are the sender's fault."""
    incident = await site.open()

    answer = await site.browser.post(f"/incidents/{incident.id}/ack", content=b"\xff=\xff")

    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("DELETE", "/incidents/x"),
        ("GET", "/incidents/x/ack"),
        ("PUT", "/api/v1/incidents"),
        ("GET", "/api/v1/incidents/x/resolve"),
    ],
)
async def test_wrong_method(site, method, path):
    """405 says which methods there are."""
    answer = await site.browser.request(method, path)

    assert answer.status_code == 405
    assert "allow" in answer.headers


async def test_files_outside_static_are_not_served(site):
    """No path leads out of the folder of static files."""
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/static/nothing.css"):
        assert (await site.browser.get(path)).status_code == 404


async def test_ready_follows_the_database(site):
    """Alive without a database, ready only with it, and no traceback for people or programs."""

    async def fail():
        raise OperationalError("select", {}, OSError("disk"))

    assert (await site.browser.get("/readyz")).status_code == 200
    await site.clock.advance(1)
    site.store.ping = fail
    site.store.list_incidents = lambda *_: fail()

    answers = [await site.browser.get(path) for path in ("/healthz", "/readyz", "/")]

    assert [200, 503, 503] == [answer.status_code for answer in answers]
    assert "disk" not in answers[2].text


async def test_a_bug_shows_no_traceback(site):
    """Programs get JSON even then."""

    async def fail(*_):
        raise RuntimeError("secret detail")

    site.store.list_incidents = fail

    page = await site.browser.get("/")
    answer = await site.browser.get("/api/v1/incidents")

    assert (500, 500) == (page.status_code, answer.status_code)
    assert "secret detail" not in page.text + answer.text
    assert set(answer.json()) == {"error"}
