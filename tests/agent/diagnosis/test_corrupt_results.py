"""Answers that have become others: of one replica, of all of them, or of a card that is sick."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_cause import detect

ME, SIBLING = "h:8000", "h:8001"


def canary(endpoint, evidence, service="chat"):
    about = {"service": service, "endpoint": endpoint}
    return (
        ("endpoint_canary_evidence_ratio", evidence, about),
        ("endpoint_canary_agreement_ratio", 0.2 if evidence else 1.0, about),
        ("endpoint_canary_usual_ratio", 0.9, about),
    )


def told(node, *canaries, **changes):
    """Return the verdicts by replica."""
    extra = [row for rows in canaries for row in rows]
    return [
        (finding.subject.endpoint, finding.evidence[0].text, finding.evidence[1].text)
        for finding in detect(node(changes, extra=extra))
    ]


@pytest.mark.parametrize(
    ("mine", "others", "verdict"),
    [
        pytest.param(1.0, [0.0], "corrupt_results", id="mine alone"),
        pytest.param(1.0, [0.49], "corrupt_results", id="the sibling was off once"),
        pytest.param(1.0, [0.0, 1.0, 0.0], "corrupt_results", id="most agree"),
        pytest.param(1.0, [0.5], "undetermined", id="the sibling may be off too"),
        pytest.param(1.0, [1.0], "undetermined", id="both: somebody changed the model"),
        pytest.param(1.0, [0.0, 1.0], "undetermined", id="as many as not"),
        pytest.param(1.0, [], "undetermined", id="nobody to compare with"),
        pytest.param(0.99, [0.0], None, id="not enough evidence yet"),
        pytest.param(0.0, [0.0], None, id="as ever"),
        pytest.param(0.0, [1.0], None, id="the sibling's trouble is not mine"),
    ],
)
def test_a_replica_is_called_corrupt_when_its_siblings_are_not(node, mine, others, verdict):
    siblings = [canary(f"h:900{place}", each) for place, each in enumerate(others)]
    found = [(it[0], it[1]) for it in told(node, canary(ME, mine), *siblings)]

    assert found == ([] if verdict is None else [(ME, verdict)])


def test_replicas_of_another_service_do_not_count(node):
    ((_, verdict, _),) = told(node, canary(ME, 1.0), canary(SIBLING, 0.0, service="search"))

    assert verdict == "undetermined"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        pytest.param({"gpu_ecc_uncorrected_total": [0, 0, 0, 2]}, "gpu_fault", id="not corrected"),
        pytest.param({"gpu_ecc_corrected_total": (3, 20.0)}, "ecc_degraded", id="corrected"),
    ],
)
def test_a_card_whose_memory_fails_explains_wrong_answers(node, changes, verdict):
    """Then the card is the cause, and not a second trouble beside it."""
    ((_, named, besides),) = told(node, canary(ME, 1.0), canary(SIBLING, 0.0), **changes)
    (finding,) = detect(node(changes, extra=[*canary(ME, 1.0), *canary(SIBLING, 0.0)]))

    assert (named, besides) == (verdict, "corrupt_results")
    assert "besides" not in finding.summary
    assert "for: it answers the same question otherwise" in {
        fact.text.partition(" (")[0] for fact in finding.evidence
    }


def test_what_is_not_hot_memory_explains_no_wrong_answers(node):
    """A slow card and wrong answers are two troubles: both are said."""
    changes = {"gpu_clock_event_reasons": 0x20, "gpu_sm_clock_hertz": 1.2e9}
    ((_, *named),) = told(node, canary(ME, 1.0), canary(SIBLING, 0.0), **changes)

    assert named == ["thermal", "corrupt_results"]


def test_alone_it_says_whom_to_ask(node):
    (finding,) = detect(node(extra=canary(ME, 1.0)))
    facts = {fact.name: fact.text for fact in finding.evidence}

    assert "ask another replica the same" in facts["next_test"]
    assert finding.summary.startswith("chat at h:8000 answers otherwise than before")
    assert finding.action.name == "NONE"


def test_what_is_to_be_done_is_no_restart(node):
    (finding,) = detect(node(extra=[*canary(ME, 1.0), *canary(SIBLING, 0.0)]))

    assert (finding.action.name, finding.domain.name) == ("CHECK_APPLICATION", "MODEL")
