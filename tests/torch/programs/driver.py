"""Call the simulated driver and runtime without torch; print the status of each call in order.

Arguments: the name of a function below.  Runs under gpuward's own interpreter.
"""

import ctypes
import json
import sys
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p

PAGE = 2 << 20

driver = ctypes.CDLL("libcuda.so.1")
runtime = ctypes.CDLL("libcudart.so.13")


class AllocationProperties(ctypes.Structure):
    """CUmemAllocationProp: pinned memory on a device."""

    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location_type", c_int),
        ("location_id", c_int),
        ("rest", c_uint64 * 2),
    )


def create(size, device=0):
    handle = c_uint64()
    properties = AllocationProperties(1, 0, 1, device)
    status = driver.cuMemCreate(byref(handle), c_size_t(size), byref(properties), c_uint64(0))
    return status, handle


def use_first_device():
    context = c_void_p()
    driver.cuInit(0)
    driver.cuDevicePrimaryCtxRetain(byref(context), 0)
    driver.cuCtxSetCurrent(context)


def free_bytes():
    free, total = c_size_t(), c_size_t()
    driver.cuMemGetInfo_v2(byref(free), byref(total))
    return free.value


def virtual_memory():
    """Memory counts from its creation until it is both released and unmapped."""
    use_first_device()
    start = free_bytes()
    address = c_uint64()
    found = [driver.cuMemAddressReserve(byref(address), c_size_t(4 * PAGE), 0, 0, 0)]
    status, handle = create(2 * PAGE)
    found += [status, start - free_bytes()]
    found += [driver.cuMemMap(address, c_size_t(2 * PAGE), 0, handle, 0)]
    found += [driver.cuMemSetAccess(address, c_size_t(2 * PAGE), None, 0)]
    found += [driver.cuMemsetD32Async(address, 7, c_size_t(4), None)]
    found += [ctypes.c_uint.from_address(address.value).value]
    found += [driver.cuMemRelease(handle), start - free_bytes()]
    found += [driver.cuMemUnmap(address, c_size_t(2 * PAGE)), start - free_bytes()]
    found += [driver.cuMemAddressFree(address, c_size_t(4 * PAGE))]
    return found


def virtual_memory_misuse():
    """Twice mapped, twice released, beyond the range, an odd size, a device that is not there."""
    use_first_device()
    address = c_uint64()
    driver.cuMemAddressReserve(byref(address), c_size_t(2 * PAGE), 0, 0, 0)
    beyond = c_uint64(address.value + 2 * PAGE)
    _, handle = create(PAGE)
    driver.cuMemMap(address, c_size_t(PAGE), 0, handle, 0)
    second = c_uint64(address.value + PAGE)
    return [
        driver.cuMemMap(second, c_size_t(PAGE), 0, handle, 0),
        driver.cuMemMap(beyond, c_size_t(PAGE), 0, handle, 0),
        driver.cuMemRelease(handle),
        driver.cuMemRelease(handle),
        create(PAGE - 1)[0],
        create(PAGE, device=2)[0],
    ]


def without_context():
    """Before cuInit, and before a context."""
    address = c_uint64()
    count = c_int()
    return [
        driver.cuDeviceGetCount(byref(count)),
        driver.cuMemAlloc_v2(byref(address), c_size_t(PAGE)),
        driver.cuInit(0),
        driver.cuDeviceGetCount(byref(count)),
        driver.cuMemAlloc_v2(byref(address), c_size_t(PAGE)),
    ]


def allocation():
    """Nothing for zero bytes, whole pages, out of memory, an address that is not the start."""
    memory, other = c_void_p(), c_void_p()
    found = [runtime.cudaMalloc(byref(memory), c_size_t(0)), memory.value]
    free, total = c_size_t(), c_size_t()
    found += [runtime.cudaMalloc(byref(memory), c_size_t(1))]
    runtime.cudaMemGetInfo(byref(free), byref(total))
    found += [total.value - free.value]
    found += [runtime.cudaMalloc(byref(other), c_size_t(free.value + 1))]
    found += [runtime.cudaPeekAtLastError(), runtime.cudaGetLastError()]
    found += [runtime.cudaGetLastError()]
    found += [runtime.cudaFree(c_void_p(memory.value + 512)), runtime.cudaFree(memory)]
    return [*found, runtime.cudaFree(None)]


def one_page():
    memory = c_void_p()
    return [runtime.cudaMalloc(byref(memory), c_size_t(PAGE))]


def not_simulated():
    """Functions of both libraries that only say so, and a kernel launch, which is counted."""
    function = c_void_p()
    launches = driver.gpuward_simulator_kernel_launches
    runtime.cudaFree(None)
    return [
        driver.cuGraphCreate(None, 0),
        runtime.cudaGraphLaunch(None, None),
        driver.cuGetProcAddress_v2(b"cuGraphCreate", byref(function), 13000, c_uint64(0), None),
        driver.cuGetProcAddress_v2(b"cuNoSuchName", byref(function), 13000, c_uint64(0), None),
        launches(),
        driver.cuLaunchKernel(None, 1, 1, 1, 1, 1, 1, 0, None, None, None),
        launches(),
    ]


def unusable():
    """What a program sees that asks for devices where there is no driver."""
    count = c_int(-1)
    return [runtime.cudaGetDeviceCount(byref(count)), count.value, driver.cuInit(0)]


json.dump(globals()[sys.argv[1]](), sys.stdout)
