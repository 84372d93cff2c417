"""Cost of the attacks by linear algebra on LPN with regular noise that take the matrix for a random one.

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
