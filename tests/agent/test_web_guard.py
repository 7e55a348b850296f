"""Passwords and TLS of the agent's pages, with real hashes, certificates and handshakes."""

import asyncio
import base64
import shutil
import ssl
import subprocess

import pytest
from structlog.testing import capture_logs

from gpuward.agent import web_guard
from gpuward.agent.http_message import Request, Response
from gpuward.agent.http_server import HttpServer
from gpuward.agent.web_guard import WebGuard
from gpuward.daemon.config import ConfigError

# Of "secret", made by libxcrypt with four rounds.
HASH = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.crt\n"


@pytest.fixture
def guard(tmp_path, monkeypatch):
    monkeypatch.setattr(web_guard, "WRONG_PAUSE_S", 0.0)

    def guard(text):
        (tmp_path / "web.yml").write_text(text)
        return WebGuard(tmp_path / "web.yml")

    return guard


@pytest.fixture
def make_certificate(tmp_path):
    """Make a certificate of 127.0.0.1 that is its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl (Debian package openssl)")

    def make(name):
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
            f" -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
            f" -keyout {tmp_path}/{name}.key -out {tmp_path}/{name}.crt".split(),
            check=True,
            capture_output=True,
        )
        return tmp_path / f"{name}.crt"

    return make


def asking(name, password, scheme="Basic"):
    word = base64.b64encode(f"{name}:{password}".encode()).decode()
    return Request("/metrics", headers={"authorization": f"{scheme} {word}"})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(asking("prometheus", "secret"), True, id="right"),
        pytest.param(asking("prometheus", "secret", "basic"), True, id="case of the scheme"),
        pytest.param(asking("prometheus", "Secret"), False, id="wrong"),
        pytest.param(asking("prometheus", "secret\0x"), False, id="cut short"),
        pytest.param(asking("prometheus", ""), False, id="empty"),
        pytest.param(asking("nobody", "secret"), False, id="another name"),
        pytest.param(asking("", ""), False, id="no name"),
        pytest.param(asking("prometheus", "secret", "Bearer"), False, id="another scheme"),
        pytest.param(Request("/metrics"), False, id="nothing said"),
        pytest.param(
            Request("/metrics", headers={"authorization": "Basic *"}), False, id="rubbish"
        ),
    ],
)
async def test_passwords(guard, request_, expected):
    """The same answer the second time, when it is remembered."""
    door = guard(USERS)

    assert [expected, expected] == [await door.lets_in(request_), await door.lets_in(request_)]


async def test_without_users_everybody_is_let_in(guard):
    assert await guard("# nobody\n").lets_in(Request("/metrics"))


async def test_a_right_password_is_checked_once(guard, monkeypatch):
    """bcrypt takes a tenth of a second on purpose; a scrape comes every few seconds."""
    door = guard(USERS)
    checked = []
    bcrypt = web_guard._bcrypt
    monkeypatch.setattr(web_guard, "_bcrypt", lambda *it: checked.append(it) or bcrypt(*it))

    for _ in range(3):
        assert await door.lets_in(asking("prometheus", "secret"))

    assert 1 == len(checked)


async def test_a_password_that_was_changed_lets_nobody_in(guard, tmp_path):
    door = guard(USERS)
    assert await door.lets_in(asking("prometheus", "secret"))

    (tmp_path / "web.yml").write_text(USERS.replace("prometheus", "other"))
    door.tls()

    assert not await door.lets_in(asking("prometheus", "secret"))
    assert await door.lets_in(asking("other", "secret"))


async def test_a_file_that_breaks_leaves_the_door_as_it_was(guard, tmp_path):
    door = guard(USERS)
    (tmp_path / "web.yml").write_text("basic_auth_users: []\n")

    with capture_logs() as logs:
        door.tls()
        door.tls()

    assert not await door.lets_in(Request("/metrics"))
    assert ["web_config.not_reloaded"] == [entry["event"] for entry in logs]


def test_missing_certificates_are_named(guard):
    with pytest.raises(ConfigError, match=r"server\.crt, server\.key: .*No such file"):
        guard(TLS)


async def served(door, client=None, headers=""):
    """Return what a client gets of a page behind ``door``."""
    server = HttpServer({"/page": lambda _: Response("x" * 100_000)})
    server.guard = door
    host, port = await server.start("127.0.0.1", 0)
    try:
        async with asyncio.timeout(200):
            reader, writer = await asyncio.open_connection(host, port, ssl=client)
            writer.write(f"GET /page HTTP/1.1\r\n{headers}\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer
    finally:
        await server.close()


async def test_a_stranger_is_told_how_to_ask(guard):
    answer = await served(guard(USERS))

    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'\r\nWWW-Authenticate: Basic realm="gpuward"\r\n' in answer
    assert b"xxx" not in answer


@pytest.mark.debian
async def test_tls(guard, make_certificate):
    client = ssl.create_default_context(cafile=make_certificate("server"))

    answer = await served(guard(TLS), client)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"x" * 100_000)


@pytest.mark.debian
async def test_a_plain_client_gets_nothing(guard, make_certificate):
    make_certificate("server")

    try:
        answer = await served(guard(TLS))
    except ConnectionError:
        answer = b""

    assert b"HTTP" not in answer


@pytest.mark.debian
async def test_a_client_without_a_certificate_is_refused(guard, make_certificate, tmp_path):
    """Where clients have to show one; one that does is served."""
    client = ssl.create_default_context(cafile=make_certificate("server"))
    door = guard(TLS + MUTUAL)

    try:
        answer = await served(door, client)
    except (ssl.SSLError, ConnectionError):
        answer = b""
    client.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")

    assert b"HTTP" not in answer
    assert (await served(door, client)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.debian
async def test_a_new_certificate_is_used_at_once(guard, make_certificate, tmp_path):
    """They are replaced every few weeks, without a restart."""
    make_certificate("server")
    door = guard(TLS)
    new = make_certificate("new")
    new.replace(tmp_path / "server.crt")
    (tmp_path / "new.key").replace(tmp_path / "server.key")
    client = ssl.create_default_context(cafile=tmp_path / "server.crt")

    assert (await served(door, client)).startswith(b"HTTP/1.1 200 OK\r\n")
