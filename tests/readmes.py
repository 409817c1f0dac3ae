"""The READMEs of the repository, and what tests read in them."""

import re
from textwrap import dedent

import pytest
from running import CHECKOUT

FOLDERS = ("examples", "fairseq_revdarts", "tests")
READMES = {
    path.relative_to(CHECKOUT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        CHECKOUT / "README.md",
        *(path for folder in FOLDERS for path in sorted((CHECKOUT / folder).rglob("README.md"))),
    )
    if "work" not in path.parts[len(CHECKOUT.parts) :]
}
each_readme = pytest.mark.parametrize("name", READMES)

FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(text, language, marker=None):
    """The code blocks of a language; with `marker`, those under the comment <!-- marker -->."""
    above = rf"<!-- {re.escape(marker)} -->\n+" if marker else ""
    pattern = re.compile(
        rf"^( *){above}(?:\1)?```{language}\n(.*?)^\1```", re.MULTILINE | re.DOTALL
    )
    return [dedent(code) for _, code in pattern.findall(text)]


def prose(text):
    """`text` without its code blocks."""
    return FENCED.sub("", text)


def anchors(text):
    """What a link may name after #: GitHub's ids of the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(text, words):
    """The text under the heading that contains `words`, up to the next heading."""
    _, found = re.split(rf"^#+ .*{re.escape(words)}.*$", prose(text), flags=re.MULTILINE)
    return re.split(r"^#+ ", found, flags=re.MULTILINE)[0]


def tables(text):
    """The tables of `text`, each a list of rows, each a list of cells; without the second row."""
    found = re.findall(r"(?:^ *\|.*\n)+", prose(text), re.MULTILINE)
    return [[cells(line) for line in table.splitlines() if "| ---" not in line] for table in found]


def cells(line):
    """The cells of a table's row."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
