"""How well columns can be chosen on a matrix of full size: columns of least degree are removed, one at a time.

    python3 scripts/parameters/greedy.py N K D [SEED]        minutes, 0.5 GB for n = 4,792,320

A column's degree is the number of rows left that have a one there; removing it removes these rows. The result is the smallest share
of columns with which at least as many rows are left as columns. The matrix has D uniform columns in each row, from the generator of
the standard library: the distribution of `mpc/src/correlation/ot/lpn.rs`, but that a column that occurs twice in a row (one row in 5,800 at
k = 2^18) counts once here and cancels there.
"""

import random
import sys
from array import array


def random_rows(n, k, d, seed):
    """d columns below k, a power of two, for each of n rows, row after row. For other k by rejection."""
    generator, mask = random.Random(seed), (1 << (k - 1).bit_length()) - 1
    columns = array("I")
    while len(columns) < n * d:
        words = array("I")
        words.frombytes(generator.randbytes(4 * min(1 << 20, n * d + 64)))
        columns.extend(array("I", [word & mask for word in words if word & mask < k]))
    return columns[: n * d]


def peel(columns, n, k, d):
    """Removes columns of least degree while as many rows are left as columns; returns (removed, kept, number of rows left).

    The order is kept in buckets by degree, as for the cores of a graph: a column that loses a row swaps its place with the first of
    its bucket, which then starts one later.
    """
    starts, entries, degrees = _rows_of_columns(columns, n, k, d)
    order = array("I", sorted(range(k), key=degrees.__getitem__))
    place = array("I", bytes(4 * k))
    for position, column in enumerate(order):
        place[column] = position
    first = [0] * (max(degrees) + 2)
    for degree in degrees:
        first[degree + 1] += 1
    for degree in range(1, len(first)):
        first[degree] += first[degree - 1]

    alive = bytearray(b"\1") * n
    rows = n
    for position in range(k):
        column = order[position]
        if rows - degrees[column] < k - position - 1:
            break
        first[degrees[column]] = position + 1
        for entry in range(starts[column], starts[column + 1]):
            row = entries[entry]
            if not alive[row]:
                continue
            alive[row] = 0
            rows -= 1
            for other in set(columns[row * d : row * d + d]):
                if place[other] <= position:
                    continue
                degree = degrees[other]
                here = place[other]
                start = max(first[degree], position + 1)
                front = order[start]
                order[start], order[here] = other, front
                place[other], place[front] = start, here
                first[degree] = start + 1
                if first[degree - 1] <= position:
                    first[degree - 1] = position + 1
                degrees[other] = degree - 1
    return order[:position], order[position:], rows


def _rows_of_columns(columns, n, k, d):
    """(starts, entries, degrees): entries[starts[c]..starts[c + 1]] are the rows with a one in column c."""
    degrees = array("I", bytes(4 * k))
    repeated = {row for row in range(n) if len(set(columns[row * d : row * d + d])) < d}
    for column in columns:
        degrees[column] += 1
    for row in repeated:
        here = columns[row * d : row * d + d]
        for column in set(here):
            degrees[column] -= here.count(column) - 1
    starts = array("Q", bytes(8 * (k + 1)))
    for column in range(k):
        starts[column + 1] = starts[column] + degrees[column]
    free = array("Q", starts[:k])
    entries = array("I", bytes(4 * starts[k]))
    for row in range(n):
        here = columns[row * d : row * d + d]
        for column in set(here) if row in repeated else here:
            entries[free[column]] = row
            free[column] += 1
    return starts, entries, degrees


def greedy_share(n, k, d, seed=1):
    """The share of columns that is left, and the rows left for each of them."""
    _, kept, rows = peel(random_rows(n, k, d, seed), n, k, d)
    return len(kept) / k, rows / len(kept)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    if len(numbers) not in (3, 4):
        sys.exit(__doc__)
    share, rows = greedy_share(*numbers)
    print(f"share {share:.4f}, {rows:.4f} rows for each column")
