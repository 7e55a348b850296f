"""A configuration is right as a whole, or one line says where it is not."""

from __future__ import annotations

import pytest

from gpuward.coordinator import config as configuration
from gpuward.coordinator.model import CauseDomain, Role, Rotation, Severity
from gpuward.daemon.config import ConfigError, parse

GOOD = """
[escalation]
speed = 60.0
executive = "eve"
[[escalation.steps]]
level = "L2"
severities = ["SEV1"]
after_s = 300.0
[[notifiers]]
type = "console"
name = "console"
[[notifiers]]
type = "file"
name = "pages"
path = "/tmp/pages.jsonl"
[[people]]
name = "ann"
channels = ["console", "pages"]
[[people]]
name = "eve"
channels = ["pages"]
[rotations.infrastructure]
primary = "ann"
secondary = "eve"
lead = "eve"
channels = { L2 = ["console"] }
[rotations.ml]
primary = "ann"
[rotations.data]
primary = "ann"
[experts]
capacity = "eve"
"""


def read(text):
    config = parse(text, configuration.CoordinatorConfig, name="c.toml")
    configuration.check(config)
    return config


def test_defaults():
    """Without a file: loopback, the console, and somebody in every place."""
    config = configuration.read(None)
    roster = configuration.roster(config)

    assert ("127.0.0.1:9479", "127.0.0.1:9480") == (config.grpc.address, config.http.address)
    assert "sqlite+aiosqlite:////var/lib/gpuward-coordinator/coordinator.db" == config.database_url
    for rotation in Rotation:
        for domain in CauseDomain:
            for role in Role:
                person = roster.holder(role, rotation, domain)
                assert ("on-call", ("console",)) == (person.name, person.channels)


def test_a_file():
    config = read(GOOD)
    roster = configuration.roster(config)
    ann = roster.holder(Role.PRIMARY, Rotation.ML, CauseDomain.DRIFT)

    assert ("ann", ("console", "pages")) == (ann.name, ann.channels)
    assert ("console",) == roster.channels(ann, Rotation.INFRASTRUCTURE, "L2")
    assert ("console", "pages") == roster.channels(ann, Rotation.INFRASTRUCTURE, "L1")
    assert "eve" == roster.holder(Role.EXPERT, Rotation.ML, CauseDomain.CAPACITY).name
    assert roster.holder(Role.SECONDARY, Rotation.ML, CauseDomain.DRIFT) is None


def test_one_line_moves_a_level_for_a_severity():
    rows = configuration.policy(read(GOOD))

    delays = {s: r.after_s for r in rows if r.level == "L2" for s in r.severities}

    assert {Severity.SEV1: 300, Severity.SEV2: 900, Severity.SEV3: 3600} == delays


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            'lead = "eve"',
            'lead = "evee"',
            "rotations.infrastructure.lead: no person is named 'evee'",
            id="unknown lead",
        ),
        pytest.param(
            'capacity = "eve"', 'capacity = "x"', "experts.capacity: no person", id="unknown expert"
        ),
        pytest.param(
            'executive = "eve"',
            'executive = "x"',
            "escalation.executive: no person",
            id="executive",
        ),
        pytest.param(
            '["console", "pages"]',
            '["sms"]',
            "people.ann.channels: no notifier is named 'sms'",
            id="unknown channel",
        ),
        pytest.param(
            '["console", "pages"]', "[]", "people.ann.channels: empty", id="nowhere to page"
        ),
        pytest.param(
            '{ L2 = ["console"] }',
            '{ L2 = ["sms"] }',
            "rotations.infrastructure.channels.L2: no notifier",
            id="unknown channel of a level",
        ),
        pytest.param(
            '{ L2 = ["console"] }',
            "{ L2 = [] }",
            "rotations.infrastructure.channels.L2: empty",
            id="no channel of a level",
        ),
        pytest.param(
            '[rotations.data]\nprimary = "ann"\n',
            "",
            "rotations.data: missing; each rotation needs a primary",
            id="a rotation without anybody",
        ),
        pytest.param(
            'name = "eve"', 'name = "ann"', "people: 'ann' is there twice", id="namesakes"
        ),
        pytest.param(
            'name = "pages"',
            'name = "console"',
            "notifiers: 'console' is there twice",
            id="channels",
        ),
        pytest.param("speed = 60.0", "speed = 0.0", r"escalation.speed: 0.0 is not", id="no speed"),
        pytest.param(
            "speed = 60.0", "speed = nan", r"escalation.speed: nan is not", id="nan speed"
        ),
        pytest.param('"SEV1"', '"SEV9"', "steps\\[0\\].severities: 'SEV9' is none", id="severity"),
        pytest.param(
            '"SEV1"',
            '"SEV4"',
            "steps\\[0\\]: no level 'L2' for SEV4; levels: L1,",
            id="no such row",
        ),
        pytest.param('["SEV1"]', "[]", "no level 'L2' for no severity", id="no severity"),
        pytest.param('level = "L2"', 'level = "L9"', "no level 'L9' for SEV1", id="no such level"),
        pytest.param("300.0", "-1.0", "after_s: -1.0 is negative", id="before the alert"),
        pytest.param(
            "[escalation]",
            '[delivery]\nlast_resort = ["fax"]\n[escalation]',
            r"delivery.last_resort: no notifier is named 'fax'",
            id="unknown last resort",
        ),
        pytest.param(
            "[escalation]",
            "[delivery]\nfallback_after_s = 901.0\n[escalation]",
            r"delivery.fallback_after_s: 901.0 is not in 0..900",
            id="too late a fallback",
        ),
        pytest.param('type = "file"', 'type = "fax"', r"fax", id="unknown type"),
        pytest.param('path = "/tmp/pages.jsonl"', "", r"path", id="file without a path"),
        pytest.param("executive =", "exekutive =", r"exekutive", id="unknown key"),
        pytest.param("[rotations.data]", "[rotations.dta]", r"dta", id="unknown rotation"),
    ],
)
def test_one_line_says_where(old, new, message):
    assert old in GOOD

    with pytest.raises(ConfigError, match=message) as caught:
        read(GOOD.replace(old, new, 1))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "9480", "host:", ":1", "host:99999", "host:x"])
def test_addresses(address):
    with pytest.raises(ConfigError, match=r"http\.address: not host:port"):
        read(f'[http]\naddress = "{address}"')


def test_people_are_needed_where_they_are_named():
    with pytest.raises(ConfigError, match="people: missing"):
        read('[rotations.ml]\nprimary = "ann"')


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        configuration.read(tmp_path / "none.toml")


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[escalation]\nspeed = 0.0")

    with pytest.raises(ConfigError, match=r"c\.toml: escalation\.speed"):
        configuration.read(path)
