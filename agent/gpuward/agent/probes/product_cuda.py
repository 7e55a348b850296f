"""Probe the tensor cores of a GPU with a product of two matrices, and check what comes out.

For a person who asks, never by schedule: it takes the whole GPU for some milliseconds.  A card that
computes slowly at a full clock shows here, and so does one that computes wrongly and says nothing:
the elements are small whole numbers, so that every sum is exact in whatever order it is made.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from gpuward.agent.probes.card import TO_DEVICE, TO_HOST, card
from gpuward.agent.probes.figure import Figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuward.agent.probes.card import Card
    from gpuward.agent.probes.figure import Meter

    Matrix = NDArray[np.float32]

SIDE = 2_048
# Of the grid, and threads of a block: ``product.cu``.
TILE, THREADS = 64, 128
PRODUCTS = 4
OPERATIONS = 2 * SIDE**3
HALF_BYTES = 2
MATRIX_BYTES = SIDE * SIDE * HALF_BYTES


def run(meter: Meter) -> list[Figure]:
    """Return how fast four products were, after one that does not count, and how many were wrong.

    ``product_error_ratio`` is the share of rows and columns whose sum is not what it must be.
    """
    gpu = card()
    first, second = _put_matrices(gpu, meter)
    seconds = [_product_s(gpu, meter) for _ in range(1 + PRODUCTS)][1:]
    made = _read_product(gpu, meter)
    return [
        Figure("product_seconds", median(seconds)),
        Figure("product_operations_per_second", OPERATIONS / median(seconds)),
        Figure("product_error_ratio", error_ratio(first, second, made)),
    ]


def matrices() -> tuple[Matrix, Matrix]:
    """Return both: -1 to 1 in one, -2 to 2 in the other, no row or column like its neighbour."""
    place = np.arange(SIDE)
    first = (place[:, None] + place) % 3 - 1
    second = (2 * place[:, None] + place) % 5 - 2
    return first.astype(np.float32), second.astype(np.float32)


def error_ratio(first: Matrix, second: Matrix, made: Matrix) -> float:
    """Return the share of wrong rows and columns of ``made``, which is first by second transposed.

    A row's sum is the row by the sum of the other matrix's rows: exact, and a thousand times less
    work than the product itself.
    """
    rows = made.sum(axis=1, dtype=np.float64) != first.astype(np.float64) @ second.sum(axis=0)
    columns = made.sum(axis=0, dtype=np.float64) != second.astype(np.float64) @ first.sum(axis=0)
    return float(np.concatenate((rows, columns)).mean())


def _put_matrices(gpu: Card, meter: Meter) -> tuple[Matrix, Matrix]:
    first, second = matrices()
    room = np.frombuffer(gpu.host, np.float16, 2 * SIDE * SIDE).reshape(2, SIDE, SIDE)
    room[0], room[1] = first, second
    gpu.timed(lambda: gpu.copy(gpu.left.ptr, gpu.pinned.ptr, 2 * MATRIX_BYTES, TO_DEVICE), meter)
    return first, second


def _product_s(gpu: Card, meter: Meter) -> float:
    kernel = gpu.kernel("product")
    left = gpu.left.ptr
    arguments = (
        *(np.uint64(at) for at in (left, left + MATRIX_BYTES, gpu.right.ptr)),
        np.int32(SIDE),
    )
    grid = (SIDE // TILE, SIDE // TILE)
    return gpu.timed(lambda: kernel(grid, (THREADS,), arguments), meter)[1]


def _read_product(gpu: Card, meter: Meter) -> Matrix:
    size = SIDE * SIDE
    gpu.timed(lambda: gpu.copy(gpu.pinned.ptr, gpu.right.ptr, 4 * size, TO_HOST), meter)
    return np.frombuffer(gpu.host, np.float32, size).reshape(SIDE, SIDE)
