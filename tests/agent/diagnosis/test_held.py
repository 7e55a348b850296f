"""Which cause is named while the answer changes: the one that was, within a margin and a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.diagnosis.evidence import ITEMS
from gpuward.agent.diagnosis.held import begun, settled
from gpuward.agent.diagnosis.hypotheses import HYPOTHESES
from gpuward.agent.diagnosis.numbers import NAMES, NUMBERS
from gpuward.agent.diagnosis.seen import UNKNOWN, Presence, Seen
from gpuward.agent.diagnosis.verdict import holding, weigh

PRESENT, ABSENT = Seen(Presence.PRESENT), Seen(Presence.ABSENT)
DOCUMENT = Path(__file__).parents[3] / "docs" / "prometheus.md"
NOTHING_KNOWN = dict.fromkeys(ITEMS, UNKNOWN)


def verdict(**seen):
    return weigh(NOTHING_KNOWN | seen)


def share(strength):
    return Seen(Presence.PRESENT, strength=strength)


# Longer prompts weigh 25, a slow upstream 22 at most; neither is vouched for by a datasheet.
def prompts_and_upstream(prompts, upstream):
    return verdict(prompts_longer=share(prompts / 25), upstream_slow=share(upstream / 22))


def named_over_time(held, verdicts, every_s=5.0):
    """Return what is named look after look."""
    names = []
    for place, each in enumerate(verdicts):
        held = settled(held, each, 1_000.0 + every_s * place)
        names.append(held.name)
    return names


UPSTREAM_LEADS = prompts_and_upstream(15, 22)


@pytest.mark.parametrize(
    ("prompts", "upstream", "stays"),
    [
        pytest.param(20, 19, True, id="it leads"),
        pytest.param(15, 20.9, True, id="the other leads by less than the margin"),
        pytest.param(15, 21.1, False, id="by more"),
        pytest.param(8.1, 0, True, id="hardly any evidence, within the margin of enough"),
        pytest.param(7.9, 0, False, id="less"),
    ],
)
def test_another_needs_a_margin_and_a_minute(prompts, upstream, stays):
    first = begun("input_anomaly", prompts_and_upstream(25, 0))
    names = named_over_time(first, [prompts_and_upstream(prompts, upstream)] * 20)

    assert names[:12] == ["input_anomaly"] * 12
    assert set(names[12:]) == {"input_anomaly" if stays else weigh_of(prompts, upstream)}


def weigh_of(prompts, upstream):
    return prompts_and_upstream(prompts, upstream).name


@pytest.mark.parametrize(
    ("seconds", "name"),
    [pytest.param(55, "input_anomaly", id="55 s"), pytest.param(60, "upstream", id="60 s")],
)
def test_how_long_it_must_lead(seconds, name):
    first = begun("input_anomaly", prompts_and_upstream(25, 0))
    looks = [UPSTREAM_LEADS] * (seconds // 5 + 1)

    assert named_over_time(first, looks)[-1] == name


def test_one_look_in_between_begins_the_time_anew():
    first = begun("input_anomaly", prompts_and_upstream(25, 0))
    looks = [UPSTREAM_LEADS] * 11 + [prompts_and_upstream(22, 22)] + [UPSTREAM_LEADS] * 12

    assert set(named_over_time(first, looks)) == {"input_anomaly"}


def test_two_that_change_places_at_every_look_are_not_named_in_turn():
    looks = [prompts_and_upstream(20, 22), prompts_and_upstream(22, 20)] * 30

    assert set(named_over_time(begun("upstream", looks[0]), looks)) == {"upstream"}
    assert {each.name for each in looks} == {"upstream", "input_anomaly"}


def test_new_hard_evidence_does_not_wait():
    heat = verdict(heat_slowdown=PRESENT)
    fault = verdict(heat_slowdown=PRESENT, memory_fails=PRESENT)

    assert named_over_time(begun("thermal", heat), [heat, fault]) == ["thermal", "gpu_fault"]


@pytest.mark.parametrize(
    ("looks", "name"),
    [pytest.param(6, "gpu_fault", id="30 s old"), pytest.param(7, "thermal", id="older")],
)
def test_what_has_been_there_for_long_is_not_new(looks, name):
    """An error of a minute ago that begins to lead by a little is no news."""
    before = verdict(
        heat_slowdown=PRESENT, memory_fails=PRESENT, clock_low=PRESENT, probe_clock_low=PRESENT
    )
    after = verdict(heat_slowdown=PRESENT, memory_fails=PRESENT)
    assert (before.name, after.name) == ("thermal", "gpu_fault")
    first = begun("thermal", verdict(heat_slowdown=PRESENT))

    assert named_over_time(first, [before] * looks + [after])[-1] == name


def test_hard_evidence_that_was_there_at_first_is_not_new():
    both = verdict(heat_slowdown=PRESENT, memory_fails=PRESENT)

    assert named_over_time(begun("thermal", both), [both]) == ["thermal"]


def test_what_is_ruled_out_is_not_held():
    """Without its gate nothing is named, not even for a moment."""
    gone = verdict(heat_slowdown=ABSENT, upstream_slow=PRESENT)

    assert named_over_time(begun("thermal", verdict(heat_slowdown=PRESENT)), [gone]) == ["upstream"]


def test_not_knowing_is_not_held():
    assert named_over_time(begun("undetermined", verdict()), [UPSTREAM_LEADS]) == ["upstream"]


def test_what_is_held_is_as_sure_as_the_evidence_for_it():
    """The name stays, the confidence is the truth: here that of two equals, and of one."""
    tied = verdict(queueing=PRESENT, kv_cache_full=PRESENT, batch_full=PRESENT)
    weaker = tied.ranked[1].name

    assert holding(tied, weaker).name == weaker
    assert holding(tied, weaker).confidence < tied.confidence
    assert holding(tied, "thermal") is tied


def test_numbers_are_those_of_recordings():
    """They are frozen: a series of last year's recording means what it meant."""
    assert set(NUMBERS) == {each.name for each in HYPOTHESES} | {"undetermined"}
    assert len(NAMES) == len(NUMBERS)
    assert [NUMBERS[name] for name in ("undetermined", "thermal", "overload", "clock_skew")] == [
        *(0, 4, 16, 21),
    ]


def test_the_numbers_are_in_the_document():
    words = " ".join(DOCUMENT.read_text().split())

    assert ", ".join(f"{number} `{name}`" for name, number in NUMBERS.items()) in words
