"""Write C++ that defines every function a CUDA header declares as "not supported".

    python cuda_unsupported.py HEADER OUTPUT

The definitions are weak: those that the simulator writes out take their place.  So each name that a
program may bind to exists, and calling one that is not simulated says so instead of ending the
process.  Only functions that return a status are written.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED and cudaErrorNotSupported
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DECLARED = re.compile(r"(?:CUresult\s+CUDAAPI|cudaError_t\s+CUDARTAPI)\s+(cu\w+)\s*\(")
# `#define cuMemAlloc cuMemAlloc_v2`: the library holds both names.
VERSIONED = re.compile(
    r"^\s*#\s*define\s+cu\w+\s+(?:__CUDA_API_PT[DS]*Z?\()?(cu\w+_v\d+)\)?\s*$", re.MULTILINE
)


def function_names(header: str) -> list[str]:
    """Return the functions that the text of a header declares, each once, sorted."""
    text = COMMENT.sub("", header)
    return sorted({*DECLARED.findall(text), *VERSIONED.findall(text)})


def source(names: list[str]) -> str:
    """Return the C++ text that defines ``names``; it includes no header, so types do not matter."""
    lines = [f"[[gnu::weak]] int {name}() {{ return {NOT_SUPPORTED}; }}" for name in names]
    return "\n".join(['extern "C" {', *lines, "}", ""])


if __name__ == "__main__":
    header_path, output_path = (Path(argument) for argument in sys.argv[1:])
    output_path.write_text(source(function_names(header_path.read_text())))
