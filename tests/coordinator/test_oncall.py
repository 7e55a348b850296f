"""The cause domain picks the rotation; a person holds each place, or nobody does."""

from __future__ import annotations

import pytest

from gpuward.coordinator.model import CauseDomain, Role, Rotation
from gpuward.coordinator.oncall import ROTATION_OF, Person


@pytest.mark.parametrize(
    ("domain", "rotation"),
    [
        ("gpu", "infrastructure"),
        ("driver", "infrastructure"),
        ("capacity", "infrastructure"),
        ("network", "infrastructure"),
        ("model", "ml"),
        ("drift", "ml"),
        ("retrieval", "ml"),
        ("freshness", "data"),
        ("pipeline", "data"),
        ("source", "data"),
    ],
)
def test_rotation_of(domain, rotation):
    assert rotation == ROTATION_OF[CauseDomain(domain)]


def test_every_domain_has_a_rotation():
    assert set(CauseDomain) == set(ROTATION_OF)


@pytest.mark.parametrize(
    ("role", "rotation", "domain", "name"),
    [
        ("primary", "infrastructure", "gpu", "ann"),
        ("secondary", "ml", "drift", "max"),
        ("secondary", "data", "source", None),
        ("lead", "infrastructure", "gpu", "cyd"),
        ("expert", "infrastructure", "capacity", "exa"),
        ("expert", "infrastructure", "driver", None),
        ("executive", "data", "source", "vic"),
    ],
)
def test_holder(make, role, rotation, domain, name):
    person = make.roster.holder(Role(role), Rotation(rotation), CauseDomain(domain))

    assert name == (person and person.name)


def test_a_person_without_a_channel_cannot_be():
    with pytest.raises(ValueError, match="eve has no channel"):
        Person("eve", ())
