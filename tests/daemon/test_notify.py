"""sd_notify: one datagram per state, nothing without a supervisor."""

import socket

import pytest

from gpuward.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def supervisor(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else "@gpuward-test-notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.settimeout(200)
        yield address, sock


def test_states_reach_the_supervisor_as_systemd_reads_them(supervisor):
    address, sock = supervisor
    notifier = Notifier(address)

    notifier.ready("8 GPUs")
    notifier.watchdog()
    notifier.stopping()

    assert [sock.recv(256) for _ in range(3)] == [
        b"READY=1\nSTATUS=8 GPUs",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_no_supervisor_is_no_error(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    assert Notifier().ready("x") is None
    assert Notifier(str(tmp_path / "gone")).watchdog() is None
