"""Which finding counts as the cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator.cause import causes_of, ranked
from gpuward.coordinator.diagnosis.values import Diagnosis, Scope
from gpuward.coordinator.model import CauseDomain, LinkedFinding, Relation


def finding(kind, relation=Relation.NODE, confidence=1.0, follows=()):
    domain = CauseDomain.CAPACITY
    return LinkedFinding(kind, kind, kind, relation, domain, kind, confidence, follows=follows)


@pytest.mark.parametrize(
    ("findings", "kind"),
    [
        pytest.param([finding("gpu.xid")], "gpu.xid", id="only one"),
        pytest.param(
            [finding("gpu.xid"), finding("driver.unresponsive", Relation.SERVICE)],
            "driver.unresponsive",
            id="close before far",
        ),
        pytest.param(
            [finding("gpu.xid", confidence=0.4), finding("driver.unresponsive", confidence=0.5)],
            "driver.unresponsive",
            id="sure before guessed",
        ),
        pytest.param(
            [
                finding("gpu.memory.saturation"),
                finding("process.memory.fragmentation", confidence=0.6),
            ],
            "process.memory.fragmentation",
            id="a full GPU is explained by who holds its memory",
        ),
        pytest.param(
            [finding("process.memory.oom"), finding("process.memory.fragmentation")],
            "process.memory.fragmentation",
            id="a failed allocation is explained too",
        ),
        pytest.param(
            [finding("gpu.memory.saturation", Relation.SERVICE), finding("gpu.xid")],
            "gpu.memory.saturation",
            id="a close symptom before a far cause",
        ),
        pytest.param(
            [finding("gpu.xid"), finding("driver.unresponsive")], "gpu.xid", id="first of equals"
        ),
        pytest.param(
            [finding("service.latency.inter_token", Relation.SERVICE), finding("gpu.xid")],
            "gpu.xid",
            id="slow tokens are the trouble and no cause",
        ),
        pytest.param(
            [
                finding("process.memory.fragmentation", Relation.SERVICE),
                finding("service.latency.cause", Relation.SERVICE, 0.9),
            ],
            "service.latency.cause",
            id="a verdict says it best",
        ),
        pytest.param(
            [
                finding("process.memory.blind", Relation.SERVICE),
                finding("service.latency.cause", Relation.SERVICE, 0.9, ("gpu.thermal.slowdown",)),
                finding("gpu.thermal.slowdown", Relation.SERVICE),
            ],
            "gpu.thermal.slowdown",
            id="what it blames says it better",
        ),
        pytest.param(
            [
                finding("service.latency.cause", Relation.SERVICE, 0.5, ("gpu.thermal.slowdown",)),
                finding("gpu.xid"),
                finding("gpu.thermal.slowdown"),
            ],
            "gpu.xid",
            id="what an unsure one blames is no better than others",
        ),
        pytest.param(
            [finding("gpu.xid", confidence=0.5), finding("service.latency.cause", confidence=0.8)],
            "service.latency.cause",
            id="a verdict that is sure enough",
        ),
        pytest.param(
            [
                finding("service.latency.cause", Relation.SERVICE, 0.79),
                finding("gpu.xid", confidence=0.5),
            ],
            "gpu.xid",
            id="one that is undetermined names no cause",
        ),
    ],
)
def test_the_most_probable_comes_first(findings, kind):
    """The first one that a person should look at."""
    assert kind == ranked(findings)[0].kind


def test_what_the_diagnosis_blames_comes_first(make):
    """Also when it is farther away: the diagnosis has heard all nodes."""
    near, far = finding("gpu.xid", Relation.SERVICE), finding("service.upstream.slow")
    blames = Diagnosis("upstream", Scope.ALL, "h", "s", 0.9, 9.0, blames=(far.dedup_key,))
    incident = replace(make.incident(), findings=(near, far))

    assert [near, far] == causes_of(incident)
    assert [far, near] == causes_of(replace(incident, diagnosis=blames))
