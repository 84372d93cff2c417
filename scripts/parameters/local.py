"""Cost of the attacks that use that the rows of the matrix have few ones, and the greedy choice of columns on a real matrix.

Notation as in `lpn.py`, and d: ones in a row; x: share of the columns that is kept. Rows all of whose ones lie in the kept columns
are n x^d many if the columns are chosen at random. Once they are x k, the kept unknowns are found without the others: only x k rows
must be free of errors instead of k, and the system is sparse.

Nothing here is published for these parameters; [Ale03] is where such matrices come from. The functions are own
derivations, tested by carrying the attack out (`test_parameters.py`).
"""

import math

from lpn import log2_binomial, log2_free, log2_sum

MARGIN = 0.1
"""What choosing columns well is taken to save of the random share, where nothing was measured: pessimistic."""


def random_share(s, d):
    """x with n x^d = x k."""
    return (s.k / s.n) ** (1 / (d - 1))


def log2_choices(s, d, x):
    """A bound for log2 of the expected number of choices of x k columns in which at least x k rows lie: k H(x) - n D(x k / n || x^d).

    First moment: C(k, x k) choices, and n rows that lie in one with probability x^d each (Chernoff). For x below `random_share`.
    """
    a, b = x * s.k / s.n, x**d
    entropy = -x * math.log2(x) - (1 - x) * math.log2(1 - x)
    divergence = a * math.log2(a / b) + (1 - a) * math.log2((1 - a) / (1 - b))
    return s.k * entropy - s.n * divergence


def least_share(s, d):
    """x such that no choice of x k columns or fewer is expected to have as many rows inside: below every greedy share."""
    high = random_share(s, d) * (1 - 1e-9)
    return next(x for x in (high * (1 - i / 4000) for i in range(1, 4000)) if log2_choices(s, d, x) < 0)


def system(s, d, x):
    """log2 of the operations of Wiedemann's algorithm on x k equations of d terms. [Wie86]: 2 x k products with the matrix."""
    return math.log2(2 * d) + 2 * math.log2(x * s.k)


def local(s, d, x):
    """x k rows in x k columns, hoped to be free of errors, one sparse system for each try."""
    return -log2_free(x * s.k / s.n, s.t) + system(s, d, x)


def local_statistical(s, d, x):
    """Statistical decoding inside of a share: a parity check of x k + 1 rows has half of them, bias (1 - x k / n)^t, and a linear
    test needs the square of its inverse. The checks are taken as free. As in
    [LWYY22: SDfor2], on the rows inside."""
    return -2 * log2_free(x * s.k / s.n, s.t) + math.log2(x * s.k)


def local_few_errors(s, d, x):
    """The same with p errors among the x k rows, found by two lists: Stern's idea in the local system.

    The columns of the inverse that the check needs come from the same block Wiedemann run and are taken as free; so are the extra
    rows for the check, and that they must be free of errors. As many check bits as the logarithm of a list, so that pairs are as
    many as entries.
    """
    best, share = math.inf, x * s.k / s.n
    for p in range(0, 41, 2):
        lists = log2_binomial(s.t // 2, p // 2) + p / 2 * math.log2(x * s.k / s.t)
        if lists > best:
            break
        chance = 2 * log2_binomial(s.t // 2, p // 2) + p * math.log2(share) + log2_free(share, s.t - p)
        best = min(best, log2_sum(system(s, d, x), lists + math.log2(3)) - chance)
    return best


def local_hybrid(s, d, saved):
    """Guesses and quadratic equations inside of a share of the columns, larger than the least one: a bound.

    In each block r = beta x^d rows lie inside. u of them are guessed to be free of errors, u t linear equations; the others
    give r - u choose 2 products that vanish, and v unknowns need v^2 / 2 of them. Solved in (v^2 / 2)^2, as if each had one
    term. `saved` is what choosing columns well takes off the share.
    """
    best = math.inf
    start = random_share(s, d)
    for i in range(101):
        x = start + (1 - start) * i / 100
        rows = s.beta * x**d
        kept = x - saved
        for j in range(201):
            u = rows * j / 200
            v = max(kept * s.k - s.t * u, 0)
            if v * v > s.t * (rows - u) ** 2:
                continue
            work = max(4 * math.log2(max(v, 2)) - 2, system(s, d, kept))
            best = min(best, work - log2_free(u / s.beta, s.t))
    return best
