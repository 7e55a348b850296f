"""What a person is told over gRPC of the causes of a replica's trouble."""

from __future__ import annotations

import pytest

from gpuward.agent.wire_causes import causes

HOT = {"gpu_clock_event_reasons": 0x20, "gpu_sm_clock_hertz": 1.2e9}
OFFSET_S = 1_800_000_000.0


def test_a_replica_in_trouble_is_told_with_what_it_is_and_is_not(node):
    (replica,) = causes(node(HOT), "", OFFSET_S).replicas
    first = replica.causes[0]
    lost = next(each for each in replica.causes if each.name == "gpu_lost")

    assert (replica.subject.service, replica.subject.endpoint) == ("chat", "h:8000")
    assert (replica.in_trouble, replica.verdict) == (True, "thermal")
    assert (first.name, first.HasField("decibans")) == ("thermal", True)
    assert first.signs[0].evidence.text.startswith("for: heat")
    assert first.signs[0].evidence.observed_at.seconds == OFFSET_S + 1_000
    assert [sign.evidence.text for sign in first.signs if sign.decibans < 0] != []
    assert (lost.HasField("decibans"), lost.ruled_out) == (False, "not so: a GPU cannot be reached")


def test_a_replica_that_is_well_is_told_too(node):
    (replica,) = causes(node(), "chat", OFFSET_S).replicas

    assert (replica.in_trouble, replica.verdict) == (False, "undetermined")
    assert replica.next_test


@pytest.mark.parametrize(("service", "count"), [("chat", 1), ("", 1), ("search", 0)])
def test_only_the_service_that_was_asked_for(node, service, count):
    assert count == len(causes(node(), service, OFFSET_S).replicas)


def test_what_is_told_is_what_is_held(node):
    """The same name as in the finding, not another one of the same second."""
    replica = {"service": "chat", "endpoint": "h:8000"}
    narrow = {"gpu_pcie_link_width": 8}
    (told,) = causes(node(HOT | narrow, extra=[("replica_cause", 7.0, replica)]), "", 0.0).replicas

    assert (told.verdict, told.causes[0].name) == ("pcie_downgrade", "thermal")
