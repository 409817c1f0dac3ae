"""What the READMEs name is there: links, scripts, commands, flags, variables, files, genotypes."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from readmes import READMES, anchors, blocks, each_readme, prose, section, tables
from running import CHECKOUT, run

from fairseq_revdarts.cli.flags import OWNERS, flags_of
from fairseq_revdarts.genotype import SHIPPED

PACKAGE = READMES["fairseq_revdarts/README.md"]


def test_the_front_page_is_short():
    assert len(READMES["README.md"].splitlines()) <= 200


def test_every_example_has_a_readme():
    for folder in {path.parent for path in (CHECKOUT / "examples").glob("*/*.*")}:
        runs = [path for path in folder.iterdir() if path.suffix in (".sh", ".yaml")]
        assert not runs or (folder / "README.md").exists(), folder


@each_readme
def test_links_and_pictures(name):
    here = (CHECKOUT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(READMES[name])):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = (here / path).resolve() if path else CHECKOUT / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


@each_readme
def test_scripts_and_commands(name):
    text = READMES[name]
    for script in re.findall(r"\b(?:bash|python) ((?:[\w-]+/)+[\w.-]+\.(?:sh|py))", text):
        assert (CHECKOUT / script).exists(), script
    for module in re.findall(r"python -m (fairseq_revdarts[\w.]*\w)", text):
        assert find_spec(module), module
    installed = (CHECKOUT / "setup.py").read_text(encoding="utf-8")
    for command in re.findall(r"(?:^ *|`)(revdarts-\w+)", text, re.MULTILINE):
        assert f'"{command} = ' in installed, command


@each_readme
def test_shell_commands_can_be_read(name):
    for code in blocks(READMES[name], "bash"):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@each_readme
def test_code_that_is_shown_is_the_file(name):
    for file in re.findall(r"<!-- shows: (\S+) -->", READMES[name]):
        (code,) = blocks(READMES[name], "python", f"shows: {file}")
        assert code == (CHECKOUT / name).parent.joinpath(file).read_text(encoding="utf-8")


@each_readme
def test_shipped_genotypes(name):
    shipped = {file.stem for file in SHIPPED.glob("*.json")}
    assert set(re.findall(r"`(?:--genotype )?(multi30k_en_\w+)[^`]*`", READMES[name])) <= shipped


@each_readme
def test_every_row_of_a_table_has_as_many_cells(name):
    for head, *rows in tables(READMES[name]):
        assert all(len(row) == len(head) for row in rows), head


def test_the_variables_of_the_examples():
    """The scripts read those that stand in the READMEs, and no others."""
    listed = {
        variable
        for text in READMES.values()
        for head, *rows in tables(text)
        if head[0] == "variable"
        for row in rows
        for variable in re.findall(r"`([A-Z_]+)`", row[0])
    }
    read = {
        variable
        for script in (CHECKOUT / "examples").rglob("*.sh")
        for variable in re.findall(r"\$\{([A-Z_]+):?-", script.read_text(encoding="utf-8"))
    }
    assert listed == read


def in_first_cells(words, pattern):
    """What `pattern` finds in the first column of the tables of a section."""
    return [
        found
        for head, *rows in tables(section(PACKAGE, words))
        if head[0] == "flag"
        for row in rows
        for found in re.findall(pattern, row[0])
    ]


@pytest.mark.parametrize("owner", OWNERS)
def test_the_flags_of_fairseq_train(owner):
    """Each stands in the table with its default, and no other does."""
    table = {}
    for head, *rows in tables(section(PACKAGE, f"`{owner}`")):
        for names, _, defaults in rows if head[0] == "flag" else ():
            names = re.findall(r"`(--[\w-]+)`", names)
            defaults = defaults.split(", ") if len(names) > 1 else [defaults]
            table.update(zip(names, defaults))
    expected = {flag.name: flag.default for flag in flags_of(owner)}
    assert {name: number(text) for name, text in table.items()} == {
        name: number(text) for name, text in expected.items()
    }


def number(text):
    """A default as a number, where it is one: 3e-4 is 0.0003."""
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("name", ["derive", "plot", "profile"])
def test_the_flags_of_the_other_commands(name):
    text = run(sys.executable, "-m", f"fairseq_revdarts.cli.{name}", "--help")
    flags = set(re.findall(r"^  (?:-\w.*, )?(--[\w-]+)", text, re.MULTILINE)) - {"--help"}
    assert set(in_first_cells(f"`revdarts-{name}", r"`(--[\w-]+)`")) == flags


def test_every_file_of_the_package_stands_in_the_table():
    package = CHECKOUT / "fairseq_revdarts"
    files = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    (table,) = [table for table in tables(PACKAGE) if table[0][0] == "file"]
    assert {name for row in table for name in re.findall(r"`([\w/]+\.py)`", row[0])} == files
