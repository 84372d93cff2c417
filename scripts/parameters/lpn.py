"""Cost of the attacks on LPN with regular noise that take the matrix for a random one.

Notation, that of [LWYY22] and [BO23]:

    n       samples (length of the code)          k       unknown bits (its dimension)
    t       errors, one in each block of beta     beta    samples in a block, n / t
    p, l    errors and extra rows of an ISD       q       probability of an event in one try
    f, mu   blocks, and places in each of them, that are guessed to be free of errors

All costs are log2 of operations: bit operations, or multiplications in GF(2), as the source counts them. Every function names its
source: the paper, and after a colon the function of its authors' estimator that has the formula. Where it departs from it, it is
never above it. Keys resolve in README.md.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

OMEGA = 2.8
"""Exponent of elimination by Strassen's algorithm, as in [LWYY22]."""


@dataclass(frozen=True)
class Lpn:
    """n samples in t blocks with one error each, k unknown bits."""

    n: int
    k: int
    t: int

    def __post_init__(self):
        if not (0 < self.t <= self.k < self.n and self.n % self.t == 0):
            raise ValueError(f"0 < t <= k < n and t must divide n, not {self}")

    @property
    def beta(self):
        return self.n // self.t


def log2_binomial(n, k):
    """log2 of n over k; minus infinity outside of 0 <= k <= n. n may be a real number."""
    if k < 0 or k > n:
        return -math.inf
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def log2_sum(*logs):
    """log2 of the sum of 2^log."""
    top = max(logs)
    return top if math.isinf(top) else top + math.log2(sum(2.0 ** (x - top) for x in logs))


def log2_free(share, blocks=1.0):
    """log2 of the probability that `blocks` errors all miss a share of their blocks."""
    return blocks * math.log2(1 - share) if share < 1 else -math.inf


# Dense attacks -----------------------------------------------------------------------------------------------------------------


def gauss(s):
    """Pooled Gauss: k rows taken evenly from the blocks, hoped to be free of errors; elimination in k^2.8. [EKM17],
    [LWYY22: Gauss].

    The t known parities of whole blocks (each has one error) take t unknowns away ([LWYY22: analysisfor2regular],
    [ES24: k_prime]).
    """
    k = s.k - s.t
    return -log2_free(k / s.n, s.t) + OMEGA * math.log2(k)


def gauss_as_published(s):
    """The same with all k unknowns, as emp-ot's authors count it; for comparison only."""
    return -log2_free(s.k / s.n, s.t) + OMEGA * math.log2(s.k)


def statistical(s):
    """Statistical decoding: parity checks of weight k + 1 are free, the noise leaves each a
    bias of ((n - k - t) / (n - t + 1))^t, and a test needs the square of its inverse. [LWYY22: SDfor2]."""
    return _statistical(s.n - s.t, s.k - s.t, s.t)


def statistical_2(s):
    """Statistical decoding 2.0: as many unknowns are guessed as pooled Gauss costs. [CDMT22],
    [LWYY22: SD2for2].

    [CDMT22] leaves s unknowns in the checks and finds all of them by a fast Fourier transform of size 2^s; s is set to the cost of
    the best attack, which makes the transform free.
    """
    guessed = math.floor(gauss(s))
    return _statistical(s.n - s.t, s.k - s.t - guessed, s.t)


def _statistical(n, k, t):
    return math.log2(k + 1) + 2 * t * math.log2((n - t + 1) / (n - k - t))


# Information set decoding ------------------------------------------------------------------------------------------------------


def stern(s):
    """Stern and Dumer's ISD on exact noise of n - t samples and k - t unknowns. [LWYY22:
    SD_ISD, analysisfor2regular], [HS13]."""
    n, k, t = s.n - s.t, s.k - s.t, s.t
    best = math.inf
    for p in range(0, min(t, 40), 2):
        list_bits = log2_binomial(k / 2, p // 2)
        if list_bits > best:
            break
        for l in range(0, math.ceil(2 * list_bits) + 2):
            lists = log2_binomial((k + l) / 2, p // 2)
            pairs = 2 * lists - l
            elimination = math.log2((n - k - l) * n / math.log2(n - k - l))
            work = math.log2(n) + log2_sum(elimination, 1 + lists, 1 + pairs)
            chance = log2_binomial(n - k - l, t - p) - log2_binomial(n, t) + 2 * lists
            best = min(best, work - min(chance, 0.0))
    return best


def bjmm(s):
    """ISD by representations with 1 + 1 = 0, on exact noise of n - t samples and k - t unknowns. [LWYY22: BJMM_ISD], [HS13]."""
    n, k, t, best = s.n - s.t, s.k - s.t, s.t, math.inf
    for p2 in range(2, 9, 2):
        for e2 in range(p2):
            p1 = 2 * (p2 - e2)
            for e1 in range(max(0, p1 - t // 2), p1):
                low, high = 1, min(600, n - k - t - 2)
                while high - low > 2:
                    third = (high - low) // 3
                    left, right = (_bjmm_try(n, k, t, p2, e2, e1, l) for l in (low + third, high - third))
                    low, high = (low + third, high) if left > right else (low, high - third)
                around = range(max(1, low - 3), high + 4)
                best = min(best, *(_bjmm_try(n, k, t, p2, e2, e1, l) for l in around))
    return best


def _bjmm_try(n, k, t, p2, e2, e1, l):
    """Cost with p2, p1 and p errors in sums of two lists, of which e2 and e1 cancel from level to level, and l extra rows. The bits
    r1, r2 on which sums must agree are as many as a solution has representations."""
    p1 = 2 * (p2 - e2)
    p, size = 2 * (p1 - e1), k + l
    smallest = log2_binomial(size / 2, p2 // 2)
    overlap2 = log2_binomial(p2, e2) + log2_binomial(size - p2, p2 - e2) - log2_binomial(size, p2)
    overlap1 = log2_binomial(p1, e1) + log2_binomial(size - p1, p1 - e1) - log2_binomial(size, p1)
    r2 = min(max(int(overlap2 + 4 * smallest - log2_binomial(size, p1)), 0), l - 1)
    r1 = int(overlap1 + 2 * log2_binomial(size, p1) - log2_binomial(size, p)) - r2
    r1 = min(max(r1, 0), l - r2 - 1)
    third = 2 * smallest - r2
    second = 2 * third - r1
    kept = min(overlap2 + second, log2_binomial(size, p1) - r1 - r2)
    first = 2 * kept - l + r1 + r2
    found = min(overlap1 + first, log2_binomial(size, p) - l)
    elimination = math.log2((n - size) * n / math.log2(n - size))
    work = math.log2(n) + log2_sum(elimination, 3 + smallest, 2 + third, 1 + second, 1 + first)
    chance = log2_binomial(n - size, t - p) - log2_binomial(n, t) + l + found
    return work - min(chance, 0.0)


def regular_permutation(s):
    """Regular ISD by permutations: Prange with the same number of places in each block. [ES24,
    A.1: permutation_based_concrete_cost]."""
    k = s.k - s.t
    return 2 * math.log2(s.n - k) + math.log2(s.n) - log2_free(k / s.n, s.t)


def regular_enumeration(s):
    """Regular ISD by enumeration: Stern's, with v places of each block in the information set. [ES24, A.1:
    enumeration_based_concrete_cost]."""
    k, best = s.k - s.t, math.inf
    for p in range(0, min(s.t, 40), 2):
        approximate = log2_binomial(s.t // 2, p // 2) + p / 2 * math.log2(k / s.t)
        if approximate > best:
            break
        for l in range(0, math.ceil(2 * approximate) + 2):
            v = (k + l) / s.t
            if v >= s.beta:
                break
            lists = log2_binomial(s.t // 2, p // 2) + p / 2 * math.log2(v)
            work = math.log2(s.n) + max(2 * math.log2(s.n - k), 1 + lists, 2 * lists - l)
            best = min(best, work - _regular_chance(s, p, v / s.beta))
    return best


def regular_representation(s):
    """Regular ISD by representations, two levels. [ES24, A.1: representation_based_concrete_cost_depth_2]."""
    k, best = s.k - s.t, math.inf
    half = s.t // 2
    for p in range(0, min(s.t, 40), 4):
        for extra in range(0, 12, 2):
            weight = p // 2 + extra
            if half < p // 2 + extra:
                continue
            approximate = log2_binomial(half, weight / 2) + weight / 2 * math.log2(k / s.t)
            if approximate > best:
                break
            ways = 2 * (log2_binomial(p // 2, p // 4) + log2_binomial(half - p // 2, extra // 2))
            first = math.floor(ways)
            for l in range(first, math.ceil(4 * approximate) + 2):
                v = (k + l) / s.t
                if v >= s.beta:
                    break
                lists = log2_binomial(half, weight / 2) + weight / 2 * math.log2(v)
                middle = 2 * lists - first
                last = 2 * middle - (l - first)
                work = math.log2(s.n) + max(2 * math.log2(s.n - k), 2 + lists, 1 + middle, last)
                best = min(best, work - _regular_chance(s, p, v / s.beta))
    return best


def _regular_chance(s, p, share):
    """log2 of the probability that p errors, half of them in either half of the blocks, lie in a share of each block."""
    halves = log2_binomial(s.t // 2, p // 2) + log2_binomial(s.t - s.t // 2, p // 2)
    return halves + p * math.log2(share) + log2_free(share, s.t - p)


def isd_floor(s):
    """A bound below every ISD with two lists: an iteration costs (k - t)^2 for the elimination, or one list, and nothing else.

    Own bound. No known variant reaches it: checks of pairs, extra rows and the splitting into halves are free. Amortised
    elimination ([BLP08]) needs at least to touch the system once. Representations shorten lists by little while p is a few errors
    among many thousand places.
    """
    k, best = s.k - s.t, math.inf
    share = k / s.n
    for p in range(0, min(s.t, 60)):
        lists = (log2_binomial(s.t, p) + p * math.log2(k / s.t)) / 2
        chance = log2_binomial(s.t, p) + p * math.log2(share) + log2_free(share, s.t - p)
        best = min(best, max(2 * math.log2(k), lists) - chance)
    return best


# Algebraic attacks -------------------------------------------------------------------------------------------------------------


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


ATTACKS = {
    "gauss": gauss,
    "stern": stern,
    "bjmm": bjmm,
    "isd_floor": isd_floor,
    "regular_permutation": regular_permutation,
    "regular_enumeration": regular_enumeration,
    "regular_representation": regular_representation,
    "statistical": statistical,
    "statistical_2": statistical_2,
    "algebraic": algebraic,
    "algebraic_2": algebraic_2,
    "hybrid": hybrid,
    "algebraic_floor": algebraic_floor,
    "hybrid_floor": hybrid_floor,
}
