"""docs/examples: the files are good, and complete by docs/configuration.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuward.cli.main import main

DOCS = Path(__file__).parent.parent / "docs"
# Tables whose keys are names that somebody chose, or of figures.
NAMED = {"rotations", "xid.overrides", "engines[].map.figures", "engines[].map.durations"}
# 24 random bytes, as a webhook's receiver gives them out.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def example(tmp_path):
    """Return a copy of an example in which each secret's file is one that is there."""

    def copy(name):
        secret = tmp_path / "pager.secret"
        secret.write_text(SECRET)
        text = (DOCS / "examples" / f"{name}.toml").read_text()
        path = tmp_path / f"{name}.toml"
        path.write_text(re.sub(r"/etc/gpuward/[\w-]+\.secret", str(secret), text))
        return path

    return copy


@pytest.mark.parametrize("name", ["agent", "coordinator"])
def test_check_config_accepts(name, example):
    path = example(name)
    done = CliRunner().invoke(main, [name, "check-config", "--config", str(path)])

    assert (0, f"{path}: ok\n") == (done.exit_code, done.output)


@pytest.mark.parametrize("name", ["agent", "coordinator"])
def test_every_setting_is_shown(name, example):
    """The reference lists what there is, and the example has it all."""
    shown = set(paths(tomllib.loads(example(name).read_text())))

    assert listed(name) == shown


@pytest.mark.parametrize("name", ["agent", "coordinator"])
def test_what_is_called_a_default_is_one(name):
    """A comment "# default" alone stands beside the value that the reference gives."""
    wrong = []
    table = ""
    for line in (DOCS / "examples" / f"{name}.toml").read_text().splitlines():
        if found := re.fullmatch(r"\[+(?P<table>[\w.]+)\]+", line):
            table = found["table"]
        elif found := re.fullmatch(r'type = "(?P<type>\w+)"', line):
            table += f"[{found['type']}]"
        elif found := re.fullmatch(r"(?P<key>\w+) = (?P<value>\S+) +# default(; .*)?", line):
            setting = rf"{re.escape(table)}(\[\])?\.{found['key']}"
            row = rf"\| `{setting}` \|.*\| `{re.escape(found['value'])}` \|"
            if not re.search(row, section(name)):
                wrong.append(line)

    assert [] == wrong


def section(name):
    """Return what the reference says of one file."""
    text = (DOCS / "configuration.md").read_text()
    return text.partition(f"## {name}.toml")[2].partition("\n## ")[0]


def listed(name):
    """Return the settings that the reference lists, without the tables that hold others."""
    every = re.findall(r"^\| `([^`]+)` \|", section(name), re.MULTILINE)
    return {
        path
        for path in every
        if not any(other != path and other.startswith((f"{path}.", f"{path}[")) for other in every)
    }


def paths(value, path=""):
    """Yield the path of each setting in a parsed file, as the reference writes it."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            kind = item.pop("type", "")
            yield from paths(item, f"{path}[{kind}]")
    elif isinstance(value, dict) and path not in {"experts", "rotations.<name>.channels"}:
        for key, item in value.items():
            inside = "<name>" if path in NAMED else key
            yield from paths(item, f"{path}.{inside}".removeprefix("."))
    else:
        yield path
