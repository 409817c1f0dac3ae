"""The README's own commands and the examples' scripts, run as they stand, with fewer updates."""

import ast
import dataclasses
import json
import re
import shutil
import sys

from running import CHECKOUT, PLUGIN, RETRAIN, TEST_SENTENCES, read_log, run, train

from fairseq_revdarts.criterions.reversible_search import ReversibleSearchCriterionConfig
from fairseq_revdarts.models.evolved_transformer.model import EvolvedTransformerConfig
from fairseq_revdarts.models.revdarts_transformer.config import RevDartsTransformerConfig
from fairseq_revdarts.search.config import BilevelSearchConfig

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SHORTER = {
    r"--arch revdarts_transformer\b": "--arch revdarts_transformer_tiny --cpu",
    r"--user-dir fairseq_revdarts\b": f"--user-dir {PLUGIN}",
    r"--max-update \d+": "--max-update 2 --log-interval 1",
    r"--max-tokens 5000": "--max-tokens 400",
}


def blocks_under(marker, language="bash"):
    """The code blocks under the README's invisible comment <!-- tested: marker -->."""
    pattern = rf"<!-- tested: {marker} -->\n```{language}\n(.*?)```"
    return re.findall(pattern, README, re.DOTALL)


def shorter_commands(marker):
    """The commands under `marker`, for a small network and two updates."""
    commands = "set -e\n" + "".join(blocks_under(marker))
    for pattern, replacement in SHORTER.items():
        commands, count = re.subn(pattern, replacement, commands)
        assert count or "user-dir" in pattern, pattern
    return commands


def test_a_search_on_ones_own_data(raw, tmp_path):
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    for folder in ("raw", "pieces"):
        shutil.copytree(raw / folder, tmp_path / folder)
        for file in (tmp_path / folder).glob("*.fr"):
            file.rename(file.with_suffix(".de"))
    commands = shorter_commands("own-data")
    assert commands.count("fairseq-train") == 2 and "fairseq-generate" in commands
    output = run("bash", "-c", commands, cwd=tmp_path)
    assert "BLEU = " in output and "signature: nrefs:1" in output
    generated = (tmp_path / "generated").read_text()
    assert len(re.findall(r"^H-\d+\t", generated, re.MULTILINE)) == TEST_SENTENCES
    for name in ("genotype.json", "search/search.jsonl", "found/checkpoint_last.pt"):
        assert (tmp_path / name).exists()
    (code,) = blocks_under("python", "python")
    *_, translations = run(sys.executable, "-c", code, cwd=tmp_path).splitlines()
    assert len(ast.literal_eval(translations)) == 2


def test_an_operation_of_ones_own(data, tmp_path):
    """The package and the commands of the README; then a network with the operation is trained."""
    (module,) = blocks_under("add-operation", "python")
    package = tmp_path / re.match(r"# (\S+)", module).group(1)
    package.parent.mkdir()
    package.write_text(module)
    (tmp_path / "data").symlink_to(data)
    run("bash", "-c", shorter_commands("add-operation"), cwd=tmp_path)
    (entry, _) = read_log(tmp_path / "search-mine/search.jsonl")
    assert all("squared_relu_ffn" in row for row in entry["probabilities"].values())
    assert (tmp_path / "search-mine/search.svg").exists()
    genotype = json.loads((tmp_path / "mine.json").read_text())
    for side in ("encoder", "decoder"):
        genotype[side][0][0] = "squared_relu_ffn"
    flags = [flag for flag in RETRAIN if not flag.startswith("--user-dir")]
    own = [f"--user-dir={package.parent}", f"--genotype={json.dumps(genotype)}"]
    train(data, tmp_path / "found", *flags, *own, updates=1)


def own_flags(config):
    """The flags that a configuration adds; what it reads from another one has no help."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    names = [name for name in config.__annotations__ if fields[name].metadata.get("help")]
    return {"--" + name.replace("_", "-") for name in names}


def command_flags(module):
    """The flags of one of the revdarts commands."""
    text = run(sys.executable, "-m", f"fairseq_revdarts.cli.{module}", "--help")
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - {"--help"}


def test_the_table_of_flags_is_complete():
    """Flags that are there stand in the table, and those that stand there are there."""
    table = re.search(r"^## Flags$(.*?)^##", README, re.MULTILINE | re.DOTALL)[1]
    network, search, criterion, derive, plot, profile, evolved, common = table.split("| **")[1:]
    positions = {"--max-source-positions", "--max-target-positions"}  # the task's
    assert own_flags(RevDartsTransformerConfig) | positions == flags_in(network)
    assert own_flags(EvolvedTransformerConfig) | positions == flags_in(evolved)
    assert own_flags(BilevelSearchConfig) == flags_in(search)
    assert own_flags(ReversibleSearchCriterionConfig) == flags_in(criterion)
    for name, rows in (("derive", derive), ("plot", plot), ("profile", profile)):
        assert command_flags(name) == flags_in(rows) | {"--user-dir"}, name
    assert "`--user-dir`" in common


def flags_in(rows):
    """The flags in the first cell of each row."""
    cells = [row.split(" | ")[0] for row in rows.splitlines()[1:]]
    return set(re.findall(r"`(--[\w-]+)`", " ".join(cells)))


def test_every_script_in_the_readme_exists():
    scripts = set(re.findall(r"bash (\S+\.sh)", README))
    assert {"examples/quickstart/run.sh", "tests/run.sh"} <= scripts
    for script in scripts:
        assert (CHECKOUT / script).exists(), script


def test_every_file_of_the_package_stands_in_the_readme():
    (table,) = re.findall(
        r"^\| file of `fairseq_revdarts/` .*?\n\n", README, re.MULTILINE | re.DOTALL
    )
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", table.split("\n", 1)[1]))
    package = CHECKOUT / "fairseq_revdarts"
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        folder = name.split("/")[0] + "/"
        assert file.name == "__init__.py" or {name, folder} & named, name
    for name in named:
        assert (package / name).exists(), name


def test_every_anchor_and_genotype_in_the_readme_exists():
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) <= anchors
    shipped = {file.stem for file in (CHECKOUT / "fairseq_revdarts/genotypes").glob("*.json")}
    assert set(re.findall(r"`(?:--genotype )?(multi30k_\w+)`", README)) <= shipped


def test_every_picture_in_the_readme_exists():
    pictures = re.findall(r"!\[.*\]\((\S+)\)", README)
    assert "examples/pictures/layer.svg" in pictures
    for picture in pictures:
        assert (CHECKOUT / picture).exists(), picture
