"""A slice of `make bench-diagnosis`: that it measures what it says, on a few of its cases.

How good the verdicts are, the benchmark says; here is what must be so whatever they are.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# Seconds of CPU, on a machine that may have others to do.
FOLDER = Path(__file__).parent


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, which find one another in their own folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import diagnosis
    import diagnosis_life
    import diagnosis_node
    import diagnosis_scenarios
    import diagnosis_scores

    return {
        "main": diagnosis,
        "life": diagnosis_life,
        "node": diagnosis_node,
        "scenarios": diagnosis_scenarios,
        "scores": diagnosis_scores,
    }


def test_all_that_was_promised_is_lived(bench):
    """23 scenarios in three severities and ten seeds, four pairs; 200 GPU-hours that are judged."""
    jobs = bench["main"].plan(range(10), quick=False, only=())
    singles = [job for job in jobs if job.part == "single"]
    healthy = [job for job in jobs if job.part == "healthy"]

    assert 23 == len({job.names for job in singles})
    assert 23 * 3 * 10 == len({(job.names, job.severity, job.seed) for job in singles})
    assert 4 * 10 == sum(job.part == "double" for job in jobs)
    assert 200.0 == sum(job.hours for job in healthy if job.seed // 100 % 2) * 4
    assert len(healthy) == len({job.seed for job in healthy})
    assert 20 == sum(job.part == "quiet" for job in jobs)


def test_seeds_for_tuning_share_no_case_with_those_that_are_reported(bench):
    plans = [
        bench["main"].plan(seeds, quick=False, only=())
        for seeds in (range(0, 10, 2), range(1, 10, 2))
    ]
    even, odd = ({(job.names, job.severity, job.seed) for job in jobs} for jobs in plans)

    assert not even & odd
    assert {names for names, _, _ in even} == {names for names, _, _ in odd}


def test_a_case_is_the_same_each_time(bench):
    """Same scenario, severity and seed: the same node, second by second."""
    says = [
        [bench["node"].Node(bench["scenarios"].plan_of(("thermal",), 1, seed)).second(second)
         for second in (1, 2, 3)]
        for seed in (4, 4, 6)
    ]  # fmt: skip

    assert says[0] == says[1] != says[2]


@pytest.mark.parametrize(
    ("name", "signals"),
    [
        pytest.param("power cap", {"gpu_power_limit_watts", "gpu_sm_clock_hertz"}, id="power"),
        pytest.param("thermal", {"gpu_clock_event_reasons", "gpu_temperature_celsius"}, id="heat"),
        pytest.param("partition", {"node_coordinator_silence_seconds"}, id="partition"),
        pytest.param("clock skew", {"node_clock_step_seconds"}, id="clock"),
        pytest.param("slow model provider", {"upstream_latency_seconds_total"}, id="upstream"),
        pytest.param("no page of metrics", {"replica_page_failures_total"}, id="page"),
        pytest.param("foreign compute", {"gpu_probe_longest_gap_seconds"}, id="neighbour"),
    ],
)
def test_a_fault_shows_where_it_should(bench, tmp_path, name, signals):
    """Each of them is another two minutes after the onset than it was before."""
    plan = bench["scenarios"].plan_of((name,), 2, 0)
    plan.is_fluid = plan.has_probes = True
    plan.onset_s = 300.0
    plan.faults = {
        replica: [replace(fault, onset_s=300.0) for fault in faults]
        for replica, faults in plan.faults.items()
    }
    life = bench["life"].Life(plan, tmp_path)
    means = []
    for second in range(181, 421):
        life.second(second)
        if second in (299, 420):
            means.append(_means(life, signals, second - 60.0))

    assert all(means[0][key] != pytest.approx(means[1][key], rel=0.05) for key in means[1])


def _means(life, signals, since_s):
    """Return the mean of each series that can have moved: of the victim, or of the node."""
    window = life.judge.readings.window(since_s + 60.0)
    victim = life.node.replicas[life.node.plan.victim]
    mine = {victim.card.gpu.uuid, victim.endpoint, life.node.plan.upstream, ""}
    found = {}
    for signal in signals:
        for key in window.keys(signal):
            if {key.gpu, key.endpoint} <= mine and (key.gpu or key.endpoint or not key.service):
                values = [sample.value for sample in window.values(key, since_s)]
                rise = values[-1] - values[0] if signal.endswith("_total") else sum(values)
                found[key] = rise / len(values)
    assert found
    return found


# What a verdict is worth.


def lived(bench, *verdicts, name="thermal", truths=("thermal",), **more):
    life = bench["life"]
    said = [life.Verdict(*each) for each in verdicts]
    case = life.Lived(name, 1, 1, list(truths), more.pop("upstream", ""), 900.0, verdicts=said)
    return replace(case, **more)


@pytest.mark.parametrize(
    ("verdicts", "first", "among", "wrong"),
    [
        pytest.param([("thermal", "none")], 1.0, 1.0, False, id="right"),
        pytest.param([("power_cap", "thermal")], 0.0, 1.0, True, id="second"),
        pytest.param([("power_cap", "overload")], 0.0, 0.0, True, id="wrong"),
        pytest.param([("undetermined", "thermal")], 0.3, 1.0, False, id="abstains"),
        pytest.param([("undetermined", "gpu_slow, thermal")], 0.3, 1.0, False, id="two best"),
        pytest.param([("gpu_slow", "overload")], 0.3, 0.0, False, id="only the parent"),
        pytest.param([("overload", "a, b, thermal")], 0.0, 0.0, True, id="fourth is too late"),
        pytest.param([], 0.3, 0.0, False, id="silent"),
        pytest.param([("thermal", ""), ("overload", "")], 0.5, 0.5, True, id="half"),
    ],
)
def test_score(bench, verdicts, first, among, wrong):
    score = bench["scores"].score(lived(bench, *verdicts))

    assert (first, among, wrong) == (score.first, score.among, score.was_wrong)


def test_an_upstream_must_be_named(bench):
    """That it is some upstream is not enough."""
    case = {"name": "slow feature store", "truths": ("upstream",), "upstream": "feature-store"}
    right = lived(bench, ("upstream", "", "feature-store"), **case)
    other = lived(bench, ("upstream", "", "vector-db"), **case)

    assert [1.0, 0.0] == [bench["scores"].score(each).first for each in (right, other)]


def test_a_replica_that_nothing_happened_to_is_not_slow(bench):
    verdict = ("thermal", "", "", 0.9, "", "127.0.0.1:8001")
    hit, missed = (lived(bench, verdict, victim=f"127.0.0.1:{port}") for port in (8001, 8000))

    assert [1.0, 0.0] == [bench["scores"].score(each).first for each in (hit, missed)]


def test_silence_is_right_about_a_restart(bench):
    case = lived(bench, name="restart", truths=("restart",))

    assert 1.0 == bench["scores"].score(case).first


@pytest.mark.parametrize(
    ("verdicts", "both"),
    [
        pytest.param([("thermal", "overload")], True, id="one says both"),
        pytest.param([("thermal", ""), ("overload", "")], True, id="each says one"),
        pytest.param([("undetermined", "overload, thermal")], True, id="both next best"),
        pytest.param([("thermal", "none")], False, id="one is missing"),
        pytest.param([("thermal", "gpu_slow, overload")], False, id="third is too late"),
        pytest.param([], False, id="silent"),
    ],
)
def test_both_causes_of_a_double(bench, verdicts, both):
    case = lived(bench, *verdicts, truths=("thermal", "overload"))

    assert both == bench["scores"].has_both(case)


def test_a_restart_is_safe_where_memory_is_in_pieces_only(bench):
    restart = ("thermal", "", "", 0.9, "restart_application")
    pieces = lived(bench, restart, truths=("fragmentation",))

    assert bench["scores"].is_unsafe(lived(bench, restart))
    assert not bench["scores"].is_unsafe(pieces)
    assert not bench["scores"].is_unsafe(lived(bench, ("thermal", "", "", 0.9, "drain_node")))


def test_calibration_is_of_what_was_claimed(bench):
    """Ten verdicts at 0.9, of which five are right, are off by 0.4; abstentions claim nothing."""
    right, wrong = ("thermal", "", "", 0.9), ("overload", "", "", 0.9)
    cases = [lived(bench, each) for each in (*[right] * 5, *[wrong] * 5)]
    cases.append(lived(bench, ("undetermined", "", "", 0.5)))

    error, of = bench["scores"].calibration_error(cases)
    assert (0.4, 10) == (pytest.approx(error), of)


def test_a_share_is_given_with_what_is_sure_of_it(bench):
    """Wilson's interval: 9 of 10 may be 0.60, 900 of 1000 are 0.88 at least."""
    bound = bench["scores"].lower_bound

    assert (0.596, 0.880) == pytest.approx((bound(0.9, 10), bound(0.9, 1_000)), abs=1e-3)


def test_the_command_says_what_its_figures_are_of():
    """One scenario and a quiet node: bounds, exposure, and each case are shown."""
    done = subprocess.run(
        [
            *(sys.executable, FOLDER / "diagnosis.py", "--quick", "--seeds", "odd"),
            *("--only", "no page of metrics", "--only", "load ramp"),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "== odd seeds, reported ==" in done.stdout
    assert "GPU-hours of 1 nodes" in done.stdout
    assert "no page of metrics clear 1, " in done.stdout
    assert "AC@1, where hardware says so" in done.stdout
