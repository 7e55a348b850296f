"""What a diagnosis says: on a lock screen, in one sentence, and what is ruled out."""

from __future__ import annotations

import pytest

from gpuward.coordinator.impact import BuildChange

QUESTIONS = ("question_1", "question_3", "question_4")
UNKNOWN = "unknown: nobody looked"


@pytest.mark.parametrize(
    ("sizes", "told", "headline"),
    [
        pytest.param(
            (1, 3),
            [(1, "thermal", {"gpu": "GPU-0123456789"})],
            "a GPU that heat slows down at n1:8000 (GPU-01234567)",
            id="one place",
        ),
        pytest.param(
            (3, 1),
            [(n, "thermal", {}) for n in (1, 2, 3)],
            "a GPU that heat slows down at 3 of 4 replicas",
            id="several",
        ),
        pytest.param(
            (2, 0),
            [(n, "overload", {}) for n in (1, 2)],
            "overload at all 2 replicas",
            id="all",
        ),
        pytest.param((1, 0), [(1, "overload", {})], "overload", id="the only one"),
        pytest.param(
            (2, 0),
            [(n, "upstream", {"facts": {"upstream": "vectors"}}) for n in (1, 2)],
            "upstream vectors in trouble at all 2 replicas",
            id="an upstream",
        ),
        pytest.param((2, 0), [], "undetermined: no node names a cause", id="nobody knows"),
        pytest.param(
            (1, 0),
            [(1, "", {"confidence": 0.4, "facts": {"runner_up": "overload, thermal"}})],
            "undetermined: overload or a GPU that heat slows down",
            id="a node wavers",
        ),
    ],
)
def test_headline(lab, sizes, told, headline):
    findings = [lab.verdict(number, cause, **changes) for number, cause, changes in told]

    assert headline == lab.said(lab.replicas(*sizes), findings).headline


def test_a_sentence_says_what_follows_and_what_is_true_besides(lab):
    told = [
        lab.verdict(1, "gpu_lost", confidence=0.95),
        *(lab.verdict(n, "overload") for n in (2, 3, 4)),
        lab.verdict(5, "host_cpu"),
    ]

    assert (
        "A lost GPU at n1:8000;"
        " besides, too few cores for its threads at n5:8000;"
        " overload at 3 of 5 replicas may follow from it."
    ) == lab.said(lab.replicas(5), told).summary


def test_evidence_of_the_centre_comes_before_the_nodes(lab):
    told = lab.verdict(1, "thermal", signs=("clock_low",))

    diagnosis = lab.said(lab.replicas(1, 3), [told])

    assert (
        "the verdict at n1:8000, 90 % certain",
        "users are hurt there alone: 3 other replicas are well",
        "clock_low is seen",
    ) == diagnosis.supports


def test_an_undetermined_one_names_the_test_that_would_tell(lab):
    """The nodes' own test, unless the centre has two causes that only it can tell apart."""
    wavers = lab.verdict(1, "undetermined", confidence=0.4, facts={"next_test": "nvidia-smi pmon"})
    queue = [lab.verdict(n, "overload") for n in (1, 2)]

    nodes = lab.said(lab.replicas(1), [wavers])
    centre = lab.said(lab.replicas(2), [*queue, lab.upstream(1), lab.upstream(2)])
    nobody = lab.said(lab.replicas(1, 3))

    assert "nvidia-smi pmon" == nodes.next_test
    assert "compare the requests a second with an hour ago" in centre.next_test
    assert "undetermined: overload or an upstream in trouble" == centre.headline
    assert "run `gpuward agent why` on a node that serves it" == nobody.next_test
    assert "Users are hurt at n1:8000 alone, 3 others well." in nobody.summary


def test_what_is_ruled_out(lab):
    """What nodes say no to, if half of them can tell; and what the spread of harm says."""
    answers = (("no", "no", "no"), ("yes: heat", UNKNOWN, "no"), ("no", UNKNOWN, UNKNOWN))
    told = [
        lab.verdict(n, "overload", facts=dict(zip(QUESTIONS, words, strict=True)))
        for n, words in enumerate(answers, 1)
    ]

    assert (
        "a slow upstream: 2 nodes say no, 1 cannot tell",
        "a roll-out: no replica had begun anew in the day before",
        "one sick node: users are hurt at all 3 replicas alike",
    ) == lab.said(lab.replicas(3), told).ruled_out


def test_a_place_that_hurts_all_is_not_ruled_out(lab):
    told = [lab.verdict(1, "gpu_lost", confidence=0.95), lab.verdict(2, "overload")]

    diagnosis = lab.said(lab.replicas(2), told)

    assert "gpu_lost" == diagnosis.cause
    assert not any("one sick node" in line for line in diagnosis.ruled_out)


@pytest.mark.parametrize(
    ("before_s", "suspects"),
    [
        pytest.param(86_401, (), id="longer ago than a day"),
        pytest.param(
            86_400,
            ("1 of 2 replicas had begun anew, the last 24 h before users were hurt",),
            id="a day ago",
        ),
        pytest.param(
            3_599,
            ("1 of 2 replicas had begun anew, the last 60 min before users were hurt",),
            id="an hour ago",
        ),
        pytest.param(-1, (), id="afterwards"),
    ],
)
def test_suspects_of_the_day_before(lab, before_s, suspects):
    """Too long ago to be the cause, and yet the first thing that a person asks for."""
    known = [*lab.replicas(1), lab.replica(2, hurt=True, began_s=lab.onset_s - before_s)]

    diagnosis = lab.said(known)

    assert suspects == diagnosis.suspects
    assert ("a roll-out: no replica had begun anew in the day before" in diagnosis.ruled_out) is (
        not suspects
    )


@pytest.mark.parametrize(
    ("before_s", "shown"),
    [
        pytest.param(86_401, False, id="longer ago than a day"),
        pytest.param(86_400, True, id="a day ago"),
        pytest.param(0, True, id="in the same moment"),
        pytest.param(-1, False, id="afterwards"),
    ],
)
def test_another_build_is_a_suspect(lab, before_s, shown):
    """What replicas run instead of what ran before is said in words, the most replicas first."""
    when_s = lab.onset_s - before_s
    version = BuildChange("version 0.11.0 to 0.12.0", when_s)
    known = [
        lab.replica(1, hurt=True, changed=BuildChange("model a to b", when_s)),
        lab.replica(2, hurt=True, changed=version),
        lab.replica(3, changed=version),
        lab.replica(4),
    ]

    diagnosis = lab.said(known, [lab.verdict(1, "overload")])

    ago = "24 h" if before_s else "0 min"
    assert diagnosis.suspects == (
        (
            f"2 of 4 replicas changed from version 0.11.0 to 0.12.0, {ago} before users were hurt",
            f"1 of 4 replicas changed from model a to b, {ago} before users were hurt",
        )
        if shown
        else ()
    )


def test_a_roll_out_that_is_the_cause_names_what_was_rolled_out(lab):
    began_s = lab.onset_s - 60
    changed = BuildChange("version 0.11.0 to 0.12.0", began_s)
    known = [
        *lab.replicas(0, 3),
        lab.replica(4, hurt=True, began_s=began_s, changed=changed),
        lab.replica(5, hurt=True, began_s=began_s, changed=changed),
    ]

    diagnosis = lab.said(known)

    assert diagnosis.cause == "change"
    assert diagnosis.suspects == (
        "2 of 5 replicas changed from version 0.11.0 to 0.12.0, 1 min before users were hurt",
    )
