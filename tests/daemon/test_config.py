"""Configuration: a typed value, or one line that names the place."""

from typing import Annotated, Literal

import msgspec
import pytest

from gpuward.daemon.config import ConfigError, load, parse


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    period_s: float = 1.0


Loudness = Annotated[Literal["page", "ticket", ""], msgspec.Meta(description="How loud.")]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    loudness: Loudness = ""


class Odd(msgspec.Struct, frozen=True, tag="odd"):
    loudness: Loudness = ""


class Even(msgspec.Struct, frozen=True, tag="even"):
    pass


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    sampling: Sampling = Sampling()
    rules: tuple[Rule, ...] = ()
    overrides: dict[str, Rule] = {}
    numbers: tuple[Odd | Even, ...] = ()


def test_a_file_becomes_a_typed_value(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text("[sampling]\nperiod_s = 2.5\n")

    assert Config(sampling=Sampling(period_s=2.5)) == load(path, Config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "[sampling]\nperiod = 1\n",
            "x.toml: Object contains unknown field `period` - at `$.sampling`",
            id="unknown key",
        ),
        pytest.param(
            '[sampling]\nperiod_s = "fast"\n',
            "x.toml: Expected `float`, got `str` - at `$.sampling.period_s`",
            id="wrong type",
        ),
        pytest.param(
            '[[rules]]\nloudness = "loud"\n',
            "x.toml: Invalid enum value 'loud' - at `$.rules[0].loudness`; it may be page, ticket",
            id="none of the choices, in a list",
        ),
        pytest.param(
            '[overrides.31]\nloudness = "loud"\n',
            "x.toml: Invalid enum value 'loud' - at `$.overrides[...].loudness`;"
            " it may be page, ticket",
            id="none of the choices, in a table by name",
        ),
        pytest.param(
            '[[numbers]]\ntype = "odd"\nloudness = "loud"\n',
            "x.toml: Invalid enum value 'loud' - at `$.numbers[0].loudness`",
            id="choices of one of several types",
        ),
        pytest.param(
            "[sampling\n",
            "x.toml: Expected ']' at the end of a table declaration (at line 1, column 10)",
            id="not TOML",
        ),
    ],
)
def test_a_bad_text_is_one_line_with_its_place(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text, Config, name="x.toml")

    assert message == str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.toml"

    with pytest.raises(ConfigError) as caught:
        load(path, Config)

    assert f"{path}: No such file or directory" == str(caught.value)


def test_bytes_that_are_not_text_are_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"a = '\xff'")

    with pytest.raises(ConfigError, match="not UTF-8 at byte 5"):
        load(path, Config)
