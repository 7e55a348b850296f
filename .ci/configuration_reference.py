"""Write docs/configuration.md from the types that the configuration files are read into.

Name, type and default are those of the ``msgspec.Struct`` classes; a setting's meaning is the
description in its annotation, a table's is its class's docstring.  A setting that has none is an
error here, so that none can be added without its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from gpuward.agent.config import AgentConfig
from gpuward.coordinator.config_tables import CoordinatorConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """# Configuration

Each daemon reads one TOML file, once, when it starts; `gpuward agent check-config` and
`gpuward coordinator check-config` say whether a file can be used, and change nothing. An unknown
setting is an error. Complete examples: [agent.toml](examples/agent.toml),
[coordinator.toml](examples/coordinator.toml).

`engines[].url` is the `url` of each `[[engines]]`, `notifiers[file].path` the `path` of each
`[[notifiers]]` with `type = "file"`, and `<name>` one of the names just above. Made from
`gpuward.agent.config` and `gpuward.coordinator.config_tables` by `make golden`.
"""
FILES = (
    ("agent.toml", "/etc/gpuward/agent.toml", AgentConfig),
    ("coordinator.toml", "/etc/gpuward/coordinator.toml", CoordinatorConfig),
)
PLAIN = {
    inspect.StrType: "text",
    inspect.BoolType: "true or false",
    inspect.FloatType: "number",
    inspect.IntType: "whole number",
    inspect.StructType: "table",
    inspect.UnionType: "table",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the reference."""

    path: str
    kind: str
    default: str
    meaning: str

    def __post_init__(self) -> None:
        if not self.meaning:
            raise ValueError(f"{self.path}: no description")

    def __str__(self) -> str:
        return f"| `{self.path}` | {self.kind} | {self.default} | {self.meaning} |"


def reference() -> str:
    """Return docs/configuration.md."""
    lines = [HEAD]
    for name, place, config in FILES:
        lines += [f"## {name}", "", f"Read from `{place}` unless `--config` names another.", ""]
        lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
        lines += [str(row) for row in _rows(inspect.type_info(config), "")]
        lines += [""]
    return "\n".join(lines)


def _rows(table: inspect.Type, prefix: str) -> Iterator[Row]:
    assert isinstance(table, inspect.StructType)  # noqa: S101 - no other has rows
    for field in table.fields:
        kind, meaning = _described(field.type)
        path = prefix + field.encode_name
        yield Row(path, _words(kind), _default(field), meaning)
        yield from _inside(kind, path)


def _inside(kind: inspect.Type, path: str) -> Iterator[Row]:
    """Yield the settings below ``path``, if it holds tables."""
    match kind:
        case inspect.StructType():
            yield from _rows(kind, f"{path}.")
        case inspect.VarTupleType():
            yield from _inside(kind.item_type, f"{path}[]")
        case inspect.DictType():
            yield from _inside(kind.value_type, f"{path}.<name>")
        case inspect.UnionType():
            for member in kind.types:
                assert isinstance(member, inspect.StructType)  # noqa: S101 - no other has rows
                tagged = f"{path.removesuffix('[]')}[{member.tag}]"
                yield Row(tagged, "table", "", _described(member)[1])
                yield from _rows(member, f"{tagged}.")


def _described(kind: inspect.Type) -> tuple[inspect.Type, str]:
    """Return the bare type and what it means: what its annotation says, else its docstring."""
    if isinstance(kind, inspect.Metadata):
        said = (kind.extra_json_schema or {}).get("description", "")
        return kind.type, said or _described(kind.type)[1]
    if isinstance(kind, inspect.VarTupleType):
        return kind, _described(kind.item_type)[1]
    if isinstance(kind, inspect.StructType):
        return kind, (kind.cls.__doc__ or "").partition("\n")[0].replace("``", "`")
    return kind, ""


def _words(kind: inspect.Type) -> str:
    """Return a type in words."""
    match _described(kind)[0]:
        case inspect.LiteralType(values=values):
            words = " or ".join(f"`{_toml(value)}`" for value in values)
        case inspect.VarTupleType(item_type=item):
            words = f"list of {_words(item)}s"
        case inspect.DictType(key_type=inspect.EnumType(cls=keys), value_type=value):
            words = f"{_words(value)} for each of {', '.join(f'`{key.value}`' for key in keys)}"
        case inspect.DictType(value_type=value):
            words = f"{_words(value)} by name"
        case plain:
            words = PLAIN[type(plain)]
    return words


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{_toml(field.default_factory())}`"
    # A table's defaults are those of its settings, on the lines below.
    return "" if isinstance(field.default, msgspec.Struct) else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    """Return a value as TOML writes it on one line."""
    match msgspec.to_builtins(value):
        case dict() as table:
            inside = ", ".join(f"{key} = {_toml(item)}" for key, item in table.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple() as items:
            return f"[{', '.join(map(_toml, items))}]"
        case plain:
            # A JSON string or number is a TOML one.
            return msgspec.json.encode(plain).decode()
