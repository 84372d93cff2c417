"""Cost of the attacks by quadratic and other equations on LPN with regular noise: two errors never lie in one block.

Notation as in `lpn.py`, and the same rule for sources.
"""

import math
from functools import lru_cache

from lpn import log2_free, log2_sum


def _rising(m, i):
    """Coefficient of z^i in 1 / (1 + z)^m."""
    product = 1
    for j in range(i):
        product *= m + j
    return (-1) ** i * product // math.factorial(i)


def _block_series(s, f, mu, top):
    """Coefficients of (1 + (beta - mu - 1) z)^f (1 + (beta - 1) z)^(t - f) up to z^top: monomials by
    degree. [BO23], [LWYY22: subAGBfor2]."""
    a, b = s.beta - mu - 1, s.beta - 1
    left = [math.comb(f, i) * a**i for i in range(top + 1)]
    right = [math.comb(s.t - f, i) * b**i for i in range(top + 1)]
    return [sum(left[j] * right[i - j] for j in range(i + 1)) for i in range(top + 1)]


@lru_cache(maxsize=None)
def _checks_series(s, top):
    """Coefficients of 1 / (1 + z)^(n - k) up to z^top: one factor for each parity check."""
    return [_rising(s.n - s.k, i) for i in range(top + 1)]


def _hilbert(blocks, checks, degree):
    """Coefficient of z^degree of the Hilbert series over GF(2), blocks / (1 + z)^(n - k). [BO23];
    [LWYY22: subsubAGBfor2] has n - k - 1 instead, one equation fewer."""
    return sum(blocks[i] * checks[degree - i] for i in range(degree + 1))


def _is_enough(blocks, checks, degree):
    """Whether that degree is taken as enough: some coefficient up to it is not positive, or some sum from degree 1 on. 
    [AGB25: degree_conjfor2] asks for the second, [LWYY22: subsubAGBfor2] for the first."""
    total = 0
    for i in range(1, degree + 1):
        coefficient = _hilbert(blocks, checks, i)
        total += coefficient
        if coefficient <= 0 or total <= 0:
            return True
    return False


TOP_DEGREE = 4
"""Highest degree of a Macaulay matrix that is tried; degree 5 has more than 2^150 entries for any set of interest."""


@lru_cache(maxsize=None)
def _least_mu(s, f, degree):
    """Fewest guessed places in each of f blocks with which that degree is enough, or None."""
    top = min(s.beta - 1, s.k // f) if f else 0
    checks = _checks_series(s, TOP_DEGREE)

    def enough(mu):
        return _is_enough(_block_series(s, f, mu, degree), checks, degree)

    if not enough(top):
        return None
    low, high = -1, top
    while high - low > 1:
        mid = (low + high) // 2
        low, high = (low, mid) if enough(mid) else (mid, high)
    return high


def algebraic(s):
    """See `_algebraic`, with 3 (k + 1 - f mu) operations for each entry of a vector and step of
    Wiedemann's algorithm. [LWYY22: subAGBfor2]."""
    return _algebraic(s, lambda guessed: 3 * (s.k + 1 - guessed))


def algebraic_floor(s):
    """A bound below it: one operation instead, as if equations had one term, which sparse rows do not give either. Own bound."""
    return _algebraic(s, lambda guessed: 1)


def _algebraic(s, terms):
    """Briaud and Oygarden: guess, then linear algebra on the Macaulay matrix of the witness degree.
    [BO23], [LWYY22: AGBfor2].

    M^2 times the terms of an equation, M monomials up to the degree. The degree is taken as enough by the earliest of the
    criteria in use. For given f and degree the cost rises with mu while t > 2 degree: another place costs f / (beta - mu), in units of
    log2(e), and takes at most 2 degree f / (t (beta - mu - 1)) off M^2. So the least mu is tried, and the last for what is left.
    """
    best = math.inf
    for f in range(0, s.t + 1):
        for degree in range(2, TOP_DEGREE + 1):
            least = _least_mu(s, f, degree)
            if least is None:
                continue
            for mu in {least, min(s.beta - 1, s.k // f) if f else 0}:
                monomials = sum(_block_series(s, f, mu, degree)[1:])
                work = 2 * math.log2(max(monomials, 1)) + math.log2(terms(f * mu))
                best = min(best, work - log2_free(mu / s.beta, f))
    return best


def algebraic_2(s):
    """AGB 2.0: a few guesses first, elimination of what is common, the other guesses on the
    rest. [AGB25: subOurAGB2for2].

    The estimator tries pairs of nested guesses; here the second guess is the cheapest that reaches the degree at all, whether it
    contains the first or not, so that this is at most its result. Both eliminations as there: the first in
    min(5.64 M^2.8, M r^2 / log2 r), the second in 5.64 min(M - r, r)^2.8, for rank r of M monomials.
    """
    best = math.inf
    checks = _checks_series(s, TOP_DEGREE)
    steps = sorted({round(s.t * i / 128) for i in range(129)})
    for degree in range(2, TOP_DEGREE + 1):
        second = math.inf
        for f in range(1, s.t + 1):
            mu = _least_mu(s, f, degree)
            if mu is not None:
                second = min(second, -log2_free(mu / s.beta, f))
        if second == math.inf:
            continue
        for f in steps:
            top = min(s.beta - 1, s.k // f) if f else 0
            for mu in sorted({round(top * i / 64) for i in range(65)}):
                series = _block_series(s, f, mu, degree)
                monomials = sum(series[1:])
                left = sum(_hilbert(series, checks, i) for i in range(1, degree + 1))
                left = min(max(left, 1), monomials)
                rank = max(monomials - left, 2)
                whole = math.log2(max(monomials, 1))
                first = min(2.8 * whole + math.log2(5.64), whole + 2 * math.log2(rank) - math.log2(math.log2(rank) + 1e-9))
                rest = math.log2(5.64) + 2.8 * math.log2(min(left, rank))
                total = log2_sum(max(first, 0) - log2_free(mu / s.beta, f), max(rest, 0) + second)
                best = min(best, total)
    return best


def hybrid(s):
    """Guessing and quadratic equations. [WWYL25: hybrid_2_quick].

    u places in every block but g are guessed to be free of errors (u + 1 in f of them), the error in g blocks is enumerated, and
    the v unknowns left solve m quadratic equations (products of two places of one block) by linearisation.
    """
    return _hybrid(s, lambda v, n0, w: (
        4 * math.log2(v) + 2 * math.log2(n0) - 3 - math.log2(math.log2(max(v * v / 2, 2))),
        math.log2(1.25 * (2 * v * v * w + v * w * w) + (2.5 * v) ** 3 / math.log2(max(2.5 * v, 2)))))


def hybrid_floor(s):
    """A bound below it and its likes: the linearised system is solved in (v^2 / 2)^2, once for all enumerated errors.

    Own bound. What sparse linear algebra would cost if each equation had one term: with rows of 10 ones an attacker may hope for
    about a hundred terms and Wiedemann's algorithm.
    """
    return _hybrid(s, lambda v, n0, w: (4 * math.log2(v) - 2, 0.0))


def _hybrid(s, solve):
    """Least cost over (u, f, g); solve(v, n0, w) gives log2 of the work once, and of the work per enumerated error."""
    n, k, t, beta = s.n, s.k, s.t, s.beta
    best = math.inf
    for g in range(0, t):
        if g * math.log2(beta) > best:
            break
        for u in range(0, beta - 2):
            base = -log2_free(u / beta, t - g)
            if base > best:
                break
            for f in _hybrid_guesses(s, u, g):
                guess = -log2_free((u + 1) / beta, f) - log2_free(u / beta, t - g - f)
                n0 = k - t - (u + 1) * f - (t - f - g) * u
                w = (beta - 1) * g
                v = n0 - w
                rows = n - k - (n - k) // (beta - 1) * (beta - u - 2)
                first = math.log2(max(rows, 1)) + math.log2(n - k) + math.log2(max(rows + max(n0, 0), 1))
                once, each = solve(v, n0, w) if v > 0 else (0.0, 0.0)
                work = log2_sum(first, max(once, 0.0), max(each, 0.0) + g * math.log2(beta))
                best = min(best, guess + work)
    return best


def _hybrid_guesses(s, u, g):
    """Numbers f worth a try: the least with enough equations, v <= sqrt(2 m) - 2, the least that leaves no unknown, all blocks, and
    one between. Guesses cost the same for each block, work falls with the logarithm of v: concave, so least at an end."""
    blocks, beta = s.t - g, s.beta

    def enough(f):
        v = s.k - s.t - (u + 1) * f - (blocks - f) * u - (beta - 1) * g
        m2 = (blocks - f) * (beta - u - 2) * (beta - u - 1) + f * (beta - u - 2) * (beta - u - 3)
        return v <= math.sqrt(max(m2, 0)) - 2

    if not enough(blocks):
        return []
    low, high = -1, blocks
    while high - low > 1:
        mid = (low + high) // 2
        low, high = (low, mid) if enough(mid) else (mid, high)
    none_left = s.k - s.t - blocks * u - (beta - 1) * g
    return sorted({high, (high + blocks) // 2, min(max(none_left, high), blocks), blocks})
