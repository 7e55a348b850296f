"""Gather what the child has to say, so that a second of all GPUs is one datagram."""

from __future__ import annotations

import socket
import threading

from gpuward.agent import nvml_protocol as protocol


class Outbox:
    """Messages of all threads on their way to the parent, for whom nobody here ever waits."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        # Of the list, and of the order in which it is sent.
        self._lock = threading.Lock()
        self._messages: list[protocol.Message] = []
        # How many messages did not fit in the socket's buffer.
        self.dropped = 0

    def put(self, message: protocol.Message) -> None:
        """Have ``message`` sent with those that follow, at ``flush``."""
        with self._lock:
            self._messages.append(message)

    def flush(self) -> None:
        """Send what has been put here."""
        with self._lock:
            messages, self._messages = self._messages, []
            if not messages:
                return
            for data, count in protocol.datagrams(messages):
                self._send(data, count)

    def _send(self, data: bytes, count: int) -> None:
        try:
            self._link.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self.dropped += count
        except OSError:
            # The parent is gone; the main thread sees that too and ends us.
            return
