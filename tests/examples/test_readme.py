"""The README's own commands and the examples' scripts, run as they stand, with fewer updates."""

import ast
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from running import CHECKOUT, PLUGIN, RETRAIN, TEST_SENTENCES, in_checkout, read_log, run, train

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


def scores(output):
    assert output.count("BLEU = ") == output.count("exact = ") == 2
    assert output.count("parameters = ") == 2 and "revdarts-genotype" in output
    assert "signature: nrefs:1" in output
    assert "picture written to" in output


@in_checkout
def test_quick_start_goes_on_where_it_was(tmp_path):
    environment = {"WORK": str(tmp_path), "SEARCH_UPDATES": "1", "TRAIN_UPDATES": "1"}
    script = CHECKOUT / "examples/quickstart/run.sh"
    output = run("bash", script, "de", env=environment)
    scores(output)
    assert "tok:char" in output  # a German number is one word
    (tmp_path / "retrain.done").unlink()
    (tmp_path / "generate.done").unlink()
    again = run("bash", script, "de", env=environment)
    scores(again)
    assert again.count("done before") == 7


@pytest.fixture(scope="module")
def multi30k(raw, tmp_path_factory):
    """A folder like Multi30k's, of other text."""
    folder = tmp_path_factory.mktemp("multi30k")
    for name, split in (("train", "train"), ("val", "valid"), ("test_2016_flickr", "test")):
        for language, source in (("en", "en"), ("de", "fr")):
            shutil.copy(raw / f"raw/{split}.{source}", folder / f"{name}.{language}")
    run("gzip", folder / "train.en")
    return folder


SMALL = {"SEARCH_UPDATES": "1", "TRAIN_UPDATES": "1", "VOCABULARY": "150"}


@in_checkout
def test_multi30k(multi30k, tmp_path):
    script = CHECKOUT / "examples/multi30k/run.sh"
    output = run("bash", script, "--data", multi30k, env={**SMALL, "WORK": str(tmp_path)})
    scores(output)


@in_checkout
def test_multi30k_proof(multi30k, tmp_path):
    environment = {**SMALL, "WORK": str(tmp_path), "SEEDS": "1", "RANDOM_GENOTYPES": "2"}
    environment.update(PARAMETERS="200000", JOBS="2")
    script = CHECKOUT / "examples/multi30k/proof.sh"
    output = run("bash", script, "--data", multi30k, env=environment)
    row = r"^\| (\w+) \| 1 \| [\d.]+ \| - \| [\d., ]+ \| [\d.]+ \| ([\d,]+) \|"
    rows = re.findall(row, output, re.MULTILINE)
    assert {name for name, _ in rows} == {
        *("transformer", "random", "sampling"),
        *("found", "families", "pooled", "untrained"),
    }
    for _, parameters in rows:
        assert abs(int(parameters.replace(",", "")) - 200_000) < 0.01 * 200_000
    assert (tmp_path / "found-search-1/genotype.json").exists()


@in_checkout
def test_multi30k_proof_stops_with_all_that_it_started(multi30k, tmp_path):
    environment = {**os.environ, **SMALL, "SEARCH_UPDATES": "10000", "WORK": str(tmp_path)}
    script = CHECKOUT / "examples/multi30k/proof.sh"
    process = subprocess.Popen(
        ["bash", script, "--data", multi30k],
        env={**environment, "JOBS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert any("transformer-1: == transformer-1: train" in line for line in process.stdout)
        assert children(tmp_path)
        process.send_signal(signal.SIGTERM)  # as Ctrl-C, which a test in the background cannot send
        assert process.wait(60) == 130
        process.stdout.read()  # ends when no process can write to it any more
        assert not children(tmp_path)
    finally:
        subprocess.run(["pkill", "-f", str(tmp_path)], check=False)


def children(folder):
    """The processes whose command line names `folder`."""
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout


def test_multi30k_says_where_the_files_are(tmp_path):
    script = CHECKOUT / "examples/multi30k/run.sh"
    output = run("bash", script, "--data", tmp_path, fails=True)
    assert "no train.en or train.en.gz there" in output and "multi30k/dataset" in output
    assert "--dat: no such option" in run("bash", script, "--dat", "x", fails=True)
