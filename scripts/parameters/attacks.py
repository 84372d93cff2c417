"""All attacks that take the matrix of LPN for a random one, by name."""

import equations
import lpn

ATTACKS = {
    "gauss": lpn.gauss,
    "stern": lpn.stern,
    "bjmm": lpn.bjmm,
    "regular_permutation": lpn.regular_permutation,
    "regular_enumeration": lpn.regular_enumeration,
    "regular_representation": lpn.regular_representation,
    "statistical": lpn.statistical,
    "statistical_2": lpn.statistical_2,
    "algebraic": equations.algebraic,
    "algebraic_2": equations.algebraic_2,
    "hybrid": equations.hybrid,
}
"""What the papers describe."""

BOUNDS = {
    "isd_floor": lpn.isd_floor,
    "algebraic_floor": equations.algebraic_floor,
    "hybrid_floor": equations.hybrid_floor,
}
"""Below the attacks of a kind, and no attacks."""
