"""The probes: the processor's for real, the GPU's with a CuPy that is played over real memory."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.probes import card, product_cuda, table
from gpuward.agent.probes.figure import Meter, Stalled, Unsupported, Unusable, spread
from gpuward.agent.probes.spin import spin_figures

MIB = 1 << 20
US = 1_000
SPREAD = ("seconds", "shortest_seconds", "p90_seconds", "longest_seconds")


def measure(probe, device="GPU-aaaa", limit_s=1.0):
    """Return the figures by name, and the meter."""
    meter = Meter(limit_s)
    return {figure.name: figure.value for figure in table.run(probe, device, meter)}, meter


def test_cpu_twin():
    """Every figure is a time, a rate or a share, and none of it is a GPU's time."""
    figures, meter = measure("latency", "cpu")

    assert set(figures) == {
        *(f"launch_{name}" for name in SPREAD),
        "copy_bytes_per_second",
        "product_seconds",
        "longest_gap_seconds",
        "gap_count",
        "stolen_ratio",
    }
    assert all(value >= 0 for value in figures.values())
    assert figures["launch_longest_seconds"] >= figures["launch_seconds"] > 0
    assert figures["stolen_ratio"] <= 1
    assert meter.busy_s == 0


@given(st.lists(st.floats(0, 1), min_size=1))
def test_spread_is_ordered(seconds):
    ordered = {figure.name: figure.value for figure in spread("x", seconds)}

    assert ordered["x_shortest_seconds"] == min(seconds)
    assert ordered["x_longest_seconds"] == max(seconds)
    assert min(seconds) <= ordered["x_seconds"] <= max(seconds)
    assert ordered["x_seconds"] <= ordered["x_p90_seconds"] or len(seconds) == 1


def test_spread():
    """Nearest rank: nine tenths of ten values are not above the ninth."""
    found = {figure.name: figure.value for figure in spread("x", list(range(10, 0, -1)))}

    assert found == {
        "x_seconds": 5.5,
        "x_shortest_seconds": 1,
        "x_p90_seconds": 9,
        "x_longest_seconds": 10,
    }
    assert spread("x", []) == []


def looks(*steps):
    """Return what both clocks show after steps of (cycles, nanoseconds)."""
    return np.cumsum([(7, 1_000_000), *steps], axis=0).T.tolist()


@pytest.mark.parametrize(
    ("steps", "clock_hertz", "gaps_s", "count"),
    [
        pytest.param([(4_000, 2 * US)] * 99, 2e9, (0, 0), 0, id="nothing in its way"),
        pytest.param([(4_000, 2 * US), (4_000, 3 * US)] * 50, 1.6e9, (0, 0), 0, id="1 us unsure"),
        # All ten steps count: 60,000 cycles in 39 us.
        pytest.param(
            [(4_000, 2 * US)] * 9 + [(24_000, 21 * US)], 60 / 39 * 1e9, (0, 0), 0, id="19 us more"
        ),
        pytest.param(
            [(4_000, 2 * US)] * 98 + [(4_000, 22 * US)], 2e9, (20e-6, 20e-6), 1, id="a gap of 20 us"
        ),
        pytest.param(
            [(4_000, 2 * US)] * 98 + [(0, 1_502 * US), (9_000_000, 2_002 * US)],
            2e9,
            (2e-3, 3.5e-3),
            2,
            id="two slices of another process, whatever the cycles do meanwhile",
        ),
    ],
)
def test_spin(steps, clock_hertz, gaps_s, count):
    """The clock is that of the time in which it ran; a gap is what a step took beyond the usual."""
    cycles, nanoseconds = looks(*steps)
    found = {figure.name: figure.value for figure in spin_figures(cycles, nanoseconds)}
    elapsed_s = sum(ns for _, ns in steps) / 1e9

    assert found["clock_hertz"] == pytest.approx(clock_hertz)
    assert found["longest_gap_seconds"] == pytest.approx(gaps_s[0])
    assert found["gap_ratio"] == pytest.approx(gaps_s[1] / elapsed_s)
    assert found["gap_count"] == count


@pytest.mark.parametrize("steps", [[], [(4_000, 0)] * 60 + [(4_000, 32 * US)] * 3])
def test_spin_without_a_clock_that_tells_steps_apart(steps):
    assert spin_figures(*looks(*steps)) == []


class PlayedCupy:
    """What the probes use of CuPy, over memory of this process; kernels are what they should be.

    ``looks``: how often an event is asked before it is done; ``wrong``: the product has an error.
    """

    def __init__(self, *, looks=1, event_ms=0.004, wrong=False, nvrtc="", driver=""):
        self.launched, self.copied, self.taken = [], [], []
        self.allocators = {"device": "pool", "pinned": "pool"}
        self.looks, self.wrong = looks, wrong
        # What stands in the way.
        self.nvrtc, self.driver = nvrtc, driver
        self.cuda = SimpleNamespace(
            Event=self._event,
            Stream=self._stream,
            Memory=self._memory,
            PinnedMemory=self._memory,
            PinnedMemoryPointer=lambda memory, offset: memory.buffer,
            set_allocator=lambda it: self.allocators.update(device=it),
            set_pinned_memory_allocator=lambda it: self.allocators.update(pinned=it),
            get_elapsed_time=lambda begin, end: event_ms,
            nvrtc=SimpleNamespace(getVersion=self._version),
            runtime=SimpleNamespace(
                getDeviceCount=self._devices,
                memcpyAsync=self._copy,
                malloc=self._malloc,
                free=self.taken.remove,
            ),
        )

    def _devices(self):
        if self.driver:
            raise RuntimeError(self.driver)

    def _version(self):
        if self.nvrtc:
            raise RuntimeError(self.nvrtc)

    def _event(self):
        played = self

        class Event:
            def record(self, stream):
                self.left = played.looks

            @property
            def done(self):
                self.left -= 1
                return self.left < 0

        return Event()

    def _stream(self, *, non_blocking):
        assert non_blocking

        class Stream:
            ptr = 99

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

        return Stream()

    def _memory(self, size):
        buffer = (ctypes.c_char * size)()
        return SimpleNamespace(ptr=ctypes.addressof(buffer), buffer=buffer, size=size)

    def _copy(self, target, source, size, kind, stream):
        assert stream == 99
        self.copied.append((size, kind))
        ctypes.memmove(target, source, size)

    def _malloc(self, size):
        self.taken.append(size)
        return size

    def RawKernel(self, source, name):  # noqa: N802 - CuPy's name
        assert f'extern "C" __global__ void {name}(' in source

        def launch(grid, block, arguments):
            self.launched.append((name, grid, block))
            getattr(self, f"_{name}", lambda *_: None)(*arguments)

        return launch

    def _gpuward_spin_gap(self, cycles, times, value, looks, chain):
        assert (looks.dtype, chain.dtype, cycles.dtype) == (np.int32, np.int32, np.uint64)
        for at, step in ((cycles, 4_000), (times, 2 * US)):
            array(at, np.int64, int(looks))[:] = np.arange(looks) * step

    def _gpuward_product(self, a, b, made, side):
        shape = (side, side)
        first, second = (array(at, np.float16, side * side).reshape(shape) for at in (a, b))
        product = first.astype(np.float32) @ second.astype(np.float32).T
        product[3, 5] += self.wrong
        array(made, np.float32, side * side).reshape(shape)[:] = product


def array(address, kind, size):
    """Return the memory at ``address``."""
    raw = (ctypes.c_char * (size * np.dtype(kind).itemsize)).from_address(int(address))
    return np.frombuffer(raw, kind)


@pytest.fixture
def play(monkeypatch):
    def start(**how):
        played = PlayedCupy(**how)
        monkeypatch.setitem(sys.modules, "cupy", played)
        card.card.cache_clear()
        return played

    monkeypatch.setattr(card, "_opened", [])
    yield start
    card.card.cache_clear()


def test_gpu_twin(play):
    """One launch and one spin are discarded, no memory pool is used, event times are in seconds."""
    played = play(looks=3)

    figures, meter = measure("latency")

    assert set(figures) == {
        *(f"launch_{name}" for name in SPREAD),
        *(f"launch_event_{name}" for name in SPREAD),
        "clock_hertz",
        "longest_gap_seconds",
        "gap_ratio",
        "gap_count",
    }
    assert figures["launch_event_seconds"] == pytest.approx(4e-6)
    assert figures["launch_longest_seconds"] >= figures["launch_seconds"] > 0
    assert figures["clock_hertz"] == pytest.approx(2e9)
    assert played.launched == [
        ("gpuward_empty", (1,), (1,)),
        *[("gpuward_spin_gap", (1,), (1,))] * 2,
        *[("gpuward_empty", (1,), (1,))] * 32,
    ]
    assert played.allocators == {"device": None, "pinned": None}
    assert meter.busy_s == pytest.approx(37 * 4e-6)


def test_a_burst_that_takes_too_much_ends_early(play):
    """Each piece takes 1 ms: three launches fit into 8 ms after what comes first."""
    played = play(event_ms=1.0)

    figures, meter = measure("latency", limit_s=0.008)

    assert played.launched[3:] == [("gpuward_empty", (1,), (1,))] * 3
    assert figures["launch_event_seconds"] == pytest.approx(1e-3)
    assert meter.busy_s == pytest.approx(0.008)


def test_a_burst_without_a_launch_has_no_time_of_one(play):
    play(event_ms=5.0)

    figures, _ = measure("latency", limit_s=0.008)

    assert set(figures) == {"clock_hertz", "longest_gap_seconds", "gap_ratio", "gap_count"}


def test_copies(play):
    """4 KiB eight times and 16 MiB once, each way; 64 MiB twice inside."""
    played = play(event_ms=1.0)

    host, _ = measure("host_copy")
    device, _ = measure("device_copy")

    way = [4_096] * 8 + [16 * MIB]
    assert played.copied == [
        *((size, 1) for size in way),
        *((size, 2) for size in way),
        *((64 * MIB, 3),) * 2,
    ]
    assert host == {
        "host_to_device_small_seconds": 1e-3,
        "host_to_device_bytes_per_second": 16 * MIB / 1e-3,
        "device_to_host_small_seconds": 1e-3,
        "device_to_host_bytes_per_second": 16 * MIB / 1e-3,
    }
    assert device == {"device_copy_bytes_per_second": 64 * MIB / 1e-3}


def test_copies_end_early_too(play):
    play(event_ms=1.0)

    host, meter = measure("host_copy", limit_s=0.005)

    assert "device_to_host_bytes_per_second" not in host
    assert meter.busy_s == pytest.approx(0.009)


@pytest.mark.parametrize(("wrong", "errors"), [(False, 0), (True, 2 / 256)])
def test_product(play, monkeypatch, wrong, errors):
    """One wrong element is a wrong row and a wrong column."""
    for name, value in (("SIDE", 128), ("MATRIX_BYTES", 128 * 128 * 2), ("OPERATIONS", 2 * 128**3)):
        monkeypatch.setattr(product_cuda, name, value)
    played = play(wrong=wrong)

    figures, _ = measure("product")

    assert figures["product_error_ratio"] == errors
    assert figures["product_operations_per_second"] == pytest.approx(2 * 128**3 / 4e-6)
    assert played.launched == [("gpuward_product", (2, 2), (128,))] * 5


def test_sums_of_the_real_size_are_exact():
    """Whole numbers far below what single precision holds, in whatever order they are added."""
    first, second = product_cuda.matrices()

    assert first.shape == second.shape == (2_048, 2_048)
    assert {*np.unique(first)} == {-1, 0, 1}
    assert {*np.unique(second)} == {-2, -1, 0, 1, 2}
    assert 2_048 * 2 < 2**24


def test_allocation_ladder_gives_all_back(play):
    played = play()

    figures, meter = measure("allocation")

    sizes = (2, 16, 64, 256)
    assert set(figures) == {f"{what}_{n}_mib_seconds" for what in ("take", "free") for n in sizes}
    assert played.taken == []
    assert meter.busy_s == 0


def test_gpu_that_never_finishes(play, monkeypatch):
    """A kernel that is not done by the deadline is a stall, not a wait."""
    play(looks=10**9)
    monkeypatch.setattr(card, "DEADLINE_S", 0.01)

    with pytest.raises(Stalled):
        measure("latency")
    assert card.is_open()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("CuPy failed to load libnvrtc.so.12: OSError: no such file", id="CuPy 13"),
        pytest.param('Failure finding "libnvrtc.so.13": No such file', id="CuPy 14"),
    ],
)
def test_without_a_compiler_no_context_is_made(play, words):
    play(nvrtc=words)

    with pytest.raises(Unsupported, match="no NVRTC for CuPy"):
        measure("latency")
    assert not card.is_open()


def test_without_a_driver_no_context_is_made(play):
    play(driver="cudaErrorNoDevice: no CUDA-capable device is detected")

    with pytest.raises(Unusable, match="cudaErrorNoDevice"):
        measure("latency")
    assert not card.is_open()


@pytest.mark.gpu
def test_gpu_twin_on_a_gpu():
    """On hardware: an empty kernel's round trip is microseconds, the event's share less."""
    pytest.importorskip("cupy")
    figures, _ = measure("latency")

    assert 0 < figures["launch_event_seconds"] <= figures["launch_seconds"] < 0.1
    assert 1e8 < figures["clock_hertz"] < 4e9
