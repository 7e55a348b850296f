"""Who this process is, in words that a reader in another PID namespace can check.

The pid in the header is only a hint: the reader takes the host's pid from the record lock and, in
namespaces where that fails, finds the process by start ticks and namespace: proc_pid_stat(5).
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import NamedTuple


class ProcessFacts(NamedTuple):
    """Identity as /proc tells; 0 where /proc is missing or does not say."""

    pid: int
    uid: int
    pidns_inode: int
    start_ticks: int
    boot_id: bytes


def process_facts() -> ProcessFacts:
    """Ask the kernel about the calling process; never raises for a missing or masked /proc."""
    return ProcessFacts(os.getpid(), os.getuid(), _pidns_inode(), _start_ticks(), _boot_id())


def _pidns_inode() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _start_ticks() -> int:
    try:
        stat = Path("/proc/self/stat").read_bytes()
        # The command, in parentheses, may hold blanks and parentheses; field 22 is start time.
        return int(stat.rpartition(b") ")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot_id() -> bytes:
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()).bytes
    except (OSError, ValueError):
        return bytes(16)
