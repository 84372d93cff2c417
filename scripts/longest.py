#!/usr/bin/env python3
"""The longest functions of each crate, tests apart: lines from `fn` to the closing brace.

    scripts/longest.py [MOST]     # with a number, ends with 1 if a function is longer
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES = {name: ROOT / name / "src" for name in ("he", "mpc", "bridge", "models")} | {"lowkey": ROOT / "src"}
START = re.compile(r"^(\s*)(?:pub(?:\([a-z]+\))? )?(?:const |async |unsafe )*fn (\w+)")


def is_test(path: Path) -> bool:
    return path.name.endswith("tests.rs") or "tests" in path.parts or path.name in ("testing.rs", "ideal.rs")


def functions(path: Path):
    """Name, first line and length of each function; rustfmt closes it by a brace below its `fn`."""
    lines = path.read_text().splitlines()
    if "mod tests {" in lines:
        lines = lines[: lines.index("mod tests {")]
    for at, line in enumerate(lines):
        if start := START.match(line):
            closes = re.compile(rf"{start[1]}(}}|\).*;)$")
            if not line.endswith(("}", ";")):
                end = next(n for n in range(at, len(lines)) if closes.match(lines[n]))
                yield start[2], at + 1, end - at + 1


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else None
    over = False
    for crate, folder in CRATES.items():
        sources = (path for path in folder.rglob("*.rs") if not is_test(path.relative_to(ROOT)))
        found = [(length, path, line, name) for path in sources for name, line, length in functions(path)]
        found.sort(key=lambda one: (-one[0], str(one[1])))
        for length, path, line, name in found[:6]:
            print(f"{crate:7} {length:4} {path.relative_to(ROOT)}:{line} {name}")
        over |= most is not None and found[0][0] > most
    sys.exit(over)


if __name__ == "__main__":
    main()
