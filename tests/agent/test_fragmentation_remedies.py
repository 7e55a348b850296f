"""What is advised to a process that lacks memory, what it wins, and what is never advised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.fragmentation_cache import Cache
from gpuward.agent.fragmentation_remedies import action, remedies, utilization_change
from gpuward.agent.kv_room import KvRoom
from gpuward.agent.memory_around import Around, around, facts
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Action, Gpu, Sample, SeriesKey, Subject
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 1_000.0
# A block of 2 MiB that is known, and one of which only the most is known.
EXACT = KvRoom(10_000, 2 * MIB, is_exact=True, block_tokens=16, usage_ratio=0.5, request_blocks=64)
AT_MOST = KvRoom(10_000, 2 * MIB, is_exact=False)


def cache(**facts):
    """A cache of 40 GiB with room for everything, in one piece."""
    known = {
        "at_s": NOW,
        "reserved": 40 * GIB,
        "stranded": 0.0,
        "releasable": 0.0,
        "expandable": False,
        "headroom": 30 * GIB,
        "mean_request": GIB,
        "headroom_ratio": 30.0,
        "lasting_ratio": 30.0,
        "retries": 0.0,
        "oom": None,
    }
    return Cache(**(known | facts))


def advised(facts=None, **known):
    """Return what is advised and the GiB that each wins."""
    found = remedies(cache(**facts or {}), Around(**known))
    return {
        one.name.removeprefix("remedy_").removesuffix("_bytes"): one.value / GIB
        for one in found
        if one.name.startswith("remedy_")
    }


PIECES = {"stranded": 4 * GIB}
AGAINST_PIECES = {"restart": 4, "expandable_segments": 4, "max_split_size": 4, "roundup": 4}


@pytest.mark.parametrize(
    ("facts", "known", "expected"),
    [
        pytest.param({}, {}, {}, id="nothing is wrong"),
        pytest.param(PIECES, {}, AGAINST_PIECES, id="in pieces"),
        pytest.param(PIECES | {"expandable": True}, {}, {"restart": 4}, id="expandable already"),
        pytest.param(
            PIECES,
            {"max_split_size": 64 * MIB, "roundup_divisions": 8},
            {"restart": 4, "expandable_segments": 4},
            id="what is set already is not advised",
        ),
        pytest.param(
            {"stranded": 2 * GIB - 1},
            {"private_pool": GIB, "is_walked": False},
            {},
            id="graphs will take it again",
        ),
        pytest.param(
            {"stranded": 2 * GIB},
            {"private_pool": GIB, "is_walked": False},
            dict.fromkeys(AGAINST_PIECES, 1),
            id="of what is stranded beside graphs a GiB is enough",
        ),
        pytest.param(
            {"stranded": 2 * GIB},
            {"private_pool": GIB},
            dict.fromkeys(AGAINST_PIECES, 2),
            id="a walk left out what is in graphs' pools",
        ),
        pytest.param(
            {"stranded": 3 * GIB - 1, "expandable": True},
            {"is_walked": False},
            {},
            id="5 % of an expandable cache that nobody walked are a guess",
        ),
        pytest.param(
            {"stranded": 3 * GIB, "expandable": True},
            {"is_walked": False},
            {"restart": 1},
            id="more than a guess",
        ),
        pytest.param(
            {"stranded": 0.1 * GIB, "releasable": 0.15 * GIB, "expandable": True},
            {"max_split_size": MIB},
            {"without_max_split_size": 0.25},
            id="the pair that grows without bound",
        ),
        pytest.param(
            {"stranded": 0.1 * GIB, "releasable": 0.149 * GIB, "expandable": True},
            {"max_split_size": MIB},
            {},
            id="the pair, not grown yet",
        ),
        pytest.param({"releasable": GIB / 4}, {}, {"empty_cache": 0.25}, id="a full cache"),
        pytest.param({"releasable": GIB / 4 - 1}, {}, {}, id="not worth a stall"),
        pytest.param(
            {},
            {"roundup_divisions": 4, "rounding_waste_ratio": 0.05, "active": 10 * GIB},
            {"roundup": 0.5},
            id="rounding that was asked for",
        ),
        pytest.param(
            {},
            {"roundup_divisions": 4, "rounding_waste_ratio": 0.049, "active": 10 * GIB},
            {},
            id="little of it",
        ),
        pytest.param(
            {},
            {"roundup_divisions": 4, "rounding_waste_ratio": 0.05, "active": 4.9 * GIB},
            {},
            id="a large share of little",
        ),
        pytest.param(
            {},
            {"rounding_waste_ratio": 0.05, "active": 10 * GIB},
            {},
            id="rounding that nobody asked for cannot be taken away",
        ),
    ],
)
def test_what_is_advised(facts, known, expected):
    assert pytest.approx(expected) == advised(facts, **known)


LITTLE_ROOM = {"headroom": 20 * GIB, "headroom_ratio": 20.0}


@pytest.mark.parametrize(
    ("facts", "known", "expected"),
    [
        pytest.param({"headroom": 24 * GIB}, {"neighbours": GIB}, {}, id="room for 24 requests"),
        pytest.param(
            {"headroom": 24 * GIB - GIB / 4}, {}, {"more_memory": 0.25}, id="a little less"
        ),
        pytest.param({"headroom": None}, {"neighbours": GIB}, {}, id="the driver is silent"),
        pytest.param({"mean_request": None}, {}, {}, id="nothing large is asked for"),
        pytest.param(
            LITTLE_ROOM,
            {"neighbours": 3 * GIB},
            {"fewer_neighbours": 3, "more_memory": 4},
            id="neighbours hold some",
        ),
        pytest.param(
            LITTLE_ROOM,
            {"neighbours": GIB / 4 - 1},
            {"more_memory": 4},
            id="contexts of neighbours",
        ),
        pytest.param(
            LITTLE_ROOM | PIECES, {}, AGAINST_PIECES, id="in one piece it would be enough"
        ),
        pytest.param(
            LITTLE_ROOM | {"stranded": 3 * GIB},
            {},
            {"more_memory": 4} | dict.fromkeys(AGAINST_PIECES, 3),
            id="in one piece it would not",
        ),
    ],
)
def test_what_is_advised_where_room_is_missing(facts, known, expected):
    assert pytest.approx(expected) == advised(facts, **known)


@pytest.mark.parametrize(
    ("neighbours", "expected"),
    [pytest.param(4, "more room by 4.00 GiB, enough", id="4"), (3.99, "3.99 GiB, not enough")],
)
def test_whether_neighbours_hold_enough(neighbours, expected):
    found = remedies(cache(**LITTLE_ROOM), Around(neighbours=neighbours * GIB))

    assert any(expected in one.text for one in found)


@pytest.mark.parametrize(
    ("facts", "known", "expected"),
    [
        pytest.param({"stranded": GIB}, {}, Action.RESTART_APPLICATION, id="a GiB stranded"),
        pytest.param({"stranded": GIB - 1}, {}, Action.CHECK_APPLICATION, id="less, of a lot"),
        pytest.param(
            {"stranded": GIB / 4, "reserved": 5 * GIB},
            {},
            Action.RESTART_APPLICATION,
            id="5 % of little",
        ),
        pytest.param(
            {"stranded": GIB},
            {"private_pool": 1.0, "is_walked": False},
            Action.CHECK_APPLICATION,
            id="in graphs' pools",
        ),
        pytest.param({"releasable": 9 * GIB}, {}, Action.CHECK_APPLICATION, id="a full cache"),
    ],
)
def test_no_restart_where_it_would_win_little(facts, known, expected):
    assert expected is action(cache(**facts), Around(**known))


SIZES = st.floats(0, 80 * GIB)


KNOWN = st.builds(
    Around,
    private_pool=SIZES,
    is_walked=st.booleans(),
    max_split_size=st.sampled_from([None, 64.0 * MIB]),
)


@given(SIZES, SIZES, st.booleans(), KNOWN)
def test_nothing_wins_more_than_there_is(stranded, releasable, expandable, known):
    """And a restart is the action exactly where it is a remedy."""
    facts = cache(stranded=stranded, releasable=releasable, expandable=expandable)
    found = {one.name: one.value for one in remedies(facts, known)}

    assert all(value <= stranded + releasable for value in found.values())
    assert ("remedy_restart_bytes" in found) is (action(facts, known) is Action.RESTART_APPLICATION)
    assert not expandable or "remedy_expandable_segments_bytes" not in found


def text_of(name, known, facts=PIECES):
    return next(one.text for one in remedies(cache(**facts), known) if one.name == name)


def test_what_it_means_for_the_service():
    """4 GiB are 2,048 blocks of 2 MiB, of 16 tokens each; a request that runs holds 64."""
    assert text_of("remedy_expandable_segments_bytes", Around(room=EXACT)).endswith(
        "up to 4.00 GiB; given to the KV cache 2,048 KV blocks, 32,768 tokens,"
        " 32.0 requests like those that run now."
    )


def test_a_bound_is_told_as_one():
    assert text_of("remedy_expandable_segments_bytes", Around(room=AT_MOST)).endswith(
        "given to the KV cache at least 2,048 KV blocks."
    )


def test_what_is_unknown_is_said():
    found = list(remedies(cache(**PIECES), Around()))

    assert "remedies_in_kv_blocks" == found[-1].name
    assert "unknown" in found[-1].text
    assert [] == list(remedies(cache(), Around()))


@pytest.mark.parametrize("name", ["restart", "empty_cache"])
def test_what_does_not_grow_the_kv_cache_does_not_say_so(name):
    """Its size is fixed at the start, and by the share of the GPU, not by what is free."""
    facts = PIECES | {"releasable": GIB}

    assert "KV" not in text_of(f"remedy_{name}_bytes", Around(room=EXACT), facts)


def changed(facts, *, engine="vllm", total=80 * GIB, **known):
    found = utilization_change(cache(**facts), total, engine, Around(**known))
    return {one.name: one for one in found}


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        pytest.param(0.0, None, id="nothing is missing"),
        pytest.param(0.79, -0.01, id="just below a hundredth of 80 GiB"),
        pytest.param(0.81, -0.02, id="just above"),
    ],
)
def test_how_much_lower_the_share_has_to_be(missing, expected):
    found = changed({"headroom": (24 - missing) * GIB}).get("gpu_memory_utilization_change")

    assert expected == (found and found.value)


@pytest.mark.parametrize(
    ("limit", "safe"),
    [
        pytest.param(0.9, 0.84, id="now 0.90"),
        pytest.param(None, None, id="nobody says what it is now"),
    ],
)
def test_the_safe_share(limit, safe):
    """4 GiB of 80 are missing: 0.05, and a hundredth to be safe."""
    found = changed(LITTLE_ROOM, utilization_limit=limit)

    assert safe == (
        found["gpu_memory_utilization_safe"].value
        if "gpu_memory_utilization_safe" in found
        else None
    )
    assert found["gpu_memory_utilization_change"].value == -0.06


@pytest.mark.parametrize(
    ("limit", "is_advised"), [pytest.param(0.07, True, id="left"), pytest.param(0.06, False)]
)
def test_a_share_of_nothing_is_not_advised(limit, is_advised):
    assert bool(changed(LITTLE_ROOM, utilization_limit=limit)) is is_advised


@pytest.mark.parametrize(
    ("engine", "total"),
    [pytest.param("sglang", 80 * GIB, id="no other engine"), pytest.param("vllm", None, id="size")],
)
def test_where_no_share_can_be_told(engine, total):
    assert changed(LITTLE_ROOM, engine=engine, total=total) == {}


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        # 4.8 GiB are 2,457.6 of 10,000 blocks.
        pytest.param(0.754, " What is in use now still fits.", id="fits"),
        pytest.param(0.755, " What is in use now does not fit in it.", id="does not"),
    ],
)
def test_whether_what_runs_still_fits(usage, words):
    room = KvRoom(10_000, 2 * MIB, is_exact=True, usage_ratio=usage)
    text = changed(LITTLE_ROOM, room=room)["gpu_memory_utilization_change"].text

    assert text.endswith(f"loses 4.8 GiB, 2,457 KV blocks of 10,000.{words}")


def test_of_a_bound_nobody_knows_whether_what_runs_fits():
    room = KvRoom(10_000, 2 * MIB, is_exact=False, usage_ratio=0.1)
    text = changed(LITTLE_ROOM, room=room)["gpu_memory_utilization_change"].text

    assert text.endswith("at least 2,457 KV blocks of 10,000.")


def test_around():
    """Settings and pools of the process, and what others hold on its GPU."""

    def series(signal, value, process="vllm:llama", gpu="GPU-1", at_s=NOW):
        return Sample(SeriesKey(signal, gpu=gpu, process=process), at_s, value)

    window = Window.of(
        [
            series("process_memory_private_pool_bytes", 1),
            series("process_memory_rounding_waste_ratio", 0.2),
            series("process_memory_active_bytes", 3),
            series("process_memory_roundup_divisions", 4),
            series("process_memory_max_split_size_bytes", 5),
            series("process_gpu_memory_utilization_limit_ratio", 0.6),
            series("process_memory_private_pool_free_bytes", 0.5),
            series("process_memory_unusable_free_ratio", 0.7),
            series("process_gpu_memory_bytes", 50),
            series("process_gpu_memory_bytes", 7, process="a"),
            series("process_gpu_memory_bytes", 8, process="b"),
            series("process_gpu_memory_bytes", 16, process="b", gpu="GPU-2"),
        ],
        now_s=NOW,
    )
    subject = Subject(gpu="GPU-1", process="vllm:llama")

    assert [(one.name, one.value, one.unit) for one in facts(window, subject)] == [
        ("process_memory_private_pool_bytes", 1, "bytes"),
        ("process_memory_unusable_free_ratio", 0.7, "ratio"),
        ("process_memory_rounding_waste_ratio", 0.2, "ratio"),
    ]
    assert around(window, cache(), subject) == Around(
        private_pool=0.5,
        rounding_waste_ratio=0.2,
        active=3,
        roundup_divisions=4,
        max_split_size=5,
        is_walked=True,
        neighbours=15,
        utilization_limit=0.6,
    )
    assert not around(window, cache(at_s=NOW + 1), subject).is_walked


def test_all_of_the_graphs_pools_counts_until_somebody_looked():
    key = SeriesKey("process_memory_private_pool_bytes", gpu="GPU-1", process="a")
    window = Window.of([Sample(key, NOW, 3.0)], now_s=NOW)
    known = around(window, cache(), Subject(gpu="GPU-1", process="a"))

    assert (known.private_pool, known.is_walked) == (3.0, False)


@pytest.mark.parametrize(
    ("mig", "neighbours"),
    [
        pytest.param((), 7, id="a card of several"),
        pytest.param((MigDevice("MIG-1", 1, 0),), 0, id="a slice of its own"),
    ],
)
def test_slices_share_no_memory(mig, neighbours):
    key = SeriesKey("process_gpu_memory_bytes", gpu="GPU-1", process="b")
    card = Gpu("GPU-1", 0, "H100", "0", mig=mig)
    window = Window.of([Sample(key, NOW, 7.0)], now_s=NOW, gpus=[card])
    known = around(window, cache(), Subject(gpu="GPU-1", process="a"))

    assert (known.neighbours, known.is_sliced) == (neighbours, bool(mig))


def test_the_share_of_a_slice_is_not_told_in_shares_of_the_card():
    assert changed(LITTLE_ROOM, is_sliced=True) == {}
