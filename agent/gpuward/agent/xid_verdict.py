"""Say how bad one XID is: its catalogue entry, and what its own line and its history add. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent.model import Action, Result, SeriesKey
from gpuward.agent.xid_catalogue import ACTIONS, UNLISTED, Fault, Xid
from gpuward.agent.xid_line import parse_nvlink, parse_recovery

if TYPE_CHECKING:
    from gpuward.agent.model import Event
    from gpuward.agent.window import Window

NVLINK_5 = range(144, 151)
RECOVERY_CHANGED = 154
# An error that the second reboot has not mended is the card's.
BOOTS_BEFORE_REPLACEMENT = 2
# NVML's recovery actions (nvmlDeviceGpuRecoveryAction_t): none; reset; reboot, drain and reset, bus
# reset, system reboot; the others (drain peer-to-peer, recover IMEX, newer ones) wait for a person.
NO_RECOVERY, RESET = 0, 1
DRAIN = frozenset({2, 4, 6, 7})


def verdict(window: Window, event: Event) -> Xid:
    """Return what ``event``, an XID, means.

    A changed recovery action is news only while NVML cannot be asked for it: else it is a finding
    of its own, and that one clears.
    """
    xid = window.xids.get(event.code, UNLISTED)
    if event.code in NVLINK_5 and (error := parse_nvlink(event.text)) is not None and error.fatal:
        # Its sheet advises a reset for every fatal sub-code.
        return replace(xid, fault=Fault.RESETTABLE, result=Result.FAIL)
    if event.code == RECOVERY_CHANGED and not _says_recovery(window, event.gpu):
        now = parse_recovery(event.text)
        return xid if now is None else _recovery(xid, now)
    return xid


def action(event: Event, xid: Xid) -> Action:
    """Return what would help: what the fault asks for, until reboots have shown that it does not.

    ``xid`` is the verdict on ``event``.
    """
    boots = event.values.get("xid_earlier_boots", 0.0)
    if xid.result is Result.FAIL and boots >= BOOTS_BEFORE_REPLACEMENT:
        return Action.REPLACE_HARDWARE
    return ACTIONS[xid.fault]


def _says_recovery(window: Window, gpu: str) -> bool:
    return window.latest(SeriesKey("gpu_recovery_action", gpu=gpu)) is not None


def _recovery(xid: Xid, now: int) -> Xid:
    if now == NO_RECOVERY:
        return replace(xid, fault=Fault.INFORMATION, result=Result.OK)
    if now == RESET:
        return replace(xid, fault=Fault.RESETTABLE, result=Result.FAIL)
    if now in DRAIN:
        return replace(xid, fault=Fault.DRAIN, result=Result.FAIL)
    return replace(xid, fault=Fault.DRAIN, result=Result.WARN)
