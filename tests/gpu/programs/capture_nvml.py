"""Ask NVML everything that needs nothing but the first GPU; print a line for each answer.

Only names that begin with ``nvmlDeviceGet`` or ``nvmlSystemGet`` are called: none of them changes
anything.  A line is ``[question, answer]``, or ``[question, null, error]`` with the name of NVML's
error, before all ``NotSupported``.  What names this very card is left out.
"""

import ctypes
import inspect
import json
import sys

import pynvml

from gpuward.agent.nvml_calls import CALLS

# Lists of clocks and samples go on and on.
MOST = 32
PRIVATE = (
    *("Serial", "UUID", "BoardId", "BoardPartNumber", "Hostname", "Pdi", "ConfCompute"),
    *("Processes", "HandleBy"),
)
PRIVATE_FIELDS = ("uuid", "serial", "guid")


def plain(value):
    """Return ``value`` as JSON has it; numbers of addresses stay numbers."""
    if isinstance(value, (ctypes.Structure, ctypes.Union)):
        names = [name for name, *_ in value._fields_]
        public = [
            name for name in names if not any(word in name.lower() for word in PRIVATE_FIELDS)
        ]
        return {name: plain(getattr(value, name)) for name in public}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (list, tuple, ctypes.Array)):
        return [plain(item) for item in list(value)[:MOST]]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (int, float, str, bool)) or value is None:
        return value
    return str(type(value).__name__)


def ask(question, function, *arguments):
    # Before the call: should the library crash, the last line says in what.
    sys.stdout.write(f"[{json.dumps(question)}")
    sys.stdout.flush()
    try:
        answer = json.dumps(plain(function(*arguments)))
    except pynvml.NVMLError as error:
        answer = f'null, "{type(error).__name__.removeprefix("NVMLError_")}"'
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        answer = f'null, "binding: {type(error).__name__}"'
    sys.stdout.write(f", {answer}]\n")
    sys.stdout.flush()


def required(function):
    return [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
    ]


def main():
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    for call in CALLS:
        ask(f"{call.name}: {', '.join(call.signals)}", call.make, pynvml, gpu)
    for name, function in sorted(vars(pynvml).items()):
        if not inspect.isfunction(function) or any(word in name for word in PRIVATE):
            continue
        if name.startswith("nvmlDeviceGet") and len(required(function)) == 1:
            ask(name, function, gpu)
        elif name.startswith("nvmlSystemGet") and not required(function):
            ask(name, function)
    fields = {number: name for name, number in vars(pynvml).items() if name.startswith("NVML_FI_")}
    for number, name in sorted(fields.items()):
        if isinstance(number, int) and name != "NVML_FI_MAX":
            ask(f"{name} {number}", field, gpu, number)


def field(gpu, number):
    (value,) = pynvml.nvmlDeviceGetFieldValues(gpu, [number])
    pynvml._nvmlCheckReturn(value.nvmlReturn)
    member = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")[value.valueType]
    return getattr(value.value, member)


main()
