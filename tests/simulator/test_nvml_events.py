"""Events: what was registered arrives, in order, and waiting ends in time."""

import pytest

from gpuward.simulator.layout import EventKind

pytestmark = pytest.mark.simulator

XID = "nvmlEventTypeXidCriticalError"
WAIT = (
    "(lambda e: (nvmlDeviceGetIndex(e.device), e.eventType, e.eventData))"
    "(nvmlEventSetWait_v2(s, {}))"
)


@pytest.fixture
def watcher(h100):
    """An asker whose event set ``s`` watches XIDs of GPUs 0 and 1."""
    h100.ask("globals().update(s=nvmlEventSetCreate())")
    for gpu in (0, 1):
        h100.ask(f"nvmlDeviceRegisterEvents(gpu({gpu}), {XID}, s)")
    return h100


def test_registered_event_arrives(state, watcher):
    """An XID on a watched GPU ends the wait with its number."""
    watcher.send(WAIT.format(10_000))
    state.add_event(1, EventKind.XID, 79)

    assert watcher.receive() == (1, 8, 79)


def test_others_do_not(state, watcher):
    """Another GPU's event, another kind and an older event are not for this set."""
    state.add_event(2, EventKind.XID, 13)
    state.add_event(0, EventKind.PSTATE, 0)
    state.add_event(0, EventKind.XID, 31)
    assert watcher.ask(WAIT.format(10)) == (0, 8, 31)

    watcher.ask("globals().update(s=nvmlEventSetCreate())")
    assert watcher.ask(f"nvmlDeviceRegisterEvents(gpu(), {XID}, s)") is None
    assert watcher.ask(WAIT.format(10)) == "Timeout"


def test_order_and_overflow(state, watcher):
    """Events come oldest first; of more than 256 that nobody read, the last 256 are kept."""
    for code in range(300):
        state.add_event(0, EventKind.XID, code)

    assert [watcher.ask(WAIT.format(0))[2] for _ in range(256)] == list(range(44, 300))
    assert watcher.ask(WAIT.format(0)) == "Timeout"


def test_timeout_is_in_milliseconds(watcher):
    """The wait lasts at least as long as asked."""
    assert watcher.ask("seconds(nvmlEventSetWait_v2, s, 50)") >= 0.05


def test_lost_gpu_ends_the_wait(state, watcher):
    """A wait on a GPU that falls off the bus says so, after the events before it."""
    state.add_event(0, EventKind.XID, 79)
    state.gpu(0).lost = 1

    assert watcher.ask("nvmlEventSetWait_v2(s, 10000).eventData") == 79
    assert watcher.ask("nvmlEventSetWait_v2(s, 10000)") == "GpuIsLost"


def test_unsupported_kind(make_state, asker, h100):
    """Only kinds that the GPU supports can be registered: a GeForce has no ECC events."""
    assert h100.ask("nvmlDeviceGetSupportedEventTypes(gpu())") == 0x1F
    geforce = asker(make_state("rtx4090-x1"))

    assert geforce.ask("nvmlDeviceGetSupportedEventTypes(gpu())") == 0x1C
    geforce.ask("globals().update(s=nvmlEventSetCreate())")
    assert geforce.ask("nvmlDeviceRegisterEvents(gpu(), 1, s)") == "NotSupported"
