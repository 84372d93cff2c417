"""The primal attack (uSVP) on RLWE by the textbook estimate: a check of the lattice estimator's figures, not a replacement.

Notation: N ring degree, q modulus, sigma and sigma_s standard deviations of noise and secret, m samples, d = N + m + 1 dimension of
the lattice, beta the block size of BKZ, delta its root Hermite factor. The ring's structure is not used: nothing known gains by it.
"""

import math

SECRETS = {"ternary": math.sqrt(2 / 3), "binary": 0.5}
"""Standard deviation of a coefficient, uniform on -1, 0, 1 or on 0, 1 (shifted to its mean)."""


def log2_delta(beta):
    """log2 of the root Hermite factor of BKZ-beta. [Che13], as in [APS15]."""
    return math.log2(beta / (2 * math.pi * math.e) * (math.pi * beta) ** (1 / beta)) / (2 * (beta - 1))


def least_block(degree, log2_q, log2_sigma, secret):
    """(beta, d): the least block size with sigma sqrt(beta) <= delta^(2 beta - d - 1) Vol^(1/d). [ADPS16], [BG14]
    for the scaling."""
    log2_scale = log2_sigma - math.log2(SECRETS[secret])

    def best(beta):
        """(right side - left side, d) in bits at the best d, where the derivative -slope + ((N + 1) log2 q - N scale) / d^2 is 0."""
        slope = log2_delta(beta)
        d = math.sqrt(((degree + 1) * log2_q - degree * log2_scale) / slope)
        d = max(round(d), degree + 2)
        volume = ((d - degree - 1) * log2_q + degree * log2_scale) / d
        return (2 * beta - d - 1) * slope + volume - log2_sigma - math.log2(beta) / 2, d

    low, high = 50, 4 * degree
    while high - low > 1:
        mid = (low + high) // 2
        low, high = (low, mid) if best(mid)[0] >= 0 else (mid, high)
    return high, best(high)[1]


def usvp(degree, log2_q, log2_sigma, secret):
    """log2 of operations of the primal attack, sieving as [BDGL16] (0.292 beta + 16.4) in each of 8 d calls. [APS15]."""
    beta, d = least_block(degree, log2_q, log2_sigma, secret)
    return 0.292 * beta + 16.4 + math.log2(8 * d)


def core_svp(degree, log2_q, log2_sigma, secret):
    """log2 of one call alone, without lower-order terms: 0.292 beta. [ADPS16]."""
    return 0.292 * least_block(degree, log2_q, log2_sigma, secret)[0]


def tuniform_log2_sigma(bound):
    """TUniform(b): uniform on -2^b..2^b, both ends with half the weight; its variance is (2^(2b+1) + 1) / 6."""
    return math.log2((2.0 ** (2 * bound + 1) + 1) / 6) / 2
