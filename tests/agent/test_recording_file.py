"""Recordings on disk: what was written comes back, however the file ends, whatever is in it."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from contextlib import suppress
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.maintenance import Maintenance
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Batch, Driver, Event, Gpu, Process, Sample, SeriesKey
from gpuward.agent.recording import Brought, Judged, RecordingError
from gpuward.agent.recording_file import RecordingFile, RecordingReader, RecordingWriter
from gpuward.agent.service_totals import ServiceTotals

POWER = SeriesKey("gpu_power_draw_watts", gpu="GPU-1")
EVERYTHING = Batch(
    samples=(
        Sample(POWER, 10.0, 70.5),
        Sample(SeriesKey("service_requests_total", service="chat"), 9.5, 1e9),
        Sample(SeriesKey("endpoint_up", service="chat", endpoint="a:1"), 10.0, 1.0),
    ),
    events=(
        Event(
            "gpu.xid", 9.0, "boot 17", 79, "GPU-1", "p", 42, "text", MappingProxyType({"a": 1.0})
        ),
    ),
    gpus=(
        Gpu(
            "GPU-1",
            0,
            "H100",
            "1B",
            "165",
            frozenset({"gpu_x", "gpu_y"}),
            (MigDevice("MIG-1", 2, 0),),
        ),
    ),
    processes=(
        Process("p", 42, 7, ("GPU-1",), "u", "pod", "c", "vllm", "m", "chat", True, "TP0", "a:1"),
    ),
    services=(ServiceTotals("chat", "a:1", 1.0, 2.0, 3, 4, 5, 6, 7, True, 8, 9),),
    driver=Driver(
        up=True,
        version="580",
        waiting_gpu="GPU-1",
        lost=(LostGpu(0, 15, "GPU-1", "text"),),
        denied=("nvmlX",),
        maintenance=Maintenance(1.0, 2.0, "why", is_release=True),
    ),
)


def written(*moments, node="n1", **options):
    """Return a file of moments: a float is a judgement, a pair a batch."""
    file = io.BytesIO()
    with RecordingWriter(file, node=node, mono_s=0.0, wall_s=1_800_000_000.0, **options) as writer:
        for moment in moments:
            if isinstance(moment, float):
                writer.tick(moment)
            else:
                writer.take(*moment)
    return file.getvalue()


def read(data):
    reader = RecordingReader(io.BytesIO(data))
    return list(reader), reader


def test_all_of_a_batch_comes_back():
    moments, reader = read(written((10.0, "nvml", EVERYTHING), 10.5))

    assert moments == [Brought(10.0, "nvml", EVERYTHING), Judged(10.5, 0)]
    assert (reader.damage, reader.passed_over) == ("", 0)
    assert (reader.begun.node, reader.begun.wall_offset_s) == ("n1", 1_800_000_000.0)


def test_a_batch_of_nothing_is_not_one_that_was_not_said():
    """An inventory that is empty replaces one; one that is not there leaves it."""
    empty = Batch(gpus=(), processes=(), services=())
    moments, _ = read(written((1.0, "a", Batch()), (2.0, "b", empty)))

    assert [moment.batch for moment in moments] == [Batch(), empty]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["gpu_power_draw_watts", "service_requests_total", "endpoint_up"]),
            st.text(max_size=8),
            st.floats(0, 1e6),
            st.floats(allow_nan=False),
        ),
        max_size=20,
    ),
    st.integers(1, 5),
)
def test_samples_come_back(rows, times):
    batch = Batch(
        samples=tuple(
            Sample(SeriesKey(signal, service=who), at_s, value) for signal, who, at_s, value in rows
        )
    )
    with suppress(UnicodeEncodeError):
        moments, _ = read(written(*[(float(n), "s", batch) for n in range(times)]))
        assert [moment.batch for moment in moments] == [batch] * times


def test_many_samples_of_many_series():
    """A batch is cut into pieces, the table of names is begun anew when it is full."""
    batches = [
        Batch(
            samples=tuple(
                Sample(POWER._replace(gpu=f"GPU-{turn}-{n}"), float(turn), float(n))
                for n in range(10_000)
            )
        )
        for turn in range(8)
    ]
    moments, reader = read(written(*[(float(n), "s", batch) for n, batch in enumerate(batches)]))
    together = [sample for moment in moments for sample in moment.batch.samples]

    assert reader.damage == ""
    assert sorted(together) == sorted(sample for batch in batches for sample in batch.samples)


def story(seconds=60):
    chance = random.Random(3)
    moments = []
    for second in range(seconds):
        samples = tuple(
            Sample(POWER._replace(gpu=f"GPU-{n}"), float(second), chance.uniform(60, 700))
            for n in range(8)
        )
        moments += [(float(second), "nvml", Batch(samples=samples)), second + 0.5]
    return moments


def test_a_file_that_was_cut_off_gives_what_was_whole():
    """At every byte; nothing that it gives is other than it was."""
    data = written(*story(600))
    whole, _ = read(data)
    first = 26 + struct.unpack_from("<I", data, 18)[0]
    for length in range(0, len(data) - 1, 97):
        try:
            moments, reader = read(data[:length])
        except RecordingError:
            assert length < first
        else:
            assert moments == whole[: len(moments)]
            assert reader.damage, length


def test_a_file_that_only_lacks_its_end_says_so():
    file = io.BytesIO()
    writer = RecordingWriter(file, node="n1", mono_s=0.0, wall_s=1.0)
    writer.tick(1.0)
    writer._flush()
    moments, reader = read(file.getvalue())

    assert (len(moments), reader.damage) == (1, "it was cut off")


@given(st.data())
def test_a_damaged_file_gives_an_error_or_what_was_before(data):
    good = written(*story(5))
    whole, _ = read(good)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    try:
        moments, reader = read(bytes(bad))
    except RecordingError:
        return

    assert moments == whole[: len(moments)]
    assert reader.damage


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes(content, has_magic):
    data = (b"gpuward recording\n" if has_magic else b"") + content
    with suppress(RecordingError):
        read(data)


def frame(chunk, *, compress=True):
    payload = zlib.compress(chunk) if compress else chunk
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


BEGUN = ["begun", 1, "0.1", "n1", 0.0, 1.0, True]
SERIES = ["series", 0, [["gpu_power_draw_watts", "GPU-1"]]]


def of_records(*records):
    return b"gpuward recording\n" + frame(msgspec.msgpack.encode([*records]))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**40), 2**40)
        | st.floats()
        | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=6),
        max_leaves=25,
    ),
    st.sampled_from(["begun", "series", "taken", "judged", "ended"]),
)
def test_any_records_behind_a_good_checksum(rest, kind):
    """Somebody who knows the format."""
    record = [kind, *(rest if isinstance(rest, list) else [rest])]
    with suppress(RecordingError):
        for moment in read(of_records(BEGUN, SERIES, record))[0]:
            assert moment.at_s < float("inf")


@pytest.mark.parametrize(
    ("records", "damage"),
    [
        pytest.param([["taken", 1.0, "s", [1], [1.0], [2.0]]], "no name", id="no such series"),
        pytest.param([["taken", 1.0, "s", [-1], [1.0], [2.0]]], "no name", id="below 0"),
        pytest.param([["taken", 1.0, "s", [0], [1.0], []]], "lengths", id="a value is missing"),
        pytest.param([["taken", 1.0, "s", [0], [1.0, 2.0], [1.0]]], "lengths", id="times"),
        pytest.param([["judged", 2.0, 0], ["judged", 1.0, 1]], "backwards", id="backwards"),
        pytest.param([["judged", float("nan"), 0]], "backwards", id="no time"),
        pytest.param([["judged", float("inf"), 0]], "backwards", id="never"),
        pytest.param([["series", 2, []]], "gap", id="a gap between names"),
        pytest.param([["series", 0, [["a"]] * 65_537]], "65536 series", id="too many names"),
        pytest.param([["judged", "x", 0]], "not records", id="a word for a time"),
        pytest.param([["future", 1]], "not records", id="a kind of record that is not known"),
    ],
)
def test_records_that_cannot_be(records, damage):
    begun = of_records(BEGUN, SERIES, ["judged", 0.5, 0])
    moments, reader = read(begun + frame(msgspec.msgpack.encode(records)))

    assert len(moments) <= 2
    assert damage in reader.damage


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "no recording", id="empty"),
        pytest.param(b"gpuward recording\n", "empty", id="nothing in it"),
        pytest.param(b"PK\x03\x04" * 9, "no recording", id="another file"),
        pytest.param(of_records(["judged", 1.0, 0]), "whom|who", id="of nobody"),
        pytest.param(of_records(["begun", 2, *BEGUN[2:]]), "version 2", id="a newer version"),
        pytest.param(of_records([*BEGUN[:4], float("nan"), 1.0, True]), "clock", id="no clock"),
    ],
)
def test_no_recording(data, reason):
    with pytest.raises(RecordingError, match=reason):
        read(data)


def test_signals_and_kinds_of_other_versions_are_counted_and_passed_over():
    series = ["series", 0, [["gpu_power_draw_watts"], ["gpu_of_tomorrow"]]]
    event = {"kind": "gpu.of_tomorrow", "at_s": 1.0, "identity": "x"}
    taken = ["taken", 1.0, "s", [0, 1], [1.0], [2.0, 3.0], [event]]
    moments, reader = read(of_records(BEGUN, series, taken, ["ended", 1.0]))

    assert [s.key.signal for s in moments[0].batch.samples] == ["gpu_power_draw_watts"]
    assert moments[0].batch.events == ()
    assert (reader.passed_over, reader.damage) == (2, "")


def test_fields_that_a_later_version_adds_are_passed_over():
    moments, reader = read(of_records([*BEGUN, "more"], ["judged", 1.0, 0, 7], ["ended", 1.0, 8]))

    assert (moments, reader.damage) == ([Judged(1.0, 0)], "")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(bytes(64 << 20)), id="64 MiB of zeros in 64 KiB"),
        pytest.param(struct.pack("<II", 0xFFFFFFFF, 0) + b"x" * 100, id="a frame of 4 GiB"),
        pytest.param(frame(b"\x91" * 100_000), id="nested a hundred thousand times"),
        pytest.param(frame(b"\xdd\xff\xff\xff\xff"), id="four billion records"),
        pytest.param(frame(b"no zlib", compress=False), id="not compressed"),
    ],
)
def test_hostile_frames_cost_a_few_mib(data):
    tracemalloc.start()
    with pytest.raises(RecordingError):
        read(b"gpuward recording\n" + data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 40 << 20


def test_a_chunk_that_no_reader_would_take_is_not_written():
    with pytest.raises(ValueError, match="limit"):
        RecordingFile(io.BytesIO()).write(bytes(17 << 20))


NAMES = (
    "GPU-1",
    "165",
    "p",
    "pod",
    "chat",
    "a",
    "n1",
    "boot 17",
    "text",
    "why",
    "MIG-1",
    "u",
    "c",
    "m",
)


def test_without_names_nothing_is_left_that_somebody_named():
    """Figures, kinds, codes and pids are."""
    data = written((10.0, "nvml", EVERYTHING), node="gpu-node-1.example.com", with_names=False)
    (moment,), reader = read(data)
    (gpu,), (process,), (event,) = moment.batch.gpus, moment.batch.processes, moment.batch.events
    samples = {sample.key.signal: sample for sample in moment.batch.samples}

    assert reader.begun.node == "host-1"
    assert not reader.begun.with_names
    assert (gpu.uuid, gpu.serial, gpu.name, gpu.mig[0].uuid) == (
        "GPU-1",
        "serial-1",
        "H100",
        "MIG-1",
    )
    assert process == Process(
        *("process-1", 42, 7, ("GPU-1",), "unit-1", "pod-1", "container-1", "vllm", "model-1"),
        *("service-1", True, "TP0", "host-2:1"),
    )
    assert (event.code, event.gpu, event.process, event.pid) == (79, "GPU-1", "process-1", 42)
    assert (event.text, event.values) == ("", {"a": 1.0})
    assert samples["endpoint_up"].key.endpoint == "host-2:1"
    assert moment.batch.services[0].instance == "host-2:1"
    assert moment.batch.driver.lost[0].text == ""
    assert moment.batch.driver.maintenance.reason == "planned"


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=12, max_size=20),
        min_size=9,
        max_size=9,
        unique=True,
    )
)
def test_no_name_is_anywhere_in_the_file(names):
    uuid, key, pod, model, service, host, unit, upstream, node = names
    about = SeriesKey("endpoint_up", service=service, endpoint=f"{host}:80")
    batch = Batch(
        samples=(
            Sample(SeriesKey("gpu_power_draw_watts", gpu=uuid, process=key), 1.0, 1.0),
            Sample(about, 1.0, 1.0),
            Sample(SeriesKey("upstream_up", endpoint=upstream), 1.0, 1.0),
        ),
        events=(Event("gpu.xid", 1.0, f"{node} {key}", gpu=uuid, process=key, text=model),),
        gpus=(Gpu(uuid, 0, "H100", "1B", serial=node),),
        processes=(Process(key, 1, 1, (uuid,), unit=unit, pod=pod, model=model, service=service),),
        driver=Driver(up=False, reason=host, waiting_gpu=uuid),
    )
    data = written((1.0, "s", batch), node=node, with_names=False)
    inflated = zlib.decompress(data[len(b"gpuward recording\n") + 8 :])

    assert [name for name in names if name.encode() in inflated] == []
    assert len(read(data)[0]) == 1


def test_the_same_name_is_always_the_same():
    batch = Batch(samples=(Sample(POWER, 1.0, 1.0), Sample(POWER._replace(gpu="GPU-2"), 1.0, 2.0)))
    moments, _ = read(written((1.0, "s", batch), (2.0, "s", batch), with_names=False))
    first, second = ([s.key.gpu for s in moment.batch.samples] for moment in moments)

    assert first == second == ["GPU-1", "GPU-2"]
