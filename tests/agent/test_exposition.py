"""`/metrics`: what it says, byte by byte, and that others can read it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gpuward.agent.exposition import Exposition
from gpuward.agent.exposition_format import OPEN
from gpuward.agent.model import (
    ComponentHealth,
    Driver,
    Finding,
    Gpu,
    OpenFinding,
    Process,
    Result,
    Sample,
    SeriesKey,
    Snapshot,
    Subject,
)
from gpuward.agent.signals import SIGNALS, Scope

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden" / "agent_metrics.txt"
GPU = "GPU-3c0f2b5e-7a41-4d86-9e12-5b8d40a6c100"
PROCESS = "vllm@llama.service"
# Numbers that stand for words.
WITH_WORDS = {"gpu_limiter": 2.0, "gpu_load_verdict": 2.0}

EMPTY = Snapshot("n1", "boot-1", 1_000.0, 1_799_999_000.0, Driver(up=False))


def sample(signal, value=1.0, **about):
    return Sample(SeriesKey(signal, **about), 1_000.0, value)


def snapshot(*samples, **changes):
    by_key = MappingProxyType({sample.key: sample for sample in samples})
    return replace(EMPTY, samples=by_key, **changes)


def full_snapshot():
    """One series of every signal, one GPU, one finding, one part that failed."""
    about = {
        Scope.NODE: {},
        Scope.GPU: {"gpu": GPU},
        Scope.PROCESS: {"gpu": GPU, "process": PROCESS},
        Scope.SERVICE: {"service": "chat"},
        Scope.REPLICA: {"service": "chat", "endpoint": "127.0.0.1:8000"},
        Scope.UPSTREAM: {"endpoint": "vectors"},
    }
    samples = [
        sample(name, WITH_WORDS.get(name, float(len(name))), **about[signal.scope])
        for name, signal in SIGNALS.items()
    ]
    finding = Finding(
        "process.memory.fragmentation", Subject(gpu=GPU, process=PROCESS, service="chat"), "text"
    )
    return snapshot(
        *samples,
        driver=Driver(up=True, version="580.95.05"),
        gpus=(Gpu(GPU, 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0", serial="1652622031501"),),
        processes=(
            Process(
                PROCESS,
                4_242,
                99_000,
                (GPU,),
                unit=PROCESS,
                container="f3a9f3a9f3a9",
                engine="vllm",
                model="llama",
                service="chat",
                tapped=True,
                rank="TP0",
            ),
            Process("tritonserver", 4_343, 99_000, (GPU,), engine="triton"),
            # In no list of the driver's.
            Process("python3", 4_444, 99_000, tapped=True),
        ),
        open_findings=(OpenFinding("i-1", finding, 990.0, 995.0, 1_000.0, 6),),
        components=(
            ComponentHealth("sampler.kmsg", Result.UNKNOWN, "/dev/kmsg: Permission denied"),
            ComponentHealth("sampler.nvml", Result.OK),
        ),
    )


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_golden(golden):
    """Names, help, types, labels and order are a contract."""
    golden("agent_metrics.txt", Exposition().text(full_snapshot()))


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        pytest.param(Process("a", 7, 5, ("G",), tapped=True), ("tapped", ""), id="seen"),
        pytest.param(
            Process("b", 7, 5, ("G",), tapped=True),
            ("silent", "silent tap"),
            id="a tap that tells nothing new",
        ),
        pytest.param(
            Process("c", 7, 5, ("G",), tapped=True),
            ("degraded", "degraded tap"),
            id="a tap that must not ask",
        ),
        pytest.param(Process("b", 7, 5, ("G",)), ("blind", "no tap"), id="no tap"),
        pytest.param(
            Process("b", 7, 5, ("G",), engine="llama.cpp"), ("blind", "no torch"), id="C++"
        ),
    ],
)
def test_how_much_of_a_process_is_in_sight(process, expected):
    """Of the process that is called a, figures are fresh; the tap of c must not ask."""
    seen = sample("process_memory_reserved_bytes", gpu="G", process="a")
    degraded = sample("process_tap_degraded", gpu="G", process="c")
    text = Exposition().text(snapshot(seen, degraded, processes=(process,)))

    (found,) = families(text)["gpuward_process_info"].samples
    assert expected == (found.labels["coverage"], found.labels["reason"])


def test_of_a_process_beside_taps_that_may_not_be_read_nobody_says_that_it_has_none():
    unreadable = Sample(SeriesKey("node_taps_readable"), 100.0, 0.0)
    text = Exposition().text(snapshot(unreadable, processes=(Process("b", 7, 5, ("G",)),)))

    (found,) = families(text)["gpuward_process_info"].samples
    assert found.labels["reason"] == "taps unreadable"


def test_a_process_is_told_on_each_of_its_gpus():
    processes = (Process("a", 7, 5, ("G1", "G2"), rank="TP0"), Process("a", 8, 5, ("G1",)))
    text = Exposition().text(snapshot(processes=processes))

    found = families(text)["gpuward_process_info"].samples
    names = [(one.labels["gpu"], one.labels["rank"]) for one in found]
    assert [("G1", ""), ("G1", "TP0"), ("G2", "TP0")] == names


@pytest.mark.parametrize(
    ("pod_name", "namespace", "pod"),
    [
        pytest.param("serving/chat-0", "serving", "chat-0", id="as kubelet names it"),
        pytest.param("", "", "0f3c", id="else by its UID"),
    ],
)
def test_a_pod(pod_name, namespace, pod):
    process = Process("pod:0f3c", 7, 5, ("G1",), pod="0f3c", pod_name=pod_name)
    text = Exposition().text(snapshot(processes=(process,)))

    (found,) = families(text)["gpuward_process_info"].samples
    assert (namespace, pod) == (found.labels["namespace"], found.labels["pod"])


def test_a_restarted_process_is_the_same_series():
    """A pid in a label would make a new series of everything at each deploy."""
    before, after = (
        Exposition().text(snapshot(processes=(Process("a", pid, 5, ("G1",)),))) for pid in (7, 8)
    )
    together = tuple(Process("a", pid, 5, ("G1",)) for pid in (7, 8))

    assert before == after == Exposition().text(snapshot(processes=together))


@pytest.mark.parametrize(
    ("changes", "loudness"),
    [
        pytest.param({}, "ticket", id="as its kind"),
        pytest.param({"suppressed": True}, "store", id="a consequence"),
    ],
)
def test_a_finding_says_how_loud_it_is(changes, loudness):
    """An alert rule needs no list of kinds."""
    finding = Finding("gpu.pcie.replays", Subject(gpu=GPU), "text", result=Result.WARN)
    opened = OpenFinding("i-1", finding, 990.0, 995.0, 1_000.0, 6, **changes)
    text = Exposition().text(snapshot(open_findings=(opened,)))

    (found,) = families(text)["gpuward_finding_open"].samples
    assert loudness == found.labels["class"]


def test_the_order_is_not_that_of_arrival():
    """Two pages of one node differ in values alone."""
    samples = [
        sample("gpu_power_draw_watts", gpu="G2"),
        sample("gpu_memory_used_bytes", gpu="G2"),
        sample("gpu_power_draw_watts", gpu="G1"),
        sample("gpu_memory_used_bytes", gpu="G1"),
    ]

    pages = {Exposition().text(snapshot(*each)) for each in permutations(samples)}

    assert 1 == len(pages)


def test_openmetrics_as_its_own_parser_reads_it():
    """Families without _total and _info, units, the end; and every value as in the classic page."""
    page = Exposition(OPEN).text(full_snapshot(), "# EOF\n")
    read = {family.name: family for family in openmetrics_families(page)}

    energy = read["gpuward_gpu_energy_joules"]
    assert ("counter", "joules") == (energy.type, energy.unit)
    assert "info" == read["gpuward_gpu"].type
    assert ("gauge", "") == (read["gpuward_gpu_processes"].type, read["gpuward_gpu_processes"].unit)
    assert values(families(Exposition().text(full_snapshot()))) == values(read)


def values(read):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in read.values()
        for sample in family.samples
    }


@pytest.mark.debian
def test_promtool_has_nothing_to_say_of_the_golden_file():
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian package prometheus)")

    with GOLDEN.open("rb") as page:
        lint = subprocess.run(
            ["promtool", "check", "metrics"], stdin=page, capture_output=True, check=False
        )

    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


def test_prometheus_own_parser_reads_the_same_values():
    """The client library is the oracle of what was written by hand."""
    read = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(Exposition().text(full_snapshot())).values()
        for sample in family.samples
    }

    for key, written in full_snapshot().samples.items():
        labels = {"gpu": key.gpu, "process": key.process, "service": key.service}
        labels["replica" if key.service else "upstream"] = key.endpoint
        known = tuple(sorted((name, value) for name, value in labels.items() if value))
        assert read[(f"gpuward_{key.signal}", known)] == written.value


def test_an_agent_without_a_driver_says_that_it_is_down():
    """Also before anybody has looked: a missing line would look like a missing agent."""
    assert "\ngpuward_driver_up 0.0\n" in Exposition().text(EMPTY)


def test_what_is_not_sampled_is_absent():
    """Never 0."""
    assert families(Exposition().text(EMPTY)).keys() == {"gpuward_driver_up"}


nasty = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)


@given(st.sets(st.tuples(nasty, nasty), max_size=8))
def test_no_name_can_break_the_page(names):
    """Names of processes and GPUs come from outside: each comes back whole, or is replaced."""
    samples = [
        sample("process_gpu_memory_bytes", float(n), gpu=gpu, process=process)
        for n, (gpu, process) in enumerate(sorted(names))
    ]
    text = Exposition().text(snapshot(*samples))

    def valid(name):
        return name.encode("utf-8", "replace").decode()

    lines = [line for line in text.split("\n") if line.startswith("gpuward_process_gpu")]
    assert len(lines) == len(samples)
    if names and all("\\" not in name and "\r" not in name for pair in names for name in pair):
        read = [
            (s.labels["gpu"], s.labels["process"], s.value)
            for s in families(text)["gpuward_process_gpu_memory_bytes"].samples
        ]
        assert read == [
            (valid(gpu), valid(process), float(n)) for n, (gpu, process) in enumerate(sorted(names))
        ]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        pytest.param('say "hi"', r"say \"hi\"", id="quotes"),
        pytest.param("a\nb", r"a\nb", id="line break"),
        pytest.param("a\\b", r"a\\b", id="backslash"),
        pytest.param("a\udc80b", "a?b", id="not UTF-8"),
    ],
)
def test_labels_are_escaped(name, escaped):
    text = Exposition().text(snapshot(sample("process_gpu_memory_bytes", process=name)))

    assert f'gpuward_process_gpu_memory_bytes{{process="{escaped}"}} 1.0\n' in text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(0.0, "0.0", id="zero"),
        pytest.param(85_899_345_920.0, "85899345920.0", id="80 GiB"),
        pytest.param(1.98e9, "1980000000.0", id="a clock"),
        pytest.param(1e-5, "1e-05", id="microseconds"),
        pytest.param(1e22, "1e+22", id="large"),
    ],
)
def test_values_keep_every_digit(value, written):
    text = Exposition().text(snapshot(sample("gpu_sm_clock_hertz", value, gpu=GPU)))

    assert f'gpuward_gpu_sm_clock_hertz{{gpu="{GPU}"}} {written}\n' in text


SERIES = [
    (signal, {"gpu": gpu, "process": process})
    for signal in ("driver_up", "process_gpu_memory_bytes", "gpu_power_draw_watts")
    for gpu in ("", "GPU-1", "GPU-%r")
    for process in ("", "100%")
]


@given(st.lists(st.lists(st.tuples(st.sampled_from(SERIES), st.floats(-9, 9)), max_size=12)))
def test_page_after_page_says_what_is_in_its_own_snapshot(pages):
    """Series come, go and come back in any order: nothing of an earlier page is left."""
    exposition = Exposition()
    for page in pages:
        samples = [sample(signal, value, **about) for (signal, about), value in page]
        now = snapshot(*samples)

        text = exposition.text(now)

        assert text == Exposition().text(now)
        read = {
            (one.name, *sorted(one.labels.items())): one.value
            for family in families(text).values()
            for one in family.samples
        }
        expected = {
            (
                f"gpuward_{key.signal}",
                *((name, getattr(key, name)) for name in ("gpu", "process") if getattr(key, name)),
            ): one.value
            for key, one in now.samples.items()
            if key.signal != "driver_up"
        }
        shown = {key: value for key, value in read.items() if key[0] != "gpuward_driver_up"}
        assert shown == expected


# What a node may have: GPUs, processes that change their names and GPUs, and what is seen of them.
OF_GPUS = ((), (Gpu("GPU-1", 0, "H100", "1B"),), (Gpu("GPU-1", 0, "H100", "1B", serial="7"),))
OF_PROCESSES = (
    (),
    (Process("vllm", 7, 1, gpus=("GPU-1",)),),
    (Process("vllm", 7, 1, gpus=("GPU-1", "GPU-2"), tapped=True),),
    (Process("vllm", 7, 1, gpus=("GPU-1",), service="chat", tapped=True),),
)
OF_SERIES = (
    "process_memory_reserved_bytes",
    "process_tap_degraded",
    "gpu_power_draw_watts",
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(OF_GPUS),
            st.sampled_from(OF_PROCESSES),
            st.sets(st.sampled_from(OF_SERIES)),
        )
    )
)
def test_page_after_page_says_who_is_there_now(pages):
    """Whatever changes from one page to the next, alone or together with others."""
    exposition = Exposition()
    for gpus, processes, seen in pages:
        samples = [sample(name, gpu="GPU-1", process="vllm") for name in sorted(seen)]
        now = snapshot(*samples, gpus=gpus, processes=processes)

        assert Exposition().text(now) == exposition.text(now)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param((2, 2), ('limiter="memory_bandwidth"', 'verdict="saturated"'), id="words"),
        pytest.param((0, 0), ('limiter="none"', 'verdict="ok"'), id="nothing"),
        pytest.param((2, 99), None, id="a number without a word"),
        pytest.param((2, None), None, id="half told"),
    ],
)
def test_what_holds_a_gpu_back_is_told_in_words(numbers, expected):
    told = zip(("gpu_limiter", "gpu_load_verdict"), numbers, strict=True)
    samples = [sample(name, float(n), gpu=GPU) for name, n in told if n is not None]
    gpu = Gpu(GPU, 0, "NVIDIA H100", "1B:00.0")
    text = Exposition().text(snapshot(*samples, gpus=(gpu,)))
    lines = [line for line in text.split("\n") if line.startswith("gpuward_gpu_load_info{")]

    assert len(lines) == (expected is not None)
    assert all(words in line for line in lines for words in expected)


def test_checks_follow_what_is_fresh_and_what_is_supported():
    """The page keeps their text while nothing changes, and no longer."""
    exposition, gpu = Exposition(), Gpu(GPU, 0, "NVIDIA H100", "1B:00.0")
    hot = sample("gpu_memory_temperature_celsius", 60.0, gpu=GPU)
    lacks = replace(gpu, unsupported=frozenset({"gpu_memory_temperature_celsius"}))

    def state(*samples, gpus):
        text = exposition.text(snapshot(*samples, gpus=gpus))
        kind = f'gpuward_gpu_check{{gpu="{GPU}",kind="gpu.thermal.memory",state="'
        return text.partition(kind)[2].partition('"')[0]

    assert state(hot, gpus=(gpu,)) == "checked"
    assert state(gpus=(gpu,)) == "unknown"
    assert state(gpus=(lacks,)) == "unsupported"
