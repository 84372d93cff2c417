#!/usr/bin/env python3
"""Compares the public items of the crate `lowkey` with tests/surface.txt, which LOWKEY_BLESS=1 writes anew.

    cargo doc -p lowkey --no-deps && scripts/surface.py

Whoever links the crate sees what rustdoc shows, so that is what is read: all.html, which is written anew with every build, names the pages
of the crate; each has its declaration, fields, variants, methods and the traits that were implemented for it. Ends with 1 and the
difference where the list is another: what is gone or changed breaks someone's build. Pages differ between versions of rustdoc, so the
list names its own, and another one says so and compares nothing.
"""

import difflib
import html
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOC = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "doc/lowkey"
KNOWN = ROOT / "tests/surface.txt"

# What of a page is an item of its own, and the code behind it.
MEMBER = re.compile(
    r'<section id="[^"]*" class="(?:method|associatedconstant|associatedtype|variant)">.*?<h[34] class="code-header">(?P<header>.*?)</h[34]>'
    r'|<span id="(?:structfield|variant)\.[^"]*" class="[^"]*section-header[^"]*">.*?<code>(?P<field>.*?)</code></span>'
    r'|<section id="impl-[^"]*" class="impl">.*?<h3 class="code-header">(?P<impl>.*?)</h3>',
    re.DOTALL,
)
# Traits that nobody wrote an implementation of.
WRITTEN = re.compile(r'<h2 id="(?:synthetic|blanket)-implementations"')
DECLARED = re.compile(r'<pre class="rust item-decl"><code>(.*?)</code></pre>', re.DOTALL)


def code(text):
    """Code of a page on one line."""
    text = html.unescape(re.sub(r"<[^>]*>", "", text))
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r",? ([)>\]])", r"\1", re.sub(r"([(<\[]) ", r"\1", text))


def members(kind, page):
    """Fields, variants, methods, and traits implemented; what is private shows nowhere."""
    for found in MEMBER.finditer(WRITTEN.split(page)[0]):
        implemented = found["impl"]
        if implemented is None:
            yield code(found["header"] or found["field"])
        # Those of a trait list the types of the crate, which list them too.
        elif kind != "trait" and " for " in (line := code(implemented)) and "StructuralPartialEq" not in line:
            yield line


def items():
    """Every public item, one line each; what belongs to a type below it, indented."""
    paths = re.findall(r'<li><a href="([^"#]+)">', (DOC / "all.html").read_text())
    modules = {Path(".")} | {module for path in paths for module in Path(path).parents}
    for module in sorted(modules):
        name = "::".join(["lowkey", *module.parts])
        page = (DOC / module / "index.html").read_text()
        for used in re.findall(r'<dt id="reexport\.[^"]*"><code>(.*?)</code>', page, re.DOTALL):
            yield f"{name}: {code(used)}"
        for path in sorted(path for path in paths if Path(path).parent == module):
            kind, item = Path(path).name.split(".")[:2]
            page = (DOC / path).read_text()
            if kind in ("struct", "enum", "union"):
                yield f"{name}: {kind} {item}"
            else:
                yield f"{name}: {code(DECLARED.search(page)[1])}"
            yield from (f"    {member}" for member in members(kind, page))


def rustdoc():
    """Its version without the patch level, as in 1.95."""
    version = subprocess.run(["rustdoc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return ".".join(version.split()[1].split(".")[:2])


def main():
    found = [f"as rustdoc {rustdoc()} lists them\n", *(f"{item}\n" for item in items())]
    if os.environ.get("LOWKEY_BLESS"):
        KNOWN.write_text("".join(found))
    known = KNOWN.read_text().splitlines(keepends=True)
    if known[0] != found[0] and known[0].startswith("as rustdoc "):
        print(f"skipped: the public items are listed {known[0].strip()}, and here it is {rustdoc()}")
        return False
    difference = list(difflib.unified_diff(known, found, "tests/surface.txt", "found", n=1))
    print("".join(difference), end="")
    print(f"{len(found) - 1} public items" if not difference else "the public items changed; LOWKEY_BLESS=1 writes them")
    return bool(difference)


if __name__ == "__main__":
    sys.exit(main())
