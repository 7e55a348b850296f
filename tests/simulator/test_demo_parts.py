"""Parts of the demo as processes: started, killed, started again, and never left behind."""

from __future__ import annotations

import io
import signal
import socket
import sys
from pathlib import Path

import pytest

from gpuward.daemon.clock import SystemClock
from gpuward.daemon.testing import FakeClock
from gpuward.simulator import http_client
from gpuward.simulator.demo.narrator import Narrator, Tone
from gpuward.simulator.demo.parts import Part, PartFailed, Parts

# Says where it listens, starts a child of its own, then waits for ever.
STUBBORN = """
import json, pathlib, signal, subprocess, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(json.dumps({"http": "127.0.0.1:1", "child": child.pid}))
time.sleep(600)
"""


def make_part(tmp_path, code: str, *arguments: str) -> Part:
    addresses = tmp_path / "addresses.json"
    argv = (sys.executable, "-c", code, str(addresses), *arguments)
    return Part("part", argv, {}, addresses, tmp_path / "part.log")


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def test_close_ends_a_part_and_its_children(tmp_path):
    parts = Parts(SystemClock())
    await parts.start(make_part(tmp_path, STUBBORN, "polite"))
    pids = (parts["part"].process.pid, int(parts["part"].address("child")))
    parts.check()
    assert [True, True] == [is_alive(pid) for pid in pids]

    await parts.close()

    assert [False, False] == [is_alive(pid) for pid in pids]


async def test_a_part_that_ignores_sigterm_is_killed(tmp_path):
    """After the grace period, which passes a hundred times faster here."""

    class Hasty(SystemClock):
        def mono_s(self) -> float:
            return 100 * super().mono_s()

        async def sleep_until(self, mono_s: float) -> None:
            await super().sleep_until(mono_s / 100)

    part = make_part(tmp_path, STUBBORN, "stubborn")
    await Parts(SystemClock()).start(part)
    parts = Parts(Hasty())
    parts.adopt(part)

    await parts.close()

    assert -signal.SIGKILL == part.process.returncode


async def test_a_killed_part_is_noticed_and_can_start_again(tmp_path):
    parts = Parts(SystemClock())
    try:
        await parts.start(make_part(tmp_path, STUBBORN, "polite"))
        first = parts["part"].process.pid
        await parts.end("part", signal.SIGKILL)
        with pytest.raises(PartFailed, match="part ended: see "):
            parts.check()

        await parts.start(parts["part"])

        assert first != parts["part"].process.pid
        parts.check()
    finally:
        await parts.close()


async def test_a_part_that_cannot_start_says_where_to_look(tmp_path):
    parts = Parts(SystemClock())

    with pytest.raises(PartFailed, match=r"part ended: see .*/part\.log; it last said: no luck"):
        await parts.start(make_part(tmp_path, "import sys; sys.exit('no luck')"))


def test_narrator_writes_time_who_and_what():
    """Colours only where asked for."""
    clock, plain, coloured = FakeClock(), io.StringIO(), io.StringIO()
    for out, colour in ((plain, False), (coloured, True)):
        Narrator(clock, out, colour=colour).tell("page", "L1 to Ada", Tone.ALARM)

    assert "   0.0 s  page        L1 to Ada\n" == plain.getvalue()
    assert "\x1b[31m   0.0 s  page        L1 to Ada\x1b[0m\n" == coloured.getvalue()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nbody", (200, b"body"), id="to the end"),
        pytest.param(b"HTTP/1.0 404 Not Found\r\n\r\n", (404, b""), id="no body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            (200, b"abcd"),
            id="chunked",
        ),
    ],
)
async def test_http_reply(answer, expected):
    reply = http_client._parse(answer)

    assert expected == (reply.status, reply.body)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 x OK\r\n\r\n"])
def test_not_http(answer):
    with pytest.raises(ValueError):  # noqa: PT011 - the caller names the address
        http_client._parse(answer)


async def test_nobody_listens(unused_port):
    with pytest.raises(http_client.Unreachable, match=r"GET http://127\.0\.0\.1:"):
        await http_client.request(f"127.0.0.1:{unused_port}", "GET", "/")


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
