"""Driver trouble as NVML's clients see it."""

import pytest

from gpuward.simulator.layout import ALL_CALLS, CallGroup

pytestmark = pytest.mark.simulator


def test_no_state_file(state, asker):
    """Without its state the library says that no driver is loaded."""
    state.path.unlink()

    assert asker(state, initialised=False).ask("nvmlInit()") == "DriverNotLoaded"


def test_state_of_another_version(state, asker):
    """A state file of another layout is no driver either."""
    state.row.version += 1

    assert asker(state, initialised=False).ask("nvmlInit()") == "DriverNotLoaded"


def test_lost_gpu(state, h100):
    """Calls about a lost GPU fail, its handle too; the others and the count are as before."""
    h100.ask("globals().update(h=gpu(3))")
    state.gpu(3).lost = 1

    assert h100.ask("nvmlDeviceGetTemperature(h, 0)") == "GpuIsLost"
    assert h100.ask("gpu(3)") == "GpuIsLost"
    assert h100.ask("nvmlDeviceGetTemperature(gpu(4), 0)") == 31
    assert h100.ask("nvmlDeviceGetCount()") == 8


def test_unload_and_reload_of_another_version(state, asker):
    """Who had loaded the old library gets "version mismatch" until it is restarted."""
    old = asker(state)

    state.unload_driver()
    assert old.ask("nvmlDeviceGetCount()") == "DriverNotLoaded"
    assert asker(state, initialised=False).ask("nvmlInit()") == "DriverNotLoaded"

    state.load_driver("590.48.01")
    assert old.ask("nvmlDeviceGetCount()") == "LibRmVersionMismatch"
    assert old.ask("nvmlShutdown()") is None
    assert old.ask("nvmlInit()") == "LibRmVersionMismatch"
    assert asker(state).ask("nvmlSystemGetDriverVersion()") == "590.48.01"


def test_reload_of_the_same_version(state, h100):
    """A reload of the same version goes unnoticed by who asks before and after."""
    state.unload_driver()
    state.load_driver("580.95.05")

    assert h100.ask("nvmlDeviceGetCount()") == 8


def test_upgraded_library_under_a_running_driver(state, asker):
    """After an upgrade without a reload, new processes fail and old ones go on."""
    old = asker(state)
    state.row.library_version = b"590.48.01"

    assert asker(state, initialised=False).ask("nvmlInit()") == "LibRmVersionMismatch"
    assert old.ask("nvmlDeviceGetCount()") == 8


def test_initialisation_error(state, asker):
    """Initialisation fails with the code that the state says."""
    state.row.init_error = 4

    assert asker(state, initialised=False).ask("nvmlInit()") == "NoPermission"


@pytest.mark.parametrize(
    ("hung", "expression", "answer"),
    [
        pytest.param(
            CallGroup.MEMORY, "nvmlDeviceGetMemoryInfo(gpu()).total > 0", True, id="memory"
        ),
        pytest.param(CallGroup.FIELD, "len(nvmlDeviceGetFieldValues(gpu(), [82]))", 1, id="field"),
        pytest.param(ALL_CALLS, "nvmlDeviceGetTemperature(gpu(), 0)", 31, id="all"),
    ],
)
def test_hung_gpu(state, asker, hung, expression, answer):
    """A hung call returns only once the hang ends; other GPUs and other calls answer."""
    first, second = asker(state), asker(state)
    first.ask("globals().update(h=gpu())")
    state.gpu(0).hang_groups = hung
    first.send(expression.replace("gpu()", "h"))

    assert second.ask(expression.replace("gpu()", "gpu(1)")) == answer
    assert not first.answers_within(0.05)

    state.gpu(0).hang_groups = 0
    assert first.receive() == answer


def test_hung_node(state, asker):
    """A hang of the node holds initialisation too, and ends with the simulation at the latest."""
    state.row.hang_groups = CallGroup.SYSTEM
    waiting = asker(state, initialised=False)
    waiting.send("nvmlInit()")

    state.row.closed = 1
    assert waiting.receive() == "Unknown"


def test_slow_calls(state, h100):
    """A delay makes each call of its group take at least so long."""
    state.gpu(0).delay_microseconds = 30_000
    state.gpu(0).delay_groups = CallGroup.POWER

    assert h100.ask("seconds(nvmlDeviceGetPowerUsage, gpu())") >= 0.03
