"""The latency sampler: what it says of a replica, what it remembers, and when it begins anew."""

from __future__ import annotations

import random
from math import isfinite

import msgspec
import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpuward.agent.model import Batch, Process, Sample, SeriesKey
from gpuward.agent.replica_watch import ReplicaWatch, look, samples
from gpuward.agent.samplers.latency import LatencySampler
from gpuward.agent.window import Readings

REPLICA = SeriesKey("", service="chat", endpoint="127.0.0.1:8000")
RECENT, EXPECTED = "replica_inter_token_recent_seconds", "replica_inter_token_expected_seconds"
SHIFT, AGE = "replica_inter_token_shift_ratio", "replica_inter_token_shift_age_seconds"
EVIDENCE = "replica_inter_token_evidence_ratio"
FAST, SLOW = "replica_objective_burn_ratio", "replica_objective_slow_burn_ratio"
USUAL = "replica_requests_failed_usual_ratio"
TURN_S = 5.0
LEARNED_TURNS = 400


class Engine:
    """A replica of the law 8 ms and 40 us a sequence, and the window that it is seen through."""

    def __init__(self, sampler_path, replica=REPLICA, seed=1):
        self.readings = Readings()
        self.path = sampler_path
        self.sampler = LatencySampler(sampler_path, self.readings.window)
        self.replica = replica
        self.chance = random.Random(seed)
        self.now_s = 1_000.0
        self.gauges = {"replica_kv_cache_usage_ratio": 0.1}
        self.restart()
        self.said = {}

    def restart(self):
        self.counters = dict.fromkeys(
            (
                "replica_inter_tokens_total",
                "replica_inter_token_seconds_total",
                "replica_requests_total",
                "replica_requests_failed_total",
                "replica_requests_over_objective_total",
                "replica_prompt_tokens_total",
            ),
            0.0,
        )

    async def turn(self, turns=1, *, slower=1.0, failing=0.0, late=0.0, requests=50, process=None):
        """Let five seconds pass, ``turns`` times; returns what was said in the last."""
        for _ in range(turns):
            running = self.chance.uniform(10.0, 40.0)
            noise = self.chance.lognormvariate(0.0, 0.01)
            seconds = (8e-3 + 4e-5 * running) * noise * slower
            for signal, more in zip(
                self.counters,
                (
                    running * TURN_S / seconds if requests else 0.0,
                    running * TURN_S if requests else 0.0,
                    requests,
                    failing * requests,
                    late * requests,
                    0.0,
                ),
                strict=True,
            ):
                self.counters[signal] += more
            self.now_s += TURN_S
            await self.scrape(process)
        return self.said

    async def scrape(self, process=None):
        samples = tuple(
            Sample(self.replica._replace(signal=signal), self.now_s, value)
            for signal, value in (self.counters | self.gauges).items()
        )
        processes = None if process is None else (process,)
        self.readings.apply("engine", Batch(samples=samples, processes=processes), self.now_s)
        batch = await self.sampler.sample(self.now_s)
        self.readings.apply("latency", batch, self.now_s)
        own = [s for s in batch.samples if s.key.endpoint == self.replica.endpoint]
        self.said = {s.key.signal: s.value for s in own}

    def agent_restarts(self):
        self.sampler = LatencySampler(self.path, self.readings.window)


@pytest.fixture
async def engine(tmp_path):
    """One that is known well."""
    made = Engine(tmp_path / "latency.json")
    await made.turn(LEARNED_TURNS)
    return made


async def test_a_healthy_replica(engine):
    """All that is known is said, and none of it is alarming."""
    said = await engine.turn()

    assert set(said) == {RECENT, EXPECTED, SHIFT, AGE, EVIDENCE, FAST, SLOW, USUAL}
    assert said[RECENT] == pytest.approx(said[EXPECTED], rel=0.05)
    assert said[EVIDENCE] < 0.5
    assert said[SHIFT] == pytest.approx(0.0, abs=0.02)
    assert (said[FAST], said[SLOW]) == (0.0, 0.0)


async def test_a_slow_replica(engine):
    """A tenth slower for a minute."""
    said = await engine.turn(12, slower=1.1)

    assert said[EVIDENCE] >= 1.0
    assert said[SHIFT] == pytest.approx(0.1, abs=0.02)
    assert said[AGE] == pytest.approx(60.0, abs=10.0)
    assert said[RECENT] > said[EXPECTED]


async def test_a_young_replica_is_not_judged(tmp_path):
    """Ten minutes; the time is told, and that there is no evidence yet."""
    engine = Engine(tmp_path / "latency.json")
    said = await engine.turn(60, slower=1.0)
    slower = await engine.turn(60, slower=1.5)

    assert said[EVIDENCE] == slower[EVIDENCE] == 0.0
    assert slower[RECENT] > 0


async def test_a_restart_of_the_engine_begins_anew(engine):
    """Counters begin at 0, and a model that is half as fast is no fault."""
    engine.restart()
    judged = [await engine.turn(slower=1.5) for _ in range(200)]

    assert max(said.get(EVIDENCE, 0.0) for said in judged) < 1.0


@pytest.mark.parametrize(
    ("pid", "model", "is_another"),
    [
        pytest.param(100, "llama-8b", False, id="the same"),
        pytest.param(100, "llama-70b", True, id="another model"),
        pytest.param(200, "llama-8b", True, id="another process"),
    ],
)
async def test_another_engine_begins_anew(tmp_path, pid, model, is_another):
    """By its process and its model too: its counters may be higher by chance."""

    def process(pid, model):
        return Process("vllm", pid, pid, service="chat", model=model, endpoint=REPLICA.endpoint)

    engine = Engine(tmp_path / "latency.json")
    await engine.turn(LEARNED_TURNS, process=process(100, "llama-8b"))
    said = await engine.turn(20, slower=1.3, process=process(pid, model))

    assert (said[EVIDENCE] < 1.0) is is_another


async def test_a_process_that_is_found_late_is_no_other(engine):
    """Whom an engine's address belongs to is found out seconds later, or never."""
    late = Process("vllm", 7, 7, service="chat", model="llama", endpoint=REPLICA.endpoint)
    said = await engine.turn(20, slower=1.2, process=late)

    assert said[EVIDENCE] >= 1.0


async def test_it_outlives_the_agent(engine, written):
    """Known at once after a restart of the agent, in the middle of a fault."""
    await engine.turn(40, slower=1.2)
    written()
    engine.agent_restarts()
    said = await engine.turn(2, slower=1.2)

    assert said[EVIDENCE] >= 1.0
    assert said[SHIFT] == pytest.approx(0.2, abs=0.03)


async def test_an_engine_that_restarted_meanwhile_is_another(engine, written):
    written()
    engine.agent_restarts()
    engine.restart()
    said = await engine.turn(20, slower=1.5)

    assert said[EVIDENCE] == 0.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"chat 127.0.0.1:8000": {"slow_down": {"law": {"coefficients": [1.0]}}}}',
        b'{"chat 127.0.0.1:8000": {"slow_down": 7}}',
        b"{" * 2_000_000,
    ],
    ids=["empty", "cut off", "no text", "a list", "another version", "a number", "huge"],
)
async def test_a_damaged_file_is_begun_anew(tmp_path, written, content):
    """With a line in the log, and written well the next time."""
    path = tmp_path / "latency.json"
    path.write_bytes(content)
    with structlog.testing.capture_logs() as logs:
        engine = Engine(path)
    await engine.turn(2)
    written()

    assert ["learned.forgotten"] == [line["event"] for line in logs]
    assert path.read_bytes().startswith(b'{"chat 127.0.0.1:8000":')


async def test_a_full_disk_is_tried_again(tmp_path, written):
    """A minute later; nothing is lost, and the samples come all the same."""
    path = tmp_path / "missing" / "latency.json"
    engine = Engine(path)
    said = await engine.turn(5)
    written()
    path.parent.mkdir()
    await engine.turn(12)
    written()

    assert EVIDENCE in said
    assert path.exists()


async def test_it_is_written_once_a_minute(engine, written):
    await engine.turn(12)
    written()
    at_ns = [engine.path.stat().st_mtime_ns]
    for _ in range(24):
        await engine.turn()
        written()
        at_ns.append(engine.path.stat().st_mtime_ns)

    assert len(set(at_ns)) == 3


async def test_addresses_that_come_and_go_are_forgotten(tmp_path, written):
    """Those first that were not seen for longest; a file does not grow for ever."""
    engine = Engine(tmp_path / "latency.json")
    for port in range(1, 100):
        for each in (0, port):
            engine.replica = REPLICA._replace(endpoint=f"127.0.0.1:{each}")
            await engine.turn()
            written()
        engine.now_s += 60.0

    kept = [name.partition(":")[2] for name in msgspec.json.decode(engine.path.read_bytes())]
    assert len(kept) == 64
    assert set(kept) == {"0", *(str(port) for port in range(36, 99))}


async def test_a_clock_that_begins_anew_shows_nothing_of_before(engine, written):
    """After a reboot; the engine counts requests already and no token yet."""
    written()
    engine.agent_restarts()
    engine.readings = Readings()
    engine.sampler = LatencySampler(engine.path, engine.readings.window)
    engine.now_s = 100.0
    engine.counters, engine.gauges = {"replica_requests_total": 1.0}, {}
    await engine.scrape()

    assert set(engine.said) == {USUAL}


VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, 1e3, 1e9, 1e308, -1e308, 5e-324]),
)


HUGE = [0.0] * 6 + [1e308] * 3


@example([[0.0] * 9, HUGE, [0.0] * 9, HUGE, [0.0] * 9, HUGE])
@given(st.lists(st.lists(VALUES, min_size=9, max_size=9), max_size=8))
@settings(max_examples=25, deadline=None)
def test_whatever_a_page_says_is_borne(pages):
    """No value of any counter makes it fail, or poisons what it remembers."""
    signals = (
        "replica_inter_tokens_total",
        "replica_inter_token_seconds_total",
        "replica_prompt_tokens_total",
        "replica_cached_prompt_tokens_total",
        "replica_preemptions_total",
        "replica_kv_cache_usage_ratio",
        "replica_requests_total",
        "replica_requests_failed_total",
        "replica_requests_over_objective_total",
    )
    readings, watch = Readings(), ReplicaWatch()
    for place, page in enumerate(pages):
        now_s = 5.0 * place
        batch = Batch(
            samples=tuple(
                Sample(REPLICA._replace(signal=signal), now_s, value)
                for signal, value in zip(signals, page, strict=True)
            )
        )
        readings.apply("engine", batch, now_s)
        window = readings.window(now_s)
        watch = look(window, REPLICA, watch)
        said = list(samples(window, REPLICA, watch))

        assert all(isfinite(sample.value) for sample in said)
    again = msgspec.json.decode(msgspec.json.encode(watch), type=ReplicaWatch)
    assert again == watch


async def test_without_traffic_the_last_word_is_held_for_a_minute(engine):
    """Then nothing is said of tokens; an engine without requests is not slow."""
    await engine.turn(12, slower=1.2)
    soon = await engine.turn(12, requests=0)
    later = await engine.turn(1, requests=0)

    assert soon[EVIDENCE] >= 1.0
    assert EVIDENCE not in later
    assert USUAL in later


async def test_a_budget_that_burns(engine):
    """A fifth of the requests too slow: for five minutes fast, for an hour not yet."""
    said = await engine.turn(60, late=0.2)

    assert said[FAST] == pytest.approx(20.0)
    assert said[SLOW] == pytest.approx(20.0 * 60 / (LEARNED_TURNS + 60), rel=0.1)


@pytest.mark.parametrize(("turns", "burns"), [(56, True), (62, False)])
async def test_five_minutes_are_five_minutes(engine, turns, burns):
    """A bad moment is in the slow pair for as long, though the last minute was good."""
    await engine.turn(1, late=1.0)
    said = await engine.turn(turns)

    assert said[FAST] == 0.0
    assert (said[SLOW] > 0.0) is burns


async def test_it_looks_each_five_seconds(engine):
    assert engine.sampler.period_s == 5.0


async def test_what_fails_usually_is_learned_and_a_wave_of_it_is_not(engine):
    """Four in a thousand become usual; one in ten at once is no habit."""
    before = (await engine.turn(400, failing=0.004))[USUAL]
    after = (await engine.turn(60, failing=0.1))[USUAL]

    assert before == pytest.approx(0.004 * 400 / 820, rel=0.25)
    assert after == pytest.approx(before, rel=0.15)


async def test_two_replicas_are_two(tmp_path):
    """One of them slow: the other's figures do not move."""
    path = tmp_path / "latency.json"
    engine = Engine(path)
    other = SeriesKey("", service="chat", endpoint="127.0.0.1:8001")
    second = Engine(tmp_path / "unused.json", replica=other, seed=2)
    second.readings, second.sampler = engine.readings, engine.sampler
    said = {}

    async def scrape_both(slower):
        for each, by in ((engine, 1.0), (second, slower)):
            running = each.chance.uniform(10.0, 40.0)
            seconds = (8e-3 + 4e-5 * running) * each.chance.lognormvariate(0.0, 0.01) * by
            each.counters["replica_inter_tokens_total"] += running * TURN_S / seconds
            each.counters["replica_inter_token_seconds_total"] += running * TURN_S
            samples = tuple(
                Sample(each.replica._replace(signal=signal), engine.now_s, value)
                for signal, value in (each.counters | each.gauges).items()
            )
            engine.readings.apply("engine", Batch(samples=samples), engine.now_s)
        batch = await engine.sampler.sample(engine.now_s)
        said.update({(s.key.endpoint[-1], s.key.signal): s.value for s in batch.samples})
        engine.now_s += TURN_S

    for turn in range(LEARNED_TURNS):
        await scrape_both(1.2 if turn > LEARNED_TURNS - 20 else 1.0)

    assert said["1", EVIDENCE] >= 1.0
    assert said["0", EVIDENCE] < 0.5
