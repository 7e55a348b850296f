"""The rhythm of the tap, tick by tick, on a source of statistics that a test controls."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import types

import pytest

from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.tap import ticker as ticker_module
from gpuward.tap.layout import unpack_header
from gpuward.tap.memory_walk import Walk
from gpuward.tap.publisher import Publisher
from gpuward.tap.ticker import Ticker

USED = {"reserved_bytes": {"all": {"current": 5, "allocated": 5}}}
FREED = {"reserved_bytes": {"all": {"current": 0, "allocated": 5}}}
UNUSED = {"reserved_bytes": {"all": {"current": 0, "allocated": 0}}}


class FakeSource:
    flags = 0

    def __init__(self, *by_ordinal):
        self.by_ordinal = list(by_ordinal)
        self.safe = True
        self.cost_ns = 0
        self.asked = 0
        self.observer = None
        self.segments = []
        self.walked = 0
        self.recording = False

    def is_ready(self):
        return True

    def open_publisher(self, directory, period_ms):
        devices = [(bytes([n + 1]) * 16, n) for n in range(len(self.by_ordinal))]
        return Publisher(directory, devices, period_ms=period_ms, header_flags=1)

    def stats(self, ordinal):
        self.asked += 1
        ticker_module.time.now_ns += self.cost_ns
        if isinstance(self.by_ordinal[ordinal], Exception):
            raise self.by_ordinal[ordinal]
        return self.by_ordinal[ordinal]

    def is_safe_to_ask(self, *, in_step):
        return self.safe or (in_step and self.safe is not None)

    def walk(self):
        self.walked += 1
        if isinstance(self.segments, Exception):
            raise self.segments
        return Walk(self.segments, time.monotonic_ns(), time.time_ns(), 7)

    def is_recording(self):
        return self.recording

    def observe_oom(self, observer):
        self.observer = observer


class FakeTime:
    now_ns = 0

    def perf_counter_ns(self):
        return self.now_ns


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(ticker_module, "time", FakeTime())
    made = []

    def ticker(*by_ordinal):
        made.append(Ticker(str(tmp_path), FakeSource(*by_ordinal)))
        return made[-1]

    yield ticker
    for one in made:
        if one._publisher is not None:
            one._publisher.close()


def tick(ticker):
    """Tick once; the pending call runs before the next line of the test does."""
    ticker._tick(ticker._publisher or ticker._open())
    for _ in range(3):
        pass


def records(ticker):
    raw = ticker._publisher.path.read_bytes()
    header = unpack_header(raw)
    found = []
    for index in range(header.device_count):
        at = header.device_offset(index)
        both = [unpack_record(raw, at), unpack_record(raw, at + header.slot_size)]
        found.append(max((r for r in both if r), key=lambda r: r.seq, default=None))
    return found


@pytest.mark.parametrize(
    ("stats", "published"),
    [
        pytest.param(USED, True, id="in use"),
        pytest.param(FREED, True, id="used before"),
        pytest.param(UNUSED, False, id="visible only"),
        pytest.param({}, False, id="no statistics"),
    ],
)
def test_only_devices_that_the_process_uses_are_published(make, stats, published):
    ticker = make(USED, stats)
    tick(ticker)

    assert [record is not None for record in records(ticker)] == [True, published]


@pytest.mark.parametrize(
    ("costs_ms", "period_s"),
    [
        pytest.param([5.0], 1.0, id="exactly 5 ms is no slow tick"),
        pytest.param([5.1], 2.0, id="slow"),
        pytest.param([9, 9, 9], 8.0, id="slow again and again"),
        pytest.param([9] * 9, 60.0, id="a minute at most"),
        pytest.param([9, 9, 9, 0.1], 4.0, id="recovers"),
        pytest.param([9, 0.1, 0.1, 0.1], 1.0, id="a second at least"),
    ],
)
def test_a_slow_allocator_is_asked_less_often(make, costs_ms, period_s):
    ticker = make(USED)
    for cost_ms in costs_ms:
        ticker._source.cost_ns = int(cost_ms * 1e6)
        tick(ticker)

    assert ticker._period_s == period_s


def test_an_allocator_that_turns_unsafe_is_not_asked_again(make):
    ticker = make(USED)
    tick(ticker)
    ticker._source.safe = False
    tick(ticker)

    assert ticker._source.asked == 1
    assert records(ticker)[0].flags == 4


def test_it_may_turn_unsafe_between_the_request_and_the_call(make):
    ticker = make(USED)
    tick(ticker)
    ticker._source.safe = False
    ticker._publish()

    assert ticker._source.asked == 1


def test_statistics_that_failed_once_are_not_asked_for_again(make):
    ticker = make(RuntimeError("pluggable"))
    for _ in range(3):
        tick(ticker)

    assert ticker._source.asked == 1
    assert records(ticker)[0].flags == 4


@pytest.mark.parametrize(
    ("quiet_ticks", "asked"),
    [
        pytest.param(2, 0, id="two seconds of silence are normal"),
        pytest.param(3, 1, id="three are a main thread asleep"),
        pytest.param(5, 3, id="and then each tick"),
    ],
)
def test_a_main_thread_that_waits_is_stood_in_for(make, quiet_ticks, asked):
    ticker = make(USED)
    tick(ticker)
    silence(ticker, quiet_ticks)

    assert ticker._source.asked == 1 + asked


def silence(ticker, ticks):
    """Let time pass while the main thread runs no Python and waits for another one."""
    ticker._pending.is_under_way = True
    thread = threading.Thread(target=lambda: [tick(ticker) for _ in range(ticks)])
    thread.start()
    thread.join()


def test_the_first_counters_do_not_wait_so_long(make):
    """They are to be there three seconds after CUDA."""
    ticker = make(USED)
    silence(ticker, 1)

    assert (ticker._source.asked, records(ticker)[0].flags) == (1, 0)


def test_a_first_call_without_an_answer_is_looked_after_sooner(make):
    ticker = make(USED)
    delays = [ticker._delay_s()]
    ticker._pending.is_under_way = True
    delays.append(ticker._delay_s())
    silence(ticker, 1)
    delays.append(ticker._delay_s())

    assert delays == [1.0, 0.5, 1.0]


def test_a_main_thread_that_may_be_inside_the_allocator_is_not(make):
    """It would be if the driver hung: asking would then stop every other Python thread."""
    ticker = make(USED)
    ticker._pending.is_under_way = True
    in_c = threading.Event()

    def tick_when_in_c():
        in_c.wait()
        ctypes.CDLL(None).usleep(50_000)
        for _ in range(5):
            tick(ticker)

    thread = threading.Thread(target=tick_when_in_c)
    thread.start()
    usleep = ctypes.CDLL(None).usleep
    in_c.set()
    usleep(200_000)
    thread.join()

    assert (ticker._source.asked, records(ticker)[0].flags) == (0, 64 | 4)
    ticker._publish()
    assert (ticker._source.asked, records(ticker)[0].flags) == (1, 0)


def test_a_source_that_takes_no_observer_is_published_all_the_same(make):
    ticker = make(USED)
    ticker._source.observe_oom = None
    tick(ticker)

    assert records(ticker)[0].all_pools.reserved_bytes == 5


def test_an_error_is_recorded_with_the_statistics_of_the_moment(make):
    ticker = make(USED, USED)
    tick(ticker)
    ticker._source.by_ordinal[1] = {"reserved_bytes": {"all": {"current": 9}}, "num_ooms": 1}
    ticker._source.observer(1, 100, 1000, 20)

    record = records(ticker)[1]
    assert record.oom[1:] == (100, 20, 9, 0)
    assert (record.totals.ooms, record.flags) == (1, 18)


def test_an_error_where_nobody_may_ask_is_recorded_all_the_same(make):
    ticker = make(USED)
    tick(ticker)
    ticker._source.safe = False
    ticker._source.observer(0, 100, 1000, 20)

    assert ticker._source.asked == 1
    assert records(ticker)[0].oom[1:] == (100, 20, 5, 0)


def test_an_observer_that_outlives_the_tap_does_nothing(make):
    """torch cannot detach it."""
    ticker = make(USED)
    tick(ticker)
    asked = ticker._source.asked
    ticker.close()

    ticker._source.observer(0, 100, 1000, 20)

    assert asked == ticker._source.asked


def test_a_disk_that_fails_ends_it(make, monkeypatch):
    ticker = make(USED)
    tick(ticker)

    def fail(*_):
        raise OSError(28, "full")

    monkeypatch.setattr("os.pwrite", fail)
    tick(ticker)

    assert ticker._stop.is_set()


def test_a_directory_that_comes_later_is_found(make, monkeypatch):
    ticker = make(USED)
    attempts = []

    def open_publisher(directory, period_ms):
        attempts.append(1)
        if len(attempts) < 3:
            raise FileNotFoundError(directory)
        return FakeSource.open_publisher(ticker._source, directory, period_ms)

    monkeypatch.setattr(ticker._source, "open_publisher", open_publisher, raising=False)
    waited = []
    monkeypatch.setattr(ticker._stop, "wait", waited.append)

    assert ticker._opened() is ticker._publisher
    assert waited == [60, 60]


def test_a_tap_that_is_told_to_stop_looks_no_longer(make, monkeypatch):
    ticker = make(USED)
    ticker._directory = "/nonexistent"
    ticker._stop.set()

    assert ticker._opened() is None


@pytest.fixture
def engine(monkeypatch):
    module = types.ModuleType("vllm.v1.worker.gpu_worker")
    module.Worker = type("Worker", (), {"execute_model": lambda self: None})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.Worker()


def test_an_engine_publishes_after_its_step(make, engine):
    """And nothing else does, as long as it steps."""
    ticker = make(USED)
    tick(ticker)
    engine.execute_model()
    asked = ticker._source.asked
    for _ in range(3):
        tick(ticker)
        engine.execute_model()
        engine.execute_model()

    assert ticker._source.asked == asked + 3


def test_an_idle_engine_is_stood_in_for(make, engine):
    ticker = make(USED)
    tick(ticker)
    engine.execute_model()
    asked = ticker._source.asked
    for _ in range(4):
        tick(ticker)

    assert ticker._source.asked == asked + 1


def test_an_allocator_that_takes_the_gil_is_asked_by_its_engine_alone(make, engine):
    ticker = make(USED)
    ticker._source.safe = False
    tick(ticker)
    assert (ticker._source.asked, records(ticker)[0].flags) == (0, 4)

    engine.execute_model()
    assert (ticker._source.asked, records(ticker)[0].flags) == (1, 0)

    for _ in range(6):
        tick(ticker)
    assert (ticker._source.asked, records(ticker)[0].flags) == (1, 0)


def test_the_step_is_given_back(make, engine):
    step = type(engine).execute_model
    ticker = make(USED)
    tick(ticker)
    assert type(engine).execute_model is not step

    ticker.close()
    assert type(engine).execute_model is step


def test_a_walk_at_an_error_is_in_the_record_of_the_error(make):
    ticker = make(USED)
    tick(ticker)
    ticker._source.segments = [
        {
            "device": 0,
            "total_size": 2048,
            "segment_type": "small",
            "blocks": [{"size": 2048, "state": "inactive"}],
        }
    ]
    ticker._source.observer(0, 100, 1000, 20)

    record = records(ticker)[0]
    assert (record.oom.request_bytes, record.summary.releasable_bytes) == (100, 2048)
    assert (record.flags, record.free_counts[2]) == (16 | 2, 1)
