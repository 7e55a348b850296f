"""Scenario files: every kind of step, and one clear line for everything that is wrong."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.daemon.config import ConfigError, parse
from gpuward.simulator import scenario
from gpuward.simulator.layout import CallGroup
from gpuward.simulator.scenario import Hang, Ramp, Scenario, Start

HEAD = 'profile = "h100-sxm-x8"\n'
ENGINE = '[[steps]]\nat_s = 0\ndo = "start"\nprocess = "engine"\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "s.toml"
        path.write_text(text)
        return path

    return write


def test_everything(fixtures):
    """The fixture with one step of each kind is read as it is written."""
    path = fixtures / "scenarios" / "everything.toml"
    story, machine = scenario.load(str(path), path)

    kinds = {type(step).__name__.lower() for step in story.steps}
    assert kinds == set(
        "set ramp noise hang delay lost xid start take stop unload load".split()  # noqa: SIM905
    )
    assert len(machine.gpus) == 8


def test_profile_by_name():
    """A profile's name is the machine on which nothing happens."""
    story, machine = scenario.load("rtx4090-x1", Path("rtx4090-x1"))

    assert story == Scenario(profile="rtx4090-x1")
    assert len(machine.gpus) == 1


def test_defaults():
    """What a step leaves out: all GPUs, all calls, for ever, a process that sleeps."""
    story = parse(
        HEAD + ENGINE + '[[steps]]\nat_s = 1\ndo = "hang"\n[[steps]]\nat_s = 2.5\ndo = "ramp"\n'
        "over_s = 3\nvalues = { temperature_celsius = 90 }\n",
        Scenario,
        name="s.toml",
    )

    start, hang, ramp = story.steps
    assert start == Start(at_s=0, process="engine", memory_bytes=0, command=["sleep", "infinity"])
    assert hang == Hang(at_s=1, gpus=None, for_s=None)
    assert int(hang.groups) == 0x3FFF
    assert ramp == Ramp(at_s=2.5, over_s=3, values={"temperature_celsius": 90})
    assert Hang(at_s=0, calls=["cuda", "cuda"]).groups == CallGroup.CUDA
    assert Hang(at_s=0, calls=[]).groups == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "missing required field `profile`", id="empty"),
        pytest.param("profile = [", "", id="not TOML"),
        pytest.param('profile = "a100"', "profile 'a100': there are h100", id="profile"),
        pytest.param(HEAD + "speed = 2", "unknown field `speed`", id="unknown key"),
        pytest.param(HEAD + "[[steps]]\nat_s = 1", "`do`", id="step of no kind"),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "fly"',
            "Invalid value 'fly' - at `$.steps[0].do`",
            id="fly",
        ),
        pytest.param(
            HEAD + '[[steps]]\ndo = "lost"',
            "missing required field `at_s` - at `$.steps[0]`",
            id="when",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = -1\ndo = "lost"', "at_s: seconds, zero or more", id="before"
        ),
        pytest.param(HEAD + '[[steps]]\nat_s = nan\ndo = "lost"', "at_s: seconds", id="never"),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "lost"\nvalues = {}',
            "unknown field `values` - at `$.steps[0]`",
            id="another step's key",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "set"\nvalues = { heat = 1 }',
            "values.heat: a GPU has no such number - at `$.steps[0]`",
            id="no such field",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "set"\nvalues = { lost = -1 }',
            "values.lost: an integer from 0 to 4294967295",
            id="negative",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "ramp"\nover_s = -3\nvalues = {}',
            "over_s: seconds, zero or more",
            id="backwards",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "hang"\ncalls = ["brain"]',
            "calls: 'brain' is none of system,",
            id="calls",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "lost"\ngpus = [7, 8]',
            "steps[0].gpus: 8 is not 0 to 7",
            id="GPU",
        ),
        pytest.param(
            HEAD + '[[steps]]\nat_s = 1\ndo = "stop"\nprocess = "engine"',
            "steps[0].process: 'engine' has not started by then",
            id="nobody",
        ),
        pytest.param(
            HEAD + ENGINE + ENGINE, "steps[1].process: 'engine' has started before", id="twice"
        ),
        pytest.param(
            HEAD + ENGINE + 'kind = "quantum"', "kind: 'quantum' is none of compute,", id="kind"
        ),
        pytest.param(HEAD + ENGINE + "command = []", "command: at least the program", id="nothing"),
        pytest.param(HEAD + ENGINE + "memory_bytes = -1", "memory_bytes: zero or more", id="debt"),
        pytest.param(
            HEAD + ENGINE + '[[steps]]\nat_s = 1\ndo = "stop"\nprocess = "engine"\nsignal = "HUG"',
            "signal: 'HUG' is none",
            id="signal",
        ),
    ],
)
def test_bad_input(write, text, message):
    """One line, which names the file and the place in it."""
    path = write(text)
    with pytest.raises(ConfigError) as error:
        scenario.load(str(path), path)

    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_scenario():
    """A name that is neither file nor profile is answered with the profiles."""
    with pytest.raises(ConfigError, match=r"^what: no such scenario file, and no profile \(h100"):
        scenario.load("what", Path("what"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["at_s", "do", "gpus", "values", "process", "lost", "calls", "x"]),
                inner | st.sampled_from(["set", "hang", "start", "xid"]),
                max_size=5,
            )
        ),
        max_leaves=10,
    )
)
def test_any_steps(steps):
    """Whatever the steps are, they are read or refused in words; nothing else is raised."""
    with contextlib.suppress(ConfigError):
        assert parse(f"{HEAD}steps = {toml(steps)}", Scenario, name="s.toml").steps is not None


def toml(value):
    match value:
        case None:
            return '""'
        case bool():
            return str(value).lower()
        case str():
            escaped = "".join(
                f"\\U{ord(each):08X}" for each in value if not 0xD800 <= ord(each) < 0xE000
            )
            return f'"{escaped}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {toml(each)}' for key, each in value.items())}}}"
    return str(value)


@given(st.text(max_size=200))
def test_any_text(text):
    """Nor is anything else raised for text that is no scenario at all."""
    with pytest.raises(ConfigError, match=r"^s\.toml: "):
        parse(text, Scenario, name="s.toml")


def test_readme():
    """The README's scenario can be played, and its table knows every kind of step."""
    readme = (Path(__file__).parents[2] / "native" / "simulator" / "README.md").read_text()
    example = readme.split("```toml\n")[1].split("```")[0]

    assert len(parse(example, Scenario, name="README.md").steps) == 7
    assert set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)) == set(
        "set ramp noise hang delay lost xid start take stop unload load".split()  # noqa: SIM905
    )
