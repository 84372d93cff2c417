"""Tests: python3 -m unittest discover -s scripts/parameters

Figures are pinned, monotonicity is checked, and the local attack is carried out on small instances.
"""

import json
import math
import random
import unittest
from dataclasses import replace

import check
import equations
import greedy
import local
import lpn
import rlwe
from attacks import ATTACKS, BOUNDS

LATER = lpn.Lpn(3_522_560, 1 << 18, 1_720)
LARGER = lpn.Lpn(4_792_320, 1 << 18, 2_340)
FIRST = lpn.Lpn(1 << 20, 1 << 18, 512)
FORMER = lpn.Lpn(2_396_160, 1 << 17, 1_170)
"""What emp-ot ships for large batches."""

ONES = 10

ALL = {**ATTACKS, **BOUNDS}


class Dense(unittest.TestCase):
    def assert_figures(self, s, expected, tolerance):
        for name, figure in expected.items():
            with self.subTest(name):
                self.assertAlmostEqual(ALL[name](s), figure, delta=tolerance)

    def test_the_estimator_of_the_attacks_authors_agrees(self):
        """Results of github.com/1234wangtr/Code_estimators, commit 41e013c, for the same problems (regular noise, GF(2))."""
        expected = {"regular_permutation": 157.50, "regular_enumeration": 136.46, "gauss": 141.72, "statistical": 205.34,
                    "statistical_2": 205.13, "stern": 135.03, "bjmm": 132.47, "hybrid": 128.19}
        self.assert_figures(FORMER, expected, 0.15)
        expected = {"regular_permutation": 271.19, "regular_enumeration": 247.58, "gauss": 262.59, "statistical": 442.52,
                    "statistical_2": 442.02, "stern": 244.39}
        self.assert_figures(FIRST, expected, 0.25)
        expected = {"hybrid": 110.50, "regular_permutation": 127.90, "regular_enumeration": 109.31, "regular_representation": 107.88}
        self.assert_figures(lpn.Lpn(1_000, 600, 100), expected, 0.01)
        expected = {"hybrid": 102.08, "algebraic": 120.75, "algebraic_2": 115.57, "regular_permutation": 116.95,
                    "regular_enumeration": 97.07, "regular_representation": 96.65, "bjmm": 98.43}
        self.assert_figures(lpn.Lpn(4_096, 1_600, 128), expected, 0.1)

    def test_the_algebraic_attacks_are_no_dearer_than_their_authors_have_it(self):
        """The same estimator's figures for AGB and AGB 2.0; ours take the earliest criterion for the degree, or freer guesses."""
        for s, first, second in ((lpn.Lpn(1_000, 600, 100), 134.71, 129.05), (lpn.Lpn(4_096, 1_600, 128), 120.75, 115.57)):
            self.assertLessEqual(equations.algebraic(s), first)
            self.assertGreater(equations.algebraic(s), first - 1)
            self.assertLessEqual(equations.algebraic_2(s), second)
            self.assertGreater(equations.algebraic_2(s), second - 1.5)

    def test_figures_are_what_they_were(self):
        self.assert_figures(LARGER, {"gauss": 238.5, "stern": 228.1, "bjmm": 224.6, "regular_enumeration": 228.5, "regular_representation": 232.3,
                                    "statistical_2": 394.3, "algebraic": 210.2, "algebraic_2": 207.3, "hybrid": 204.6,
                                    "isd_floor": 200.5, "hybrid_floor": 174.4}, 0.1)
        self.assert_figures(FIRST, {"algebraic": 272.1, "algebraic_2": 266.5, "hybrid": 256.8, "isd_floor": 223.0,
                                    "hybrid_floor": 228.4}, 0.1)
        self.assert_figures(FORMER, {"algebraic": 144.3, "algebraic_2": 135.6, "hybrid": 128.2}, 0.1)
        self.assertAlmostEqual(lpn.gauss_as_published(LARGER), 240.3, delta=0.1)
        self.assertAlmostEqual(lpn.gauss_as_published(FORMER), 142.6, delta=0.1)

    def test_more_errors_or_unknowns_are_harder_and_more_samples_easier(self):
        for name, attack in ALL.items():
            base = attack(FORMER)
            with self.subTest(name):
                # The same blocks, more of them and as many more unknowns: n, k and t grow together.
                self.assertGreater(attack(lpn.Lpn(2 * FORMER.n, 2 * FORMER.k, 2 * FORMER.t)), base)
                # As many samples in twice the blocks: twice the errors.
                self.assertGreater(attack(replace(FORMER, t=2 * FORMER.t)), base)
                self.assertGreater(attack(replace(FORMER, k=2 * FORMER.k)), base)
                # Twice the blocks for the same unknowns.
                self.assertLess(attack(lpn.Lpn(2 * FORMER.n, FORMER.k, 2 * FORMER.t)), base + 1.5)

    def test_floors_are_below_what_they_bound(self):
        for s in (FIRST, LATER, FORMER):
            lists = (lpn.stern, lpn.bjmm, lpn.regular_enumeration, lpn.regular_representation, lpn.regular_permutation, lpn.gauss)
            self.assertLess(lpn.isd_floor(s), min(attack(s) for attack in lists))
            self.assertLess(equations.hybrid_floor(s), equations.hybrid(s))
            self.assertLess(equations.algebraic_floor(s), equations.algebraic(s))

    def test_the_short_cuts_of_the_algebraic_attack_miss_nothing(self):
        s = lpn.Lpn(1_600, 500, 40)
        checks, best = equations._checks_series(s, equations.TOP_DEGREE), math.inf
        for f in range(s.t + 1):
            for mu in range(s.beta) if f else (0,):
                if f * mu > s.k:
                    continue
                for degree in range(2, equations.TOP_DEGREE + 1):
                    series = equations._block_series(s, f, mu, degree)
                    if equations._is_enough(series, checks, degree):
                        work = 2 * math.log2(max(sum(series[1:]), 1)) + math.log2(3 * (s.k + 1 - f * mu))
                        best = min(best, work - lpn.log2_free(mu / s.beta, f))
        self.assertAlmostEqual(equations.algebraic(s), best, places=6)

    def test_impossible_problems_are_refused(self):
        for n, k, t in ((100, 100, 10), (100, 50, 60), (100, 50, 7), (100, 50, 0)):
            with self.assertRaises(ValueError):
                lpn.Lpn(n, k, t)


class Local(unittest.TestCase):
    def test_figures_are_what_they_were(self):
        for s, x, expected in ((LARGER, 0.7243, (175.8, 155.5)), (LARGER, 0.62, (155.3, 136.0)), (FIRST, 0.8572, (218.0, 195.6)),
                               (FORMER, 0.7243, (105.6, 89.3)), (FORMER, 0.6214, (95.3, 79.8))):
            self.assertAlmostEqual(local.local(s, ONES, x), expected[0], delta=0.15)
            self.assertAlmostEqual(local.local_few_errors(s, ONES, x), expected[1], delta=0.15)

    def test_shares_are_in_order(self):
        for s in (FIRST, LATER, FORMER):
            random_share = local.random_share(s, ONES)
            self.assertAlmostEqual(s.n * random_share**ONES, random_share * s.k, delta=1e-6 * s.n)
            self.assertLess(local.least_share(s, ONES), random_share - local.MARGIN)

    def test_no_smaller_share_may_exist(self):
        """The count is below one for every smaller share too, so that the least share is one."""
        for s in (FIRST, LATER):
            least = local.least_share(s, ONES)
            for i in range(1, 1_000):
                self.assertLess(local.log2_choices(s, ONES, least * i / 1_000), 0)
            self.assertGreater(local.log2_choices(s, ONES, least * 1.01), 0)

    def test_more_ones_and_fewer_samples_are_harder(self):
        def cost(s, d):
            return local.local(s, d, local.random_share(s, d))

        self.assertGreater(cost(LATER, ONES + 1), cost(LATER, ONES))
        self.assertGreater(cost(lpn.Lpn(LATER.n // 2, LATER.k, LATER.t // 2), ONES), cost(LATER, ONES))

    def test_quadratic_equations_inside_of_a_share_gain_next_to_nothing(self):
        for s in (FIRST, LATER):
            bound = local.local_hybrid(s, ONES, local.MARGIN)
            self.assertAlmostEqual(bound, local.local(s, ONES, local.random_share(s, ONES) - local.MARGIN), delta=1.0)


class Greedy(unittest.TestCase):
    def test_every_column_that_is_removed_has_the_least_degree(self):
        for n, k, d, seed in ((900, 100, 4, 1), (1_500, 128, 5, 2), (700, 64, 3, 3)):
            columns = greedy.random_rows(n, k, d, seed)
            removed, kept, left = greedy.peel(columns, n, k, d)
            rows = [set(columns[i * d : i * d + d]) for i in range(n)]
            alive = set(range(k))
            for column in removed:
                degree = dict.fromkeys(alive, 0)
                for row in rows:
                    for other in row:
                        degree[other] += 1
                self.assertEqual(degree[column], min(degree.values()))
                alive.remove(column)
                rows = [row for row in rows if column not in row]
            self.assertEqual((alive, len(rows)), (set(kept), left))
            self.assertGreaterEqual(left, len(kept))

    def test_choosing_columns_beats_chance_but_not_the_count(self):
        s, d = lpn.Lpn(64_000, 4_000, 1_000), 6
        share, _ = greedy.greedy_share(s.n, s.k, d)
        self.assertLess(share, local.random_share(s, d) - 0.05)
        self.assertGreater(share, local.least_share(s, d))


def ones(row):
    """The number of ones of a row (`int.bit_count` is newer than 3.9)."""
    return bin(row).count("1")


class Instance:
    """A small LPN problem with a sparse matrix. Rows and secret are integers, bit i is column i."""

    def __init__(self, s, d, seed):
        self.s, self.random = s, random.Random(seed)
        draw = self.random
        self.rows = [sum(1 << column for column in draw.sample(range(s.k), d)) for _ in range(s.n)]
        self.secret = draw.getrandbits(s.k)
        self.errors = {block * s.beta + draw.randrange(s.beta) for block in range(s.t)}
        self.values = [ones(row & self.secret) & 1 ^ (i in self.errors) for i, row in enumerate(self.rows)]

    def inside(self, columns):
        """The rows all of whose ones lie in these columns, in random order."""
        mask = sum(1 << column for column in columns)
        rows = [i for i, row in enumerate(self.rows) if not row & ~mask]
        self.random.shuffle(rows)
        return rows


def eliminate(instance, rows, unknowns):
    """Gaussian elimination: (pivots, reduced, others).

    pivots: rows that are independent; reduced: {pivot column: (row, value, combination of pivots)}, fully reduced; others: for each
    other row (its value minus what the pivots say, the combination of pivots that it is). None if the rank is below `unknowns`.
    """
    pivots, reduced, others = [], {}, []
    for i in rows:
        row, value, combination = instance.rows[i], instance.values[i], 0
        for column, (other, other_value, other_combination) in reduced.items():
            if row >> column & 1:
                row, value, combination = row ^ other, value ^ other_value, combination ^ other_combination
        if not row:
            others.append((value, combination))
            continue
        combination ^= 1 << len(pivots)
        pivots.append(i)
        column = row.bit_length() - 1
        for key, (other, other_value, other_combination) in reduced.items():
            if other >> column & 1:
                reduced[key] = (other ^ row, other_value ^ value, other_combination ^ combination)
        reduced[column] = (row, value, combination)
    return (pivots, reduced, others) if len(pivots) == unknowns else None


def find_errors(others, pivots, most):
    """At most `most` (0, 1 or 2) errors among the pivots that explain all other rows, if these are free of errors; or None.

    Bit j of `effect[i]`: an error of pivot i changes row j. Two lists that meet.
    """
    wanted = sum(value << j for j, (value, _) in enumerate(others))
    effect = [sum((combination >> i & 1) << j for j, (_, combination) in enumerate(others)) for i in range(len(pivots))]
    if wanted == 0:
        return ()
    place = {}
    for i, change in enumerate(effect):
        if most >= 1 and change == wanted:
            return (i,)
        if most >= 2 and change ^ wanted in place:
            return (place[change ^ wanted], i)
        place[change] = i
    return None


def free_of_errors(s, rows, errors):
    """Probability that a random set of so many rows has exactly that number of errors."""
    return 2 ** (lpn.log2_binomial(s.n - s.t, rows - errors) + lpn.log2_binomial(s.t, errors) - lpn.log2_binomial(s.n, rows))


class Experiment(unittest.TestCase):
    """The local attack on n = 1,024, k = 128, rows of 3 ones: fewer than half of the columns are enough."""

    S, D, KEPT, TRIES = lpn.Lpn(1_024, 128, 32), 3, 60, 500

    def tries(self, instance):
        """(errors among the pivots, errors among other rows inside, elimination) of tries with full rank."""
        done = 0
        while done < self.TRIES:
            columns = instance.random.sample(range(self.S.k), self.KEPT)
            rows = instance.inside(columns)
            result = eliminate(instance, rows, self.KEPT) if len(rows) >= self.KEPT else None
            if result is None:
                continue
            done += 1
            wrong = sum(i in instance.errors for i in result[0])
            yield wrong, sum(i in instance.errors for i in rows) - wrong, result

    def test_rows_inside_are_as_many_as_counted(self):
        instance = Instance(self.S, self.D, 1)
        counts = [len(instance.inside(instance.random.sample(range(self.S.k), self.KEPT))) for _ in range(200)]
        expected = self.S.n * math.prod((self.KEPT - j) / (self.S.k - j) for j in range(self.D))
        self.assertAlmostEqual(sum(counts) / len(counts), expected, delta=0.05 * expected)

    def test_tries_succeed_at_the_predicted_rate(self):
        instance = Instance(self.S, self.D, 2)
        wrongs = [wrong for wrong, _, _ in self.tries(instance)]
        formula = 2 ** lpn.log2_free(self.KEPT / self.S.n, self.S.t)
        deviation = math.sqrt(formula * (1 - formula) / self.TRIES)
        self.assertAlmostEqual(wrongs.count(0) / self.TRIES, formula, delta=4 * deviation)
        # Far more often than rows for all columns would be free of errors,
        dense = 2 ** lpn.log2_free(self.S.k / self.S.n, self.S.t)
        self.assertGreater(wrongs.count(0) / self.TRIES, 4 * dense)
        # and with at most two errors more often still, as `local_few_errors` counts.
        predicted = sum(free_of_errors(self.S, self.KEPT, p) for p in range(3))
        few = sum(wrong <= 2 for wrong in wrongs) / self.TRIES
        self.assertAlmostEqual(few, predicted, delta=0.12)
        self.assertGreater(few, 4 * formula)

    def test_the_attack_finds_the_secret(self):
        for most in (0, 2):
            with self.subTest(most_errors=most):
                instance = Instance(self.S, self.D, 3)
                found = next(filter(None, (self.attack(instance, result, most) for _, _, result in self.tries(instance))), None)
                self.assertEqual(found, instance.secret)

    def attack(self, instance, result, most):
        """The secret, from the kept unknowns outwards by majority, if the values agree with it but for t rows."""
        pivots, reduced, others = result
        errors = find_errors(others, pivots, most)
        if errors is None:
            return None
        known, secret = 0, 0
        for column, (row, value, combination) in reduced.items():
            assert row == 1 << column
            wrong = sum(combination >> i & 1 for i in errors) & 1
            known |= row
            secret |= (value ^ wrong) << column
        while known != (1 << self.S.k) - 1:
            votes = {}
            for row, value in zip(instance.rows, instance.values):
                rest = row & ~known
                if rest and rest & (rest - 1) == 0:
                    bit = ones(row & known & secret) & 1 ^ value
                    votes[rest] = votes.get(rest, 0) + (1 if bit else -1)
            if not votes:
                return None
            for bit, vote in votes.items():
                known |= bit
                secret |= bit if vote > 0 else 0
        wrong = sum(ones(row & secret) & 1 != value for row, value in zip(instance.rows, instance.values))
        return secret if wrong == self.S.t else None


class Rlwe(unittest.TestCase):
    def test_the_lattice_estimators_figures_come_out_again(self):
        for entry in json.loads(check.FILE.read_text())["rlwe"]:
            row = entry["row"]
            figure = rlwe.usvp(entry["degree"], entry["log2_q"], row["log2_sigma"], row["secret"])
            self.assertAlmostEqual(figure, row["usvp"], delta=0.06, msg=entry["name"])

    def test_rows_are_no_harder_than_their_sets(self):
        for entry in json.loads(check.FILE.read_text())["rlwe"]:
            report = check.rlwe_report(entry)
            self.assertGreater(report["usvp_recomputed"], report["row_usvp_recomputed"], entry["name"])
            self.assertLessEqual(entry["row"]["log2_sigma"], report["log2_sigma"], entry["name"])


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.result = check.report(json.loads(check.FILE.read_text()), everything=True)

    def test_the_sets_in_use_meet_the_targets_and_the_former_ones_do_not(self):
        self.assertEqual(check.misses(self.result), [])
        former = {**self.result, "ot": self.result["ot_replaced"]}
        self.assertIn("LATER before: local_greedy is", "\n".join(check.misses(former)))

    def test_the_binding_attack_is_the_cheapest(self):
        for entry in self.result["ot"]:
            self.assertEqual(entry["security"], min(entry["attacks"].values()))
            self.assertEqual(entry["security"], entry["attacks"][entry["binding"]])

    def test_sizes_follow_from_the_parameters(self):
        later = self.result["ot"][1]
        self.assertEqual(later["seed"], later["k"] + later["t"] * later["depth"] + 256)
        self.assertEqual(later["message_bytes"], 16 * later["t"] * later["depth"])
        self.assertEqual(self.result["ot_replaced"][1]["usable"], 2_251_962)

    def test_the_report_is_json_and_a_table(self):
        self.assertEqual(json.loads(json.dumps(self.result)), self.result)
        lines = check.table(self.result).splitlines()
        self.assertTrue(any(line.split()[:1] == ["hybrid"] for line in lines))
        self.assertTrue(any(line.startswith("T64N4096") for line in lines))

    def test_a_set_whose_trees_do_not_fit_is_refused(self):
        entry = json.loads(check.FILE.read_text())["ot"][0]
        with self.assertRaisesRegex(ValueError, "FIRST"):
            check.problem({**entry, "depth": 12})


if __name__ == "__main__":
    unittest.main()
