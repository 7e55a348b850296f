"""The table of NVML calls, read through a binding that answers as told."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuward.agent.nvml_calls import CALLS, Lane
from gpuward.agent.nvml_conditions import DeviceLost, DriverGone
from gpuward.agent.nvml_device import Device, Slot
from gpuward.agent.signals import SIGNALS

NOT_SUPPORTED = 3
TIMEOUT = 10
GIB = 1 << 30


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


class Binding:
    """Answers calls from a table of values, or of codes to raise."""

    NVMLError = NVMLError

    def __init__(self, answers, *, default=NOT_SUPPORTED):
        self.answers = answers
        self.default = default
        self.called = []

    def __getattr__(self, name):
        def call(handle, *arguments):
            self.called.append(name)
            answer = self.answers.get((name, *map(str, arguments)), self.answers.get(name))
            if answer is None:
                raise NVMLError(self.default)
            if isinstance(answer, NVMLError):
                raise answer
            return answer

        return call


def device(binding, proc_root=Path("/nonexistent")):
    return Device(binding, "handle", Slot(0, NVMLError), proc_root)


MEMORY = SimpleNamespace(total=80 * GIB, used=10 * GIB, free=69 * GIB, reserved=1 * GIB)
FIELD = SimpleNamespace(nvmlReturn=0, valueType=1, value=SimpleNamespace(uiVal=82))


@pytest.mark.parametrize(
    ("lane", "call", "answer", "values"),
    [
        pytest.param(
            Lane.FAST,
            "nvmlDeviceGetMemoryInfo",
            MEMORY,
            {
                "gpu_memory_total_bytes": 80.0 * GIB,
                "gpu_memory_used_bytes": 10.0 * GIB,
                "gpu_memory_free_bytes": 69.0 * GIB,
                "gpu_memory_reserved_bytes": 1.0 * GIB,
            },
            id="memory is in bytes",
        ),
        pytest.param(
            Lane.FAST,
            "nvmlDeviceGetUtilizationRates",
            SimpleNamespace(gpu=97, memory=40),
            {"gpu_utilization_ratio": 0.97, "gpu_memory_bandwidth_utilization_ratio": 0.4},
            id="percent becomes a ratio",
        ),
        pytest.param(
            Lane.FAST,
            ("nvmlDeviceGetClockInfo", "1"),
            1980,
            {"gpu_sm_clock_hertz": 1.98e9},
            id="SM clock from MHz",
        ),
        pytest.param(
            Lane.FAST,
            ("nvmlDeviceGetClockInfo", "2"),
            2619,
            {"gpu_memory_clock_hertz": 2.619e9},
            id="memory clock from MHz",
        ),
        pytest.param(
            Lane.FAST,
            "nvmlDeviceGetPowerUsage",
            312_500,
            {"gpu_power_draw_watts": 312.5},
            id="power from mW",
        ),
        pytest.param(
            Lane.FAST,
            "nvmlDeviceGetTotalEnergyConsumption",
            2_500,
            {"gpu_energy_joules_total": 2.5},
            id="energy from mJ",
        ),
        pytest.param(
            Lane.FAST,
            ("nvmlDeviceGetFieldValues", "[82]"),
            [FIELD],
            {"gpu_memory_temperature_celsius": 82.0},
            id="memory temperature is a field",
        ),
        pytest.param(
            Lane.FAST,
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            0x40,
            {"gpu_clock_event_reasons": 64.0},
            id="reasons by their old name",
        ),
        pytest.param(
            Lane.SLOW,
            ("nvmlDeviceGetTotalEccErrors", "1", "0"),
            3,
            {"gpu_ecc_uncorrected_total": 3.0},
            id="uncorrected, since the driver was loaded",
        ),
        pytest.param(
            Lane.SLOW,
            "nvmlDeviceGetEnforcedPowerLimit",
            700_000,
            {"gpu_power_limit_watts": 700.0},
            id="limit from mW",
        ),
    ],
)
def test_read(lane, call, answer, values):
    """Each call gives its signals in the base unit; what else there is, is unsupported."""
    assert device(Binding({call: answer})).read(lane) == values


def test_every_gpu_signal_has_a_call():
    """Nothing in the table of GPU signals is left without a source, nor the other way round."""
    ours = {signal for call in CALLS for signal in call.signals}
    added_up = {"gpu_processes", "gpu_memory_unattributed_bytes", "gpu_memory_tapped_ratio"}

    assert ours | added_up == {name for name in SIGNALS if name.startswith("gpu_")}


def test_unsupported_is_asked_once():
    """What a GPU does not support is not asked again, and is named."""
    binding = Binding({"nvmlDeviceGetPowerUsage": 1_000})
    gpu = device(binding)

    gpu.read(Lane.FAST)
    gpu.read(Lane.SLOW)
    binding.called.clear()
    gpu.read(Lane.FAST)

    assert binding.called == ["nvmlDeviceGetPowerUsage"]
    assert "gpu_power_draw_watts" not in gpu.unsupported()
    assert "gpu_ecc_corrected_total" in gpu.unsupported()


def test_alternative_is_not_for_a_busy_gpu():
    """Only a missing call is replaced by its old form: the two do not mean the same."""
    busy = Binding({("nvmlDeviceGetMemoryInfo", "33554472"): NVMLError(TIMEOUT)})
    busy.answers["nvmlDeviceGetMemoryInfo"] = MEMORY
    old = Binding({("nvmlDeviceGetMemoryInfo", "33554472"): NVMLError(NOT_SUPPORTED)})
    old.answers["nvmlDeviceGetMemoryInfo"] = MEMORY

    assert device(busy).read(Lane.FAST) == {}
    assert set(device(old).read(Lane.FAST)) == {
        "gpu_memory_total_bytes",
        "gpu_memory_used_bytes",
        "gpu_memory_free_bytes",
    }


def test_failed_field_is_no_value():
    """A field has an error of its own, beside a call that succeeded."""
    failed = SimpleNamespace(nvmlReturn=3, valueType=1, value=SimpleNamespace(uiVal=0))
    gpu = device(Binding({("nvmlDeviceGetFieldValues", "[82]"): [failed]}))

    assert gpu.read(Lane.FAST) == {}
    assert "gpu_memory_temperature_celsius" in gpu.unsupported()


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        pytest.param(15, DeviceLost, id="GPU is lost"),
        pytest.param(16, DeviceLost, id="reset required"),
        pytest.param(28, DeviceLost, id="GPU not found"),
        pytest.param(1, DriverGone, id="uninitialised"),
        pytest.param(9, DriverGone, id="driver not loaded"),
        pytest.param(12, DriverGone, id="library not found"),
        pytest.param(18, DriverGone, id="library of another driver"),
    ],
)
def test_conditions(code, condition):
    """Codes that end the reading of a GPU are told apart, with the call that met them."""
    with pytest.raises(condition, match="nvmlDeviceGetMemoryInfo") as caught:
        device(Binding({}, default=code)).read(Lane.FAST)

    assert caught.value.code == code


def test_holders_of_both_lists():
    """A process in both lists counts once; memory that NVML cannot tell is None."""
    entry = SimpleNamespace
    binding = Binding(
        {
            "nvmlDeviceGetComputeRunningProcesses_v2": [
                entry(pid=7, usedGpuMemory=5),
                entry(pid=8, usedGpuMemory=None),
            ],
            "nvmlDeviceGetGraphicsRunningProcesses_v3": [entry(pid=7, usedGpuMemory=5)],
        }
    )

    found = device(binding).holders()

    assert [(h.process.pid, h.process.key, h.memory_bytes) for h in found] == [
        (7, "unidentified", 5),
        (8, "unidentified", None),
    ]


def test_no_lists_is_not_no_processes():
    """A GPU that cannot list processes says nothing, not that there are none."""
    assert device(Binding({})).holders() is None


def test_slot_shows_the_call_while_it_lasts():
    """Another thread can read what is being called, and by which thread."""
    slot = Slot(3, NVMLError)

    with slot.calling("nvmlDeviceGetName"):
        waiting = slot.waiting()

    assert (waiting.index, waiting.call) == (3, "nvmlDeviceGetName")
    assert waiting.thread_id == threading.get_native_id()
    assert slot.waiting() is None
