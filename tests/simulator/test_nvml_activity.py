"""GPM, system events, violation times and the newer fields, as nvidia-ml-py reads them."""

import pytest

pytestmark = pytest.mark.simulator

# What the binding leaves to its callers; runs in the asker.
HELPERS = """
samples = [nvmlGpmSampleAlloc(), nvmlGpmSampleAlloc()]
def take(number, instance=None):
    if instance is None:
        nvmlGpmSampleGet(gpu(), samples[number])
    else:
        nvmlGpmMigSampleGet(gpu(), instance, samples[number])
def metrics(*ids):
    request = c_nvmlGpmMetricsGet_t(version=1, numMetrics=len(ids))
    request.sample1, request.sample2 = samples
    for index, number in enumerate(ids):
        request.metrics[index].metricId = number
    nvmlGpmMetricsGet(request)
    return [(each.nvmlReturn, each.value) for each in request.metrics[:len(ids)]]
def events(kinds):
    made = nvmlSystemEventSetCreate(nvmlSystemEventSetCreateRequest_v1)
    nvmlSystemRegisterEvents(nvmlSystemRegisterEventRequest_v1, kinds, made)
    return made
def wait(timeout_ms):
    found = (c_nvmlSystemEventData_v1_t * 4)()
    version = nvmlSystemEventSetWaitRequest_v1
    events = nvmlSystemEventSetWait(version, listening, timeout_ms, found, 4)
    return [each["eventType"] for each in events]
class SramStatus(Structure):
    _fields_ = [("version", c_uint), *((f"count{n}", c_ulonglong) for n in range(11)),
                ("is_exceeded", c_uint)]
def sram_threshold():
    status = SramStatus(version=sizeof(SramStatus) | 1 << 24)
    nvmlDeviceGetSramEccErrorStatus(gpu(), byref(status))
    return status.is_exceeded
"""


@pytest.fixture
def ask(asker):
    """Ask about a state in a process that has the helpers."""

    def start(state):
        asked = asker(state)
        asked.ask(f"exec({HELPERS!r}, globals())")
        return asked.ask

    return start


def test_gpm(state, ask):
    """A metric is the mean of two samples; the one that is not known says so by itself."""
    h100 = ask(state)
    state.gpu(0).gpm_sm_active_permille = 800
    h100("take(0)")
    state.gpu(0).gpm_sm_active_permille = 900
    state.gpu(0).gpm_dram_permille = 500
    h100("take(1)")

    assert h100("metrics(2, 10, 200)") == [(0, 85.0), (0, 25.0), (3, 0.0)]


def test_gpm_needs_two_samples(state, ask):
    """A sample that was never taken is no measurement."""
    h100 = ask(state)
    h100("take(0)")

    assert h100("metrics(2)") == "InvalidArgument"


@pytest.mark.parametrize(("name", "supported"), [("l40s-x4", 0), ("h100-mig-x1", 1)])
def test_who_has_gpm(make_state, asker, name, supported):
    """Hopper has it, MIG or not; Ada has not."""
    asked = asker(make_state(name))

    assert asked.ask("nvmlGpmQueryDeviceSupport(gpu()).isSupportedDevice") == supported


def test_gpm_of_an_instance(make_state, ask):
    """An instance's sample is of that instance; there is none of an instance that is not."""
    state = make_state("h100-mig-x1")
    state.gpu(0).mig_devices[1].gpm_sm_active_permille = 400
    divided = ask(state)
    divided("take(0, 3), take(1, 3)")

    assert divided("metrics(2)") == [(0, 40.0)]
    assert divided("take(0, 5)") == "NotFound"


@pytest.mark.parametrize(
    ("field", "value", "expression"),
    [
        ("sram_threshold_exceeded", 1, "sram_threshold()"),
        ("inforom_corrupt", 1, "nvmlDeviceValidateInforom(gpu())"),
        ("pcie_fatal_errors", 2, "nvmlDeviceGetFieldValues(gpu(), [180])[0].value.uiVal"),
        ("pcie_transmit_bytes", 1 << 40, "nvmlDeviceGetFieldValues(gpu(), [197])[0].value.ullVal"),
    ],
)
def test_newer_health(state, ask, field, value, expression):
    """What newer drivers tell of a GPU's health follows the state."""
    h100 = ask(state)
    before = h100(expression)
    setattr(state.gpu(0), field, value)

    assert h100(expression) == {"inforom_corrupt": "CorruptedInforom"}.get(field, value)
    assert before != value


def test_violation_status(make_state, asker):
    """Where it is counted the old way, time is per policy; a Hopper driver of 580 has none."""
    state = make_state("l40s-x4")
    state.gpu(0).hw_thermal_slowdown_nanoseconds = 5_000

    asked = asker(state)
    assert asked.ask("nvmlDeviceGetViolationStatus(gpu(), 1).violationTime") == 5_000
    assert asked.ask("nvmlDeviceGetViolationStatus(gpu(), 0).violationTime") == 0
    assert asker(make_state()).ask("nvmlDeviceGetViolationStatus(gpu(), 1)") == "NotSupported"


def test_driver_announces_that_it_leaves(state, ask):
    """Who registered for it hears of an unbind and of a bind, once each."""
    h100 = ask(state)
    h100("globals().update(listening=events(3))")
    state.announce_driver(leaving=True)
    assert h100("wait(10_000)") == [1]

    state.announce_driver(leaving=False)
    assert h100("wait(0)") == [2]
    assert h100("wait(0)") == []


def test_old_drivers_have_no_system_events(state, ask):
    """They came with 575."""
    state.load_driver("570.86.15")

    assert ask(state)("events(3)") == "NotSupported"
