#!/usr/bin/env python3
"""Checks the links between the project's texts and, where mdbook is installed, builds the book of docs/ in target/book.

    scripts/book.py

Texts of docs/ refer to files outside of it, as they should where the repository is read. So the book is built from a copy that has
those files too, as further chapters or as they are, and every link of the finished pages is looked up. Ends with 1 if one leads nowhere.
"""

import html.parser
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGE, BOOK = ROOT / "target/book-source", ROOT / "target/book"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(text):
    """Where a text leads within the repository: what is neither code nor an address on the net."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def anchors(text):
    """The names of a text's headings, as GitHub and mdbook make them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for heading in re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def texts():
    """All texts but what builds leave behind."""
    left = {"target", ".venv", "corpus", "artifacts"}
    return [file for file in sorted(ROOT.rglob("*.md")) if not left & set(file.relative_to(ROOT).parts)]


def lost_in_texts():
    """Links of all texts that lead to no file or no heading."""
    for file in texts():
        for link in links(file.read_text()):
            path, _, anchor = link.partition("#")
            target = (file.parent / path).resolve() if path else file
            if not target.exists():
                yield f"{file.relative_to(ROOT)}: {link}"
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
                yield f"{file.relative_to(ROOT)}: {link}, no such heading"


def stage():
    """Copies docs/ and all that it leads to; further texts become chapters at the end."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGE / "docs")
    summary = (STAGE / "docs/SUMMARY.md").read_text()
    (STAGE / "docs/SUMMARY.md").unlink()
    summary = LINK.sub(lambda link: f"](docs/{link[1]})", summary)
    further, todo = [], sorted((ROOT / "docs").glob("*.md"))
    while todo:
        file = todo.pop()
        for link in links(file.read_text()):
            target = (file.parent / link.partition("#")[0]).resolve()
            copy = STAGE / target.relative_to(ROOT)
            if not target.is_file() or copy.exists() or target.name == "SUMMARY.md":
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
            if target.suffix == ".md":
                # The list of chapters is no page: it stands beside each of them.
                copy.write_text(re.sub(r"docs/SUMMARY\.md(?=\))", "docs/introduction.md", target.read_text()))
                further.append(target)
                todo.append(target)
    if further:
        summary += "\n---\n\n"
    for file in sorted(further):
        title = re.search(r"^# +(.+)$", file.read_text(), flags=re.MULTILINE)
        summary += f"- [{title[1] if title else file.name}]({file.relative_to(ROOT)})\n"
    (STAGE / "SUMMARY.md").write_text(summary)
    settings = (ROOT / "book.toml").read_text()
    # A README stays one, instead of an index.html that no link leads to.
    settings = settings.replace('"target/book"', '"../book"\nuse-default-preprocessors = false').replace('"docs"', '"."')
    (STAGE / "book.toml").write_text(settings)


class Page(html.parser.HTMLParser):
    """Where a page leads, and the names of its parts."""

    def __init__(self, file):
        super().__init__()
        self.leads, self.names = [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.add(attributes.get("id"))
        self.leads += [attributes[name] for name in ("href", "src") if attributes.get(name)]


def lost_in_book():
    # The page for printing has all chapters in one place, with their links as they were.
    pages = {file: Page(file) for file in BOOK.rglob("*.html") if file.name not in ("print.html", "404.html", "toc.html")}
    for file, page in pages.items():
        for link in page.leads:
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (file.parent / path).resolve() if path else file
            if not target.exists():
                yield f"{file.relative_to(BOOK)}: {link}"
            elif anchor and target in pages and anchor not in pages[target].names:
                yield f"{file.relative_to(BOOK)}: {link}, no such part"


def main():
    lost = list(lost_in_texts())
    if shutil.which("mdbook"):
        stage()
        subprocess.run(["mdbook", "build", STAGE], check=True)
        shutil.rmtree(STAGE)
        (BOOK / "book.toml").unlink()
        # mdbook puts a copy of the first chapter here, whose links are those of its folder.
        (BOOK / "index.html").write_text('<meta http-equiv="refresh" content="0; url=docs/introduction.html">\n')
        lost += lost_in_book()
    else:
        print("skipped: no mdbook to build the book with; the links of its texts were looked up all the same")
    for link in lost:
        print(f"leads nowhere: {link}", file=sys.stderr)
    sys.exit(1 if lost else 0)


main()
