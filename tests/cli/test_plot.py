"""`revdarts-plot` as a command: what it writes where, and what it says of bad input."""

import json
import re
import sys

import pytest
from helpers import TYPICAL
from pictures import SIGNATURES, search_log, searched, texts, winners, write_log
from running import read_log, run
from searches import CUSTOM_MESSAGE, save, with_custom_operation

from fairseq_revdarts.cli.plot import main
from fairseq_revdarts.cli.profile import main as revdarts_profile
from fairseq_revdarts.genotype import load_genotype, operations_by_node
from fairseq_revdarts.plots.style import label


@pytest.fixture
def folder(tmp_path):
    """The folder of a search."""
    folder = tmp_path / "search"
    folder.mkdir()
    write_log(folder, search_log())
    TYPICAL.save(str(folder / "genotype.json"))
    return folder


def failure(capsys, *arguments):
    """The one line with which the command ends."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    message = str(stop.value) if stop.value.code != 2 else capsys.readouterr().err
    assert "Traceback" not in message
    return message


def pictures(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix[1:] in SIGNATURES)


def test_a_search_gives_its_pictures_next_to_it(folder, capsys):
    main([str(folder)])
    assert pictures(folder) == ["genotype.svg", "search.svg"]
    assert capsys.readouterr().out.count("picture written to") == 2
    before = (folder / "genotype.svg").read_bytes()
    main([str(folder)])
    assert (folder / "genotype.svg").read_bytes() == before  # the same picture is the same file


def test_the_suffix_or_format_decides(folder, tmp_path):
    for form, signature in SIGNATURES.items():
        main([str(folder / "genotype.json"), "-o", str(tmp_path / f"cell.{form}")])
        assert (tmp_path / f"cell.{form}").read_bytes().startswith(signature)
    main([str(folder), "-o", str(tmp_path / "new/folder"), "--format", "pdf"])
    assert pictures(tmp_path / "new/folder") == ["genotype.pdf", "search.pdf"]


def test_a_genotype_that_ships_is_drawn_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["multi30k_en_de_1", "--format", "png"])
    assert pictures(tmp_path) == ["multi30k_en_de_1.png"]


def test_several_searches_give_one_picture(folder, tmp_path):
    other = tmp_path / "other.json"
    load_genotype("multi30k_en_de_1").save(str(other))
    main([str(folder), str(other), "multi30k_en_de_1"])
    assert pictures(tmp_path) == ["agreement.svg"]
    written, _ = texts(tmp_path / "agreement.svg")
    found = [load_genotype(str(path)) for path in (folder / "genotype.json", other)]
    (first, second) = map(operations_by_node, found)
    share = sum(first[node] == second[node] for node in first) / len(first)
    mean = (1 + 2 * share) / 3  # two of the three are the same
    assert any(f"the same operation in {mean:.0%} of the nodes" in text for text in written)


def test_a_young_search_is_drawn_as_far_as_it_is(folder):
    (folder / "genotype.json").unlink()
    main([str(folder)])
    assert pictures(folder) == ["search.svg"]
    (folder / "search.svg").unlink()
    write_log(folder, [])
    TYPICAL.save(str(folder / "genotype.json"))
    main([str(folder)])
    assert pictures(folder) == ["genotype.svg"]


def test_a_log_is_drawn_while_it_is_written(folder):
    with open(folder / "search.jsonl", "a") as file:
        file.write('{"update": 400, "lo')
    main([str(folder)])
    assert "search.svg" in pictures(folder)


def profile(depths=(2, 4), **changed):
    """A file of revdarts-profile over these depths, as far as its picture reads it."""
    settings = {"genotype": None, "hidden_size": 240, "tokens": 500, "precision": "fp32"}
    settings["device"] = "cpu"
    rows = [
        {"network": name, "failed": None, "theta": {"activations": size * 1e6}}
        for name, size in (("reconstruct", 30), ("store", 400), ("store, all gradients", 900))
    ]
    results = [
        {"settings": {**settings, "layers": depth}, "rows": [{**row, **changed} for row in rows]}
        for depth in depths
    ]
    return json.dumps({"machine": "torch", "results": results})


TABLE = """# Multi30k en-de, 1000000 parameters
# Python 3.11
kind,genotype,seed,parameters,loss,bleu,seconds
random,"{""format"": 1}",1,1000522,3.442,28.06,300
families,"{""format"": 1}",1,1000445,3.385,28.63,301
random,"{""format"": 1}",2,1000522,3.440,28.10,300
"""


def test_a_profile_gives_the_picture_of_its_memory(tmp_path):
    (tmp_path / "memory.json").write_text(profile())
    main([str(tmp_path / "memory.json")])
    assert pictures(tmp_path) == ["memory.svg"]
    written, _ = texts(tmp_path / "memory.svg")
    assert {"reconstruct: 30 MB", "store: 400 MB"} <= set(written)
    assert not any("900" in text for text in written)


def test_what_the_profiler_writes_is_drawn(tmp_path):
    path = tmp_path / "memory.json"
    network = ["--hidden-size=48", "--embed-dim=16", "--attention-heads=2", "--cell-layers=1"]
    batch = ["--tokens=60", "--length=6", "--vocabulary=60", "--runs=1"]
    revdarts_profile([*network, *batch, "--sweep=layers", "--values=1,2", f"--json={path}"])
    main([str(path)])
    written, _ = texts(tmp_path / "memory.svg")
    assert "supernet, hidden size 48, 60 tokens per batch, fp32, cpu" in written
    labels = [text.split(":")[0] for text in written if text.endswith(" MB")]
    assert sorted(labels) == ["checkpoint", "reconstruct", "store"]


def test_a_table_gives_the_picture_of_its_networks(tmp_path):
    (tmp_path / "networks.csv").write_text(TABLE)
    main([str(tmp_path / "networks.csv")])
    assert pictures(tmp_path) == ["networks.svg"]
    written, _ = texts(tmp_path / "networks.svg")
    assert {"families (1)", "random (2)", "3.441", "28.08"} <= set(written)


def test_networks_without_a_kind_are_random(tmp_path):
    lines = TABLE.replace("kind,", "").replace("random,", "").replace("families,", "")
    (tmp_path / "benchmark.csv").write_text(lines)
    main([str(tmp_path / "benchmark.csv")])
    written, _ = texts(tmp_path / "benchmark.svg")
    assert "random (3)" in written


BAD_FILES = {
    "one depth": ("memory.json", profile(depths=(2,)), "a profile of a single depth; write one"),
    "all out of memory": ("memory.json", profile(failed="out of memory"), "of a single depth"),
    "no figures": ("memory.json", profile(theta={}), "cannot be read as a profile"),
    "no results": ("memory.json", '{"results": []}', "cannot be read as a profile"),
    "no list": ("memory.json", '{"results": 5}', "cannot be read as a profile"),
    "no genotype": ("memory.json", '{"result": []}', 'it has no "format"'),
    "a list": ("memory.json", '["results"]', "cannot be read as a profile"),
    "no JSON": ("memory.json", "{", "not JSON"),
    "an empty table": ("networks.csv", "", "no network in it; needed are"),
    "a head alone": ("networks.csv", "kind,loss,bleu\n", "no network in it; needed are"),
    "no BLEU": ("networks.csv", "kind,loss\nrandom,3\n", "no network in it; needed are"),
    "no number": (
        "networks.csv",
        "loss,bleu\n3,28\nx,28\n",
        "network 2: loss is 'x'",
    ),
    "too short": ("networks.csv", "loss,bleu\n3\n", "network 1: loss is '3', bleu is None"),
    "not finite": ("networks.csv", "loss,bleu\nnan,28\n", "both must be finite numbers"),
    "no text": ("networks.csv", "\0\xff", "networks.csv: "),
    "none": ("missing.csv", None, "cannot be read as a table of networks"),
}


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_in_one_line(tmp_path, capsys, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="latin-1")
    message = failure(capsys, tmp_path / name)
    assert words in message and str(tmp_path / name) in message and "\n" not in message
    assert pictures(tmp_path) == []


DAMAGE = {
    "no log": (None, "search.jsonl: cannot be read"),
    "nothing yet": ("", "no update logged"),
    "words": ("Traceback\n", "line 1: not an entry"),
    "no probabilities": ('{"update": 1}\n', "line 1: not an entry"),
    "no nodes": ('{"update": 1, "probabilities": {}}\n', "line 1: not an entry"),
    "no node": ('{"update": 1, "probabilities": {"x": {"ffn": 1}}}\n', "line 1: not an entry"),
    "no numbers": (
        '{"update": 1, "probabilities": {"encoder.1.1": {"ffn": "1"}}}\n',
        "line 1: not an entry",
    ),
    "not finite": (
        '{"update": 1, "probabilities": {"encoder.1.1": {"ffn": NaN}}}\n',
        "line 1: not an entry",
    ),
    "other nodes": (
        '{"update": 1, "probabilities": {"encoder.1.1": {"ffn": 1}}}\n'
        '{"update": 2, "probabilities": {"encoder.1.2": {"ffn": 1}}}\n',
        "line 2: other nodes or operations than in line 1",
    ),
}


@pytest.mark.parametrize(("content", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_log_is_named(folder, capsys, content, words):
    (folder / "genotype.json").unlink()
    (folder / "search.jsonl").unlink()
    if content is not None:
        (folder / "search.jsonl").write_text(content)
    message = failure(capsys, folder)
    assert words in message and str(folder) in message
    assert pictures(folder) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such"], "no/such: cannot be read as a genotype file"),
        (["no/such.pt"], "no/such.pt: no such file"),
        (["{search}", "-o", "x.png"], "--output x.png: a search gives 2 pictures"),
        (["{search}", "-o", "x.jpg"], "--output x.jpg: must end in .svg or .png or .pdf"),
        (["{search}", "-o", "genotype.json"], "--output genotype.json: must end in"),
        (["{search}", "-o", "x.png", "--format", "svg"], "its suffix is not --format svg"),
        (["{search}", "{search}"], "one of them is given twice"),
        (["{search}", "{larger}"], "larger.json: other nodes than those of search"),
        (["{search}", "-o", "{search}/search.jsonl/x"], "cannot be written"),
        (["{search}", "--user-dir", "no/such"], "argument --user-dir: no/such"),
    ],
)
def test_what_cannot_be_drawn_is_named(folder, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(folder.parent)
    searched(4, (2, 2), 0).save("larger.json")
    places = {"search": folder, "larger": folder.parent / "larger.json"}
    message = failure(capsys, *(argument.format(**places) for argument in arguments))
    assert words in message
    assert pictures(folder) == pictures(folder.parent) == []


def test_a_search_with_a_custom_operation_needs_its_user_dir(tmp_path, capsys):
    path = save(tmp_path / "checkpoint.pt", with_custom_operation("mine"))
    assert re.search(f"{path}: .*{CUSTOM_MESSAGE}", failure(capsys, path))


def test_without_matplotlib_it_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fairseq_revdarts.plots.style", None)
    assert "pip install matplotlib" in failure(capsys, folder)


def test_the_plugin_needs_no_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; import fairseq_revdarts.cli.plot"
    run(sys.executable, "-c", code)


def test_a_real_search_and_a_retrained_checkpoint(search, retrained, tmp_path):
    run(sys.executable, "-m", "fairseq_revdarts.cli.plot", search[0], "-o", tmp_path)
    written, _ = texts(tmp_path / "search.svg")
    last = read_log(search[0] / "search.jsonl")[-1]
    for node, name in winners(last).items():
        assert f"{label(name)}  {last['probabilities'][node][name]:.2f}" in written
    for path, genotype in (
        (retrained / "checkpoint_last.pt", retrained / "moved.json"),
        (search[0] / "checkpoint_last.pt", search[0] / "genotype.json"),
    ):
        main([str(path), "-o", str(tmp_path / "cell.svg")])
        _, groups = texts(tmp_path / "cell.svg")
        for node, name in operations_by_node(load_genotype(str(genotype))).items():
            assert groups[node] == label(name)
