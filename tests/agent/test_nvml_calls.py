"""The table of NVML calls, read through a binding that answers as told."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gpuward.agent.learned_best import CLOCK_BEST, GENERATION_BEST, WIDTH_BEST
from gpuward.agent.nvml_call import Lane
from gpuward.agent.nvml_calls_health import read_unrepairable
from gpuward.agent.nvml_conditions import DeviceLost, DriverGone, Unsupported
from gpuward.agent.nvml_device import ALL_SIGNALS, Device, Slot
from gpuward.agent.nvml_holders import HolderLists
from gpuward.agent.samplers.saturation import LOADS
from gpuward.agent.signals import SIGNALS

NOT_SUPPORTED = 3
TIMEOUT = 10
ERRORS = ("fatal", "nonfatal", "correctable")
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
        def call(_handle=None, *arguments):
            self.called.append(name)
            answer = self.answers.get((name, *map(str, arguments)), self.answers.get(name))
            if answer is None:
                raise NVMLError(self.default)
            if isinstance(answer, NVMLError):
                raise answer
            return answer

        return call


def device(binding, driver_major=580):
    return Device(binding, "handle", Slot(0, NVMLError), driver_major)


def holders(binding):
    return HolderLists(binding, "handle", Slot(0, NVMLError), Path("/nonexistent"))


MEMORY = SimpleNamespace(total=80 * GIB, used=10 * GIB, free=69 * GIB, reserved=1 * GIB)


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


def test_every_gpu_signal_has_a_source():
    """Nothing in the table of GPU signals is left without a source, nor the other way round."""
    by_others = {"gpu_processes", "gpu_activity_source", "gpu_nvml_call_seconds"}
    of_slices = tuple(f"gpu_mig_{what}_" for what in ("memory", "sm", "tensor", "dram"))
    by_others |= {name for name in SIGNALS if name.startswith((*of_slices, "gpu_probe_"))}
    by_pci = {"gpu_on_pci_bus", *(f"gpu_aer_{how}_total" for how in ERRORS)}
    by_accounts = {
        f"gpu_memory_{what}"
        for what in (
            "unattributed_bytes",
            "tapped_ratio",
            "explained_ratio",
            "degraded_bytes",
            "blind_bytes",
            "zombie_bytes",
        )
    }

    by_saturation = {*LOADS.values(), "gpu_limiter", "gpu_load_verdict"}
    by_learning = {CLOCK_BEST, GENERATION_BEST, WIDTH_BEST}

    assert ALL_SIGNALS | by_others | by_pci | by_accounts | by_saturation | by_learning == {
        name for name in SIGNALS if name.startswith("gpu_")
    }


def test_unsupported_is_asked_once():
    """What a GPU does not support is not asked again, and is named."""
    binding = Binding({"nvmlDeviceGetPowerUsage": 1_000})
    gpu = device(binding)

    gpu.read(Lane.FAST)
    gpu.read(Lane.SLOW)
    binding.called.clear()
    gpu.read(Lane.FAST)

    assert binding.called == ["nvmlDeviceGetPowerUsage"]
    assert "gpu_power_instant_watts" in gpu.unsupported()
    assert "gpu_power_draw_watts" not in gpu.unsupported()
    assert "gpu_ecc_corrected_total" in gpu.unsupported()


@pytest.mark.parametrize("lane", list(Lane))
def test_unsupported_follows_each_answer(lane):
    """Asked before and after a turn, it is what that turn found out: of calls, fields and GPM."""
    none, one = Binding({}), Binding({}, default=TIMEOUT)
    gpu, busy = device(none), device(one)
    before = [gpu.unsupported(), busy.unsupported()]

    for each in (gpu, busy):
        each.read(lane)
    after = [gpu.unsupported(), busy.unsupported()]
    for each in (gpu, busy):
        each.read_activity()

    assert [(), ()] == before
    assert after[0]
    assert () == after[1]
    assert "gpu_sm_active_ratio" not in after[0]
    assert "gpu_sm_active_ratio" in gpu.unsupported()
    assert set(after[0]) < set(gpu.unsupported())


def test_unsupported_follows_each_field():
    """Of fields, too, one after the other."""
    binding = Fields({82: (0, 71), 186: (0, 1), 74: (0, 1)})
    gpu = device(binding)
    gpu.read(Lane.FAST)
    assert "gpu_power_instant_watts" not in gpu.unsupported()

    del binding.answers[186]
    gpu.read(Lane.FAST)

    assert "gpu_power_instant_watts" in gpu.unsupported()


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


class Fields:
    """Answers each field by its number; what it does not know is not supported."""

    NVMLError = NVMLError

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def __getattr__(self, name):
        raise NVMLError(NOT_SUPPORTED)

    def nvmlDeviceGetFieldValues(self, _, fields):  # noqa: N802 - NVML's name
        numbers = [number for number, _ in fields]
        self.asked.append(numbers)
        return [
            SimpleNamespace(nvmlReturn=code, valueType=3, value=SimpleNamespace(ullVal=value))
            for code, value in (self.answers.get(number, (NOT_SUPPORTED, 0)) for number in numbers)
        ]


def test_fields_stand_by_themselves():
    """Of fields read together each has its own error: absent for now, or asked for no more."""
    binding = Fields({82: (0, 71), 186: (TIMEOUT, 0), 74: (0, 2_500_000_000)})
    gpu = device(binding)

    assert gpu.read(Lane.FAST) == {
        "gpu_memory_temperature_celsius": 71.0,
        "gpu_clock_event_sw_power_cap_seconds_total": 2.5,
    }
    gpu.read(Lane.FAST)
    assert binding.asked[-1] == [74, 82, 186]
    assert "gpu_power_instant_watts" not in gpu.unsupported()
    assert "gpu_pcie_transmit_bytes_total" in gpu.unsupported()


def test_a_field_can_say_that_the_gpu_is_lost():
    """Beside a call that succeeded."""
    with pytest.raises(DeviceLost, match="field 82"):
        device(Fields({82: (15, 0)})).read(Lane.FAST)


@pytest.mark.parametrize(("driver_major", "is_asked"), [(575, False), (580, True)])
def test_fields_of_a_driver(driver_major, is_asked):
    """Numbers that meant something else in an older driver are not asked there."""
    binding = Fields({270: (0, 1_000_000_000)})
    found = device(binding, driver_major).read(Lane.FAST)

    assert (270 in binding.asked[0]) is is_asked
    assert ("gpu_clock_event_hw_thermal_seconds_total" in found) is is_asked


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

    found = holders(binding).read()

    assert [(h.process.pid, h.process.key, h.memory_bytes) for h in found] == [
        (7, "unidentified", 5),
        (8, "unidentified", None),
    ]


def test_holders_in_a_gpu_that_is_cut():
    """NVML says where a process is, unless it is nowhere or the caller may not know."""
    nowhere = {"gpuInstanceId": 0xFFFFFFFF, "computeInstanceId": 0xFFFFFFFF}
    slice_ = {"gpuInstanceId": 3, "computeInstanceId": 0}
    binding = Binding(
        {
            "nvmlDeviceGetComputeRunningProcesses_v3": [
                SimpleNamespace(pid=7, usedGpuMemory=5, **slice_),
                SimpleNamespace(pid=7, usedGpuMemory=5, **{**slice_, "gpuInstanceId": 4}),
                SimpleNamespace(pid=8, usedGpuMemory=5, **nowhere),
            ],
            "nvmlDeviceGetGraphicsRunningProcesses_v3": [
                SimpleNamespace(pid=7, usedGpuMemory=5, **slice_),
            ],
        }
    )

    assert [h.instances for h in holders(binding).read()] == [((3, 0), (4, 0)), ()]


def test_utilization_is_the_newest_and_no_garbage():
    """Of a process's samples the newest counts; above a hundred per cent it is no figure."""
    entry = SimpleNamespace
    binding = Binding(
        {
            "nvmlDeviceGetComputeRunningProcesses_v3": [
                entry(pid=pid, usedGpuMemory=1) for pid in (7, 8, 9)
            ],
            ("nvmlDeviceGetProcessUtilization", "0"): [
                entry(pid=7, timeStamp=20, smUtil=90),
                entry(pid=7, timeStamp=10, smUtil=30),
                entry(pid=8, timeStamp=15, smUtil=4_000_000),
            ],
            ("nvmlDeviceGetProcessUtilization", "20"): NVMLError(6),
        }
    )
    lists = holders(binding)

    assert [holder.utilization_ratio for holder in lists.read()] == [0.9, None, None]
    assert [holder.utilization_ratio for holder in lists.read()] == [None, None, None]


def test_no_lists_is_not_no_processes():
    """A GPU that cannot list processes says nothing, not that there are none."""
    assert holders(Binding({})).read() is None


def test_what_the_binding_does_not_know_is_unsupported():
    """A binding older than a function is a GPU without it; a mistake of ours stays one."""
    slot = Slot(0, NVMLError)
    older = ModuleType("pynvml")

    with pytest.raises(Unsupported, match="nvidia-ml-py"), slot.calling("nvmlDeviceGetName"):
        older.nvmlDeviceGetName("handle")
    with pytest.raises(AttributeError), slot.calling("nvmlDeviceGetName"):
        NVMLError(3).no_such_thing  # noqa: B018


def test_slot_shows_the_call_while_it_lasts():
    """Another thread can read what is being called, and by which thread."""
    slot = Slot(3, NVMLError)

    with slot.calling("nvmlDeviceGetName"):
        waiting = slot.waiting()

    assert (waiting.index, waiting.call) == (3, "nvmlDeviceGetName")
    assert waiting.thread_id == threading.get_native_id()
    assert slot.waiting() is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # The driver leaves the version, or writes the flag in its place.
        pytest.param((None, 0), False, id="as the binding has it, well"),
        pytest.param((None, 1), True, id="as the binding has it, not well"),
        pytest.param((0, None), False, id="as the header has it, well"),
        pytest.param((1, None), True, id="as the header has it, not well"),
    ],
)
def test_unrepairable_memory_is_understood_either_way(words, expected):
    """Header and binding disagree about where the flag is; a bad GPU never reads as good."""

    def driver(_handle, pointer):
        status = pointer._obj
        first, second = words
        status.version_or_flag = status.version_or_flag if first is None else first
        status.flag = status.flag if second is None else second
        return 0

    binding = SimpleNamespace(_nvmlGetFunctionPointer=lambda _name: driver)

    assert read_unrepairable(binding, "handle") is expected
