"""Entry points that torch (group ``torch.backends``, from 2.5), vLLM and SGLang call by themselves.

An exception here would break ``import torch`` for a whole service, so none leaves this module, and
next to nothing is imported before it is known that CUDA is used at all.  No thread and
no file exist until CUDA is initialised in this very process: a thread before ``fork`` is a hazard,
and most processes that import torch never touch a GPU.  torch keeps the call for forked children.
"""

from __future__ import annotations

import contextlib
import os
import sys

DISABLE = "GPUWARD_TAP_DISABLE"
DIRECTORY = "GPUWARD_TAP_DIR"
DEFAULT_DIRECTORY = "/run/gpuward/tap"


_registered: set[int] = set()


def torch_backend() -> None:
    """Ask torch to call ``start`` once CUDA is initialised; never raises."""
    if os.environ.get(DISABLE, "0") not in ("", "0"):
        return
    with contextlib.suppress(BaseException):
        # torch is being imported right now, so that an import statement would only look it up.
        torch = sys.modules["torch"]
        if id(torch) not in _registered:
            _registered.add(id(torch))
            torch.cuda._lazy_call(start)  # noqa: SLF001 - torch's only such hook
            from gpuward.tap import own_allocators

            own_allocators.watch(torch)


def engine_plugin() -> None:
    """Do the same where torch did not call: an older one, or its autoload is switched off."""
    torch_backend()


def start() -> None:
    """Start publishing from this process; torch treats an exception here as a failed CUDA."""
    with contextlib.suppress(BaseException):
        from gpuward.tap.admission import is_admitted, service_name

        service = service_name(os.environ, sys.argv[0])
        if not is_admitted(os.environ, service, os.uname().nodename):
            return
        from gpuward.tap.ticker import Ticker
        from gpuward.tap.torch_source import TorchSource

        directory = os.environ.get(DIRECTORY) or DEFAULT_DIRECTORY
        Ticker(directory, TorchSource(sys.modules["torch"])).start()
