#!/usr/bin/env python3
"""The security of every parameter set against every attack of `attacks.py`, `local.py` and `rlwe.py`: a table, or JSON.

    python3 scripts/parameters/check.py                     the sets in use; exit code 1 if one misses a target
    python3 scripts/parameters/check.py --all               also those that were replaced or considered
    python3 scripts/parameters/check.py --json
    python3 scripts/parameters/check.py --measure LATER     the greedy share of a set on a matrix of its size, minutes

The sets and targets are read from `sets.json`.
"""

import argparse
import json
import sys
from pathlib import Path

import greedy
import local
import lpn
import rlwe
from attacks import ATTACKS, BOUNDS

FILE = Path(__file__).with_name("sets.json")

BLOCK_BITS = 128

# Correlated OTs of a seed that the check of the trees' sums spends: one for each bit of two hashes.
CHECK_OTS = 2 * BLOCK_BITS


def seed(entry):
    """Correlated OTs that a batch starts from: the table, one for each level of each tree, and those of the check."""
    return entry["k"] + entry["t"] * entry["depth"] + CHECK_OTS


def greedy_share(entry):
    """The measured share if there is one, and otherwise the random share less a pessimistic margin."""
    measured = entry["greedy"]["share"]
    return measured or local.random_share(problem(entry), entry["ones_per_row"]) - local.MARGIN


def problem(entry):
    """The LPN problem of an entry of `sets.json`."""
    result = lpn.Lpn(entry["n"], entry["k"], entry["t"])
    if result.beta != 1 << entry["depth"]:
        raise ValueError(f"{entry['name']}: n / t is {result.beta}, not 2^{entry['depth']}")
    return result


def ot_report(entry, later):
    """All figures of an OT set. `later`: the set of the next batch, whose seed is taken off the outputs."""
    s, d = problem(entry), entry["ones_per_row"]
    share, random = greedy_share(entry), local.random_share(problem(entry), entry["ones_per_row"])
    least = local.least_share(s, d)
    attacks = {name: attack(s) for name, attack in ATTACKS.items()}
    attacks["local"] = local.local(s, d, random)
    attacks["local_greedy"] = local.local(s, d, share)
    attacks["local_statistical"] = local.local_statistical(s, d, share)
    attacks["local_few_errors"] = local.local_few_errors(s, d, share)
    bounds = {name: bound(s) for name, bound in BOUNDS.items()}
    bounds["local_margin"] = local.local(s, d, random - local.MARGIN)
    bounds["local_hybrid"] = local.local_hybrid(s, d, random - share)
    bounds["local_least_share"] = local.local(s, d, least)
    bounds["local_few_errors_least_share"] = local.local_few_errors(s, d, least)
    binding = min(attacks, key=attacks.get)
    usable = s.n - seed(entry if entry["name"].startswith("LATER") else later)
    return {
        **{field: entry[field] for field in ("name", "use", "n", "k", "t", "depth", "ones_per_row")},
        "seed": seed(entry),
        "usable": usable,
        "message_bytes": s.t * entry["depth"] * BLOCK_BITS // 8,
        "bits_per_ot": round(s.t * entry["depth"] * BLOCK_BITS / usable, 4),
        "shares": {
            "random": round(random, 4),
            "greedy": round(share, 4),
            "greedy_is_measured": entry["greedy"]["share"] is not None,
            "least": round(least, 4),
        },
        "attacks": {name: round(figure, 1) for name, figure in attacks.items()},
        "bounds": {name: round(figure, 1) for name, figure in bounds.items()},
        "binding": binding,
        "security": round(attacks[binding], 1),
    }


def rlwe_report(entry):
    """The estimator's figures of the quoted row, uSVP again by `rlwe.py`, and uSVP for the set itself."""
    ring, row = (entry["degree"], entry["log2_q"]), entry["row"]
    sigma = rlwe.tuniform_log2_sigma(entry["tuniform_bound"])
    return {
        **entry,
        "log2_sigma": round(sigma, 2),
        "row_usvp_recomputed": round(rlwe.usvp(*ring, row["log2_sigma"], row["secret"]), 1),
        "usvp_recomputed": round(rlwe.usvp(*ring, sigma, entry["secret"]), 1),
        "security": min(row["usvp"], row["dual_hybrid"]),
    }


def report(data, everything=False):
    """All figures of all sets, as `--json` prints them."""
    later = {
        "ot": next(entry for entry in data["ot"] if entry["name"] == "LATER"),
        "ot_replaced": data["ot_replaced"][-1],
    }
    groups = ("ot", "ot_replaced", "ot_considered") if everything else ("ot",)
    result = {"targets": data["targets"]}
    for group in groups:
        result[group] = [ot_report(entry, later.get(group, later["ot"])) for entry in data[group]]
    result["rlwe"] = [rlwe_report(entry) for entry in data["rlwe"]]
    return result


def misses(result):
    """A sentence for each target that a set in use misses."""
    targets, found = result["targets"], []
    for entry in result["ot"]:
        for name, figure in entry["attacks"].items():
            if figure < targets["every_attack"]:
                found.append(f"{entry['name']}: {name} is {figure}, below {targets['every_attack']}")
        if entry["attacks"]["local_greedy"] < targets["local_greedy"]:
            found.append(f"{entry['name']}: local_greedy is {entry['attacks']['local_greedy']}, below {targets['local_greedy']}")
    for entry in result["rlwe"]:
        if entry["security"] < targets["every_attack"]:
            found.append(f"{entry['name']}: {entry['security']} by the lattice estimator, below {targets['every_attack']}")
        if abs(entry["row_usvp_recomputed"] - entry["row"]["usvp"]) > 0.5:
            found.append(f"{entry['name']}: uSVP is {entry['row_usvp_recomputed']} and not {entry['row']['usvp']} by the formula")
    return found


def table(result):
    """The report as lines for people: one column for each OT set, one row for each lattice set."""
    entries = [entry for group in result if group.startswith("ot") for entry in result[group]]
    width = max(18, *(len(entry["name"]) + 2 for entry in entries))

    def line(title, values):
        return f"{title:32}" + "".join(f"{value:>{width}}" for value in values)

    lines = [line("log2 of operations", [entry["name"] for entry in entries])]
    for field in ("n", "k", "t", "depth", "ones_per_row", "seed", "message_bytes", "usable"):
        lines.append(line(field, [f"{entry[field]:,}" for entry in entries]))
    lines.append(line("bits_per_ot", [f"{entry['bits_per_ot']:.3f}" for entry in entries]))
    for kind in ("random", "greedy", "least"):
        marks = ["*" if kind == "greedy" and not entry["shares"]["greedy_is_measured"] else "" for entry in entries]
        lines.append(line(f"share of columns, {kind}", [f"{entry['shares'][kind]:.3f}{mark}" for entry, mark in zip(entries, marks)]))
    for part in ("attacks", "bounds"):
        lines += ["", part]
        for name in entries[0][part]:
            lines.append(line("  " + name, [f"{entry[part][name]:.1f}" for entry in entries]))
    lines += ["", line("binding", [entry["binding"].removeprefix("regular_") for entry in entries])]
    lines += ["", f"{'lattice':12}{'N':>6}{'log2 q':>8}{'noise':>16}   row: uSVP, again, dual hybrid   set: uSVP"]
    for entry in result["rlwe"]:
        row = entry["row"]
        lines.append(
            f"{entry['name']:12}{entry['degree']:>6}{entry['log2_q']:>8}{'TUniform(2^%d)' % entry['tuniform_bound']:>16}"
            f"{row['usvp']:>12}{entry['row_usvp_recomputed']:>7}{row['dual_hybrid']:>13}{entry['usvp_recomputed']:>12}"
        )
    if any(not entry["shares"]["greedy_is_measured"] for entry in entries):
        lines += ["", f"* not measured: the random share less {local.MARGIN}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="also the sets that were replaced or considered")
    parser.add_argument("--measure", metavar="SET", help="measure the greedy share of this set")
    arguments = parser.parse_args()
    data = json.loads(FILE.read_text())
    if arguments.measure:
        entries = {entry["name"]: entry for group in data if group.startswith("ot") for entry in data[group]}
        entry = entries.get(arguments.measure)
        if entry is None:
            parser.error(f"no set is called {arguments.measure}; there are {', '.join(entries)}")
        share, rows = greedy.greedy_share(entry["n"], entry["k"], entry["ones_per_row"])
        print(f"share {share:.4f}, {rows:.4f} rows for each column")
        return
    result = report(data, arguments.all)
    print(json.dumps(result, indent=2) if arguments.json else table(result))
    for miss in misses(result):
        print(miss, file=sys.stderr)
    sys.exit(1 if misses(result) else 0)


if __name__ == "__main__":
    main()
