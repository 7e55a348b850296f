"""The simulated libnvidia-ml.so.1 has every name that its clients look up."""

import ctypes
import inspect
import re

import pynvml
import pytest

from gpuward.simulator.libraries import NVML_LIBRARY

pytestmark = pytest.mark.simulator

LOOKED_UP = re.compile(r'_nvmlGetFunctionPointer\("(\w+)"\)')


def missing(libraries, names):
    library = ctypes.CDLL(str(libraries / NVML_LIBRARY))
    return sorted(name for name in names if not hasattr(library, name))


def test_names_of_the_installed_binding(libraries):
    """Every function that the installed nvidia-ml-py can look up resolves."""
    names = set(LOOKED_UP.findall(inspect.getsource(pynvml)))

    assert len(names) > 300
    assert missing(libraries, names) == []


def test_names_of_other_bindings(libraries, fixtures):
    """So does every name that nvidia-ml-py 12 and 13 and py3nvml ever looked up."""
    lines = (fixtures / "nvml" / "names_looked_up.txt").read_text().splitlines()
    names = {line for line in lines if not line.startswith("#")}

    assert len(names) == 413
    assert missing(libraries, names) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("call('nvmlDeviceGetEncoderStats')", 3, id="not supported"),
        pytest.param("call('nvmlDeviceGetSamples')", 3, id="sampled utilisation"),
        pytest.param("nvmlDeviceGetAccountingMode(gpu())", "NotSupported", id="by the binding"),
    ],
)
def test_what_is_not_simulated(h100, expression, expected):
    """A function that is not simulated says NOT_SUPPORTED."""
    assert h100.ask(expression) == expected


def test_nothing_before_initialisation(state, asker):
    """Before nvmlInit a call says UNINITIALIZED, simulated or not."""
    before = asker(state, initialised=False)
    before.ask("nvmlInit(), nvmlShutdown()")

    assert before.ask("call('nvmlDeviceGetEncoderStats')") == 1
    assert before.ask("nvmlDeviceGetCount()") == "Uninitialized"
    assert before.ask("nvmlDeviceGetName(c_void_p(0x1000))") == "Uninitialized"
    assert before.ask("nvmlShutdown()") == "Uninitialized"
