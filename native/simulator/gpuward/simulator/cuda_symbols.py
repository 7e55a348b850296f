"""Read from torch's own libraries which CUDA libraries and functions they ask the loader for.

A CUDA build of torch names some fifteen NVIDIA libraries as needed.  Without them it does not load,
so the simulator supplies each by its name, with the functions that this very torch binds to.  The
names come from the ELF files themselves (System V ABI, chapter 5; symbol versions: the GNU
extension described in the Linux Standard Base), so no list of them grows old here.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# A stub under any other name would shadow the C++ runtime's own and crash the process.
CUDA_PREFIXES = ("cu", "nccl", "pnccl", "nvrtc", "nvshmem", "nvtx")

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little endian
_SECTION_DYNAMIC = 6
_SECTION_DYNAMIC_SYMBOLS = 11
_SECTION_VERSIONS_NEEDED = 0x6FFFFFFE
_SECTION_SYMBOL_VERSIONS = 0x6FFFFFFF
_TAG_NEEDED = 1
_UNDEFINED = 0
_VERSION_MASK = 0x7FFF
_HEADER_BYTES = 64


class TorchError(RuntimeError):
    """This torch cannot run on the simulated CUDA runtime; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """A function bound at load time; ``library`` and ``version`` are empty when unversioned."""

    name: str
    library: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Library:
    """What one shared library needs and defines, CUDA names only."""

    needed: frozenset[str]
    wanted: frozenset[Symbol]
    defined: frozenset[str]


@dataclass(slots=True)
class MissingLibrary:
    """A library to supply: its name for the loader and its functions."""

    soname: str
    symbols: set[Symbol] = field(default_factory=set)

    @property
    def stem(self) -> str:
        """The prefix of its functions, in lower case: ``cublaslt`` for ``libcublasLt.so.13``."""
        return self.soname.removeprefix("lib").split(".so")[0].split("_")[0].lower()


def missing_libraries(folder: Path, present: Iterable[str]) -> list[MissingLibrary]:
    """Return the CUDA libraries that those in ``folder`` need and nobody supplies, by name.

    ``present``: sonames that are supplied elsewhere.  Raises ``TorchError`` for a file that is not
    a 64-bit little-endian ELF library.
    """
    paths = sorted(path for path in folder.iterdir() if ".so" in path.name and path.is_file())
    libraries = [read_library(path) for path in paths]
    supplied = {path.name for path in paths} | set(present)
    needed = frozenset[str]().union(*(library.needed for library in libraries))
    missing = {soname: MissingLibrary(soname) for soname in sorted(needed - supplied)}
    defined = frozenset[str]().union(*(library.defined for library in libraries))
    for symbol in frozenset[Symbol]().union(*(library.wanted for library in libraries)):
        owner = symbol.library
        if not owner and symbol.name not in defined:
            owner = _owner(symbol.name, missing.values())
        if owner in missing:
            missing[owner].symbols.add(symbol)
    return list(missing.values())


def _owner(name: str, libraries: Iterable[MissingLibrary]) -> str:
    """Return the soname whose stem is the longest prefix of ``name``, or an empty string."""
    function = name.lower().removeprefix("p")  # pncclSend is NCCL's name for a profiler's ncclSend
    fitting = [each for each in libraries if function.startswith(each.stem)]
    return max(fitting, key=lambda each: len(each.stem)).soname if fitting else ""


def read_library(path: Path) -> Library:
    """Read the dynamic section and symbols of the library at ``path``."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise TorchError(f"{path}: not a 64-bit little-endian ELF library")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            return _Elf(image).library()


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    offset: int
    size: int
    link: int


class _Elf:
    """The dynamic part of a mapped ELF file."""

    def __init__(self, image: mmap.mmap) -> None:
        self._image = image
        (table,) = struct.unpack_from("<Q", image, 0x28)
        (count,) = struct.unpack_from("<H", image, 0x3C)
        self._sections = [
            _Section(kind, offset, size, link)
            for kind, offset, size, link in (
                struct.unpack_from("<4xI8x8xQQI", image, table + _HEADER_BYTES * index)
                for index in range(count)
            )
        ]

    def library(self) -> Library:
        versions = self._versions()
        wanted: set[Symbol] = set()
        defined: set[str] = set()
        for name, is_defined, version in self._symbols():
            if is_defined:
                defined.add(name)
            else:
                wanted.add(Symbol(name, *versions.get(version, ("", ""))))
        needed = frozenset(
            soname
            for soname in self._needed()
            if soname.startswith(tuple(f"lib{prefix}" for prefix in CUDA_PREFIXES))
        )
        return Library(needed, frozenset(wanted), frozenset(defined))

    def _symbols(self) -> Iterator[tuple[str, bool, int]]:
        """Yield the name, whether it is defined here, and the version index of each CUDA symbol."""
        section = self._section(_SECTION_DYNAMIC_SYMBOLS)
        versions = self._section(_SECTION_SYMBOL_VERSIONS)
        if section is None:
            return
        strings = self._sections[section.link].offset
        prefixes = tuple(prefix.encode() for prefix in CUDA_PREFIXES)
        symbols = struct.iter_unpack("<IBBHQQ", self._bytes(section))
        for index, (name, _, _, place, _, _) in enumerate(symbols):
            start = strings + name
            if not self._image[start : start + 8].startswith(prefixes):
                continue
            version = 0
            if versions is not None:
                (version,) = struct.unpack_from("<H", self._image, versions.offset + 2 * index)
            yield self._string(start), place != _UNDEFINED, version & _VERSION_MASK

    def _versions(self) -> dict[int, tuple[str, str]]:
        """Return, for each version index, the library that defines it and its name."""
        section = self._section(_SECTION_VERSIONS_NEEDED)
        versions: dict[int, tuple[str, str]] = {}
        step, at = (1, section.offset) if section is not None else (0, 0)
        while step and section is not None:
            strings = self._sections[section.link].offset
            count, file, first, step = struct.unpack_from("<2xHIII", self._image, at)
            entry = at + first
            for _ in range(count):
                index, name, following = struct.unpack_from("<6xHII", self._image, entry)
                versions[index] = (self._string(strings + file), self._string(strings + name))
                entry += following
            at += step
        return versions

    def _needed(self) -> Iterator[str]:
        section = self._section(_SECTION_DYNAMIC)
        if section is None:
            return
        strings = self._sections[section.link].offset
        for tag, value in struct.iter_unpack("<QQ", self._bytes(section)):
            if tag == _TAG_NEEDED:
                yield self._string(strings + value)

    def _section(self, kind: int) -> _Section | None:
        return next((section for section in self._sections if section.kind == kind), None)

    def _bytes(self, section: _Section) -> bytes:
        return self._image[section.offset : section.offset + section.size]

    def _string(self, start: int) -> str:
        return self._image[start : self._image.find(b"\0", start)].decode("ascii", "replace")
