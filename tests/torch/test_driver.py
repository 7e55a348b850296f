"""The simulated CUDA driver and runtime by themselves, called as C libraries."""

from __future__ import annotations

import os
import sys

import pytest

pytestmark = pytest.mark.simulator

MIB = 1 << 20
SUCCESS = 0
INVALID_VALUE = 1
OUT_OF_MEMORY = 2
NOT_INITIALIZED = 3
NO_DEVICE = 100
INVALID_DEVICE = 101
INVALID_CONTEXT = 201
NOT_FOUND = 500
NOT_SUPPORTED = 801


def call(node, name, **environment):
    return node.run("driver.py", name, python=sys.executable, **environment)


def test_virtual_memory(bare_node):
    """Memory counts from its creation until it is both released and unmapped."""
    assert call(bare_node, "virtual_memory") == [
        SUCCESS,  # reserve
        *(SUCCESS, 4 * MIB),  # create
        SUCCESS,  # map
        SUCCESS,  # allow access
        *(SUCCESS, 7),  # write, read
        *(SUCCESS, 4 * MIB),  # release: still mapped
        *(SUCCESS, 0),  # unmap
        SUCCESS,  # free the addresses
    ]


def test_virtual_memory_misuse(bare_node):
    """What CUDA refuses is refused; what is not simulated says so."""
    assert call(bare_node, "virtual_memory_misuse") == [
        NOT_SUPPORTED,  # one memory at two places
        INVALID_VALUE,  # beyond the reserved range
        SUCCESS,
        INVALID_VALUE,  # released twice
        INVALID_VALUE,  # not whole pages
        INVALID_DEVICE,
    ]


def test_without_context(bare_node):
    """The driver wants cuInit, then a context."""
    assert call(bare_node, "without_context") == [
        NOT_INITIALIZED,
        NOT_INITIALIZED,
        SUCCESS,
        SUCCESS,
        INVALID_CONTEXT,
    ]


def test_allocation(bare_node):
    """The runtime makes its context itself, counts 2 MiB pages and keeps the last error."""
    assert call(bare_node, "allocation") == [
        *(SUCCESS, None),
        *(SUCCESS, (520 + 2) * MIB),
        OUT_OF_MEMORY,
        *(OUT_OF_MEMORY, OUT_OF_MEMORY, SUCCESS),
        *(INVALID_VALUE, SUCCESS),
        SUCCESS,
    ]


def test_other_processes_count(bare_node):
    """Memory is out when the GPU is full, whoever filled it."""
    everything_but_a_context = (8192 - 512 - 520) * MIB
    assert bare_node.state.take(0, os.getpid(), everything_but_a_context - 2 * MIB)
    fits = call(bare_node, "one_page")
    assert bare_node.state.take(0, os.getpid(), 1)
    is_full = call(bare_node, "one_page")

    assert (fits, is_full) == ([SUCCESS], [OUT_OF_MEMORY])


def test_not_simulated(bare_node):
    """Every declared name exists; calling one that is not simulated returns an error."""
    assert call(bare_node, "not_simulated") == [
        NOT_SUPPORTED,
        NOT_SUPPORTED,
        SUCCESS,
        NOT_FOUND,
        *(0, SUCCESS, 1),
    ]


def test_no_state_file(bare_node):
    """Outside a simulation the libraries report no device, as without a GPU."""
    assert call(bare_node, "unusable", GPUWARD_SIM_STATE="/nowhere") == [
        *(NO_DEVICE, 0),
        NO_DEVICE,
    ]
