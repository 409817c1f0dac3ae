"""The commands of the READMEs, run as they stand, with fewer updates and a smaller network."""

import ast
import json
import re
import shutil
import sys

import pytest
from readmes import READMES, blocks
from running import CHECKOUT, PLUGIN, RETRAIN, read_log, run, train

#: READMEs that lead from raw text to a score, and perhaps to the use from Python.
OWN_DATA = ("README.md", "examples/own_data/README.md")
ADD_OPERATION = "examples/add_operation/README.md"
#: What makes the commands short. The flags at the end of the list stand in some READMEs only.
SHORTER = {
    r"--log-interval \d+": "",
    r"--arch revdarts_transformer\w*": "--arch revdarts_transformer_tiny --cpu",
    r"--max-update \d+": "--max-update 2 --log-interval 1",
    r"--max-tokens \d+": "--max-tokens 400",
    r"--user-dir fairseq_revdarts\b": f"--user-dir {PLUGIN}",
    r"--vocabulary \d+": "--vocabulary 150",
    r"--save-interval-updates \d+": "--save-interval-updates 1",
    r"--update-freq \d+": "--update-freq 2",
    r"--fp16\b": "",
    r"(?m)^source \S+/activate.*$": "",
}


def commands_of(name, marker):
    """The commands of a README under comments <!-- tested: marker -->, as one short script."""
    commands = "set -e\n" + "".join(blocks(READMES[name], "bash", f"tested: {marker}"))
    for pattern, replacement in SHORTER.items():
        commands = re.sub(pattern, replacement, commands)
    assert "_tiny --cpu" in commands and "--max-update 2" in commands
    return commands


@pytest.mark.parametrize("name", OWN_DATA)
def test_a_search_on_your_own_data(name, raw, tmp_path):
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    for folder in ("raw", "pieces"):
        shutil.copytree(raw / folder, tmp_path / folder)
        for file in (tmp_path / folder).glob("*.fr"):
            file.rename(file.with_suffix(".de"))
    output = run("bash", "-c", commands_of(name, "own-data"), cwd=tmp_path)
    assert "BLEU = " in output and "signature: nrefs:1" in output
    for file in ("genotype.json", "search.jsonl", "checkpoint_last.pt"):
        assert list(tmp_path.rglob(file)), file
    for code in blocks(READMES[name], "python", "tested: python"):
        *_, translations = run(sys.executable, "-c", code, cwd=tmp_path).splitlines()
        assert len(ast.literal_eval(translations)) == 2


def test_a_custom_operation(data, tmp_path):
    """Searched by the commands of the README; then a network with the operation is trained."""
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    (tmp_path / "data").symlink_to(data)
    run("bash", "-c", commands_of(ADD_OPERATION, "add-operation"), cwd=tmp_path)
    (entry, _) = read_log(tmp_path / "search-mine/search.jsonl")
    assert all("squared_relu_ffn" in row for row in entry["probabilities"].values())
    assert (tmp_path / "search-mine/search.svg").exists()
    genotype = json.loads((tmp_path / "mine.json").read_text())
    for side in ("encoder", "decoder"):
        genotype[side][0][0] = "squared_relu_ffn"
    flags = [flag for flag in RETRAIN if not flag.startswith("--user-dir")]
    package = CHECKOUT / "examples/add_operation/my_operations"
    custom = [f"--user-dir={package}", f"--genotype={json.dumps(genotype)}"]
    train(data, tmp_path / "found", *flags, *custom, updates=1)


def test_every_block_that_is_marked_is_run():
    marked = {
        (name, marker)
        for name, text in READMES.items()
        for marker in re.findall(r"^ *<!-- tested: (\S+) -->", text, re.MULTILINE)
    }
    run_here = {(name, "own-data") for name in OWN_DATA} | {(ADD_OPERATION, "add-operation")}
    assert run_here <= marked <= run_here | {(name, "python") for name in OWN_DATA}
