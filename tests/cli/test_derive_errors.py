"""`revdarts-derive`: one line says why there is no genotype, and nothing is lost."""

import math
import os
import re

import pytest
import torch
from searches import (
    CUSTOM_MESSAGE,
    OLD,
    random_alpha,
    random_living,
    save,
    search,
    with_custom_operation,
)

from fairseq_revdarts.cli.derive import main
from fairseq_revdarts.search_space import CANDIDATES


def failure(capsys, *arguments):
    """The one line that `revdarts-derive ARGUMENTS` ends with; nothing else may have happened."""
    before = {name: os.stat(name).st_mtime_ns for name in os.listdir()}
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    printed = capsys.readouterr()
    code = stop.value.code  # as text, Python prints it and exits with 1
    assert code == 1 or isinstance(code, str)
    message = (printed.err + (code if isinstance(code, str) else "")).strip()
    assert message.startswith("revdarts-derive: error: ")
    assert "\n" not in message
    assert printed.out == ""
    assert {name: os.stat(name).st_mtime_ns for name in os.listdir()} == before
    with open("genotype.json", encoding="utf-8") as file:
        assert file.read() == OLD
    return message


def test_a_file_that_is_not_there(folder, capsys):
    assert "no/such.pt: no such file" in failure(capsys, "no/such.pt")


def test_a_directory(folder, capsys):
    os.mkdir("checkpoints")
    assert "checkpoints" in failure(capsys, "checkpoints")


@pytest.mark.parametrize("share", [0, 0.001, 0.005, 0.02, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("zip_file", [True, False])
def test_a_truncated_file(folder, capsys, share, zip_file):
    content = search()
    content["model"]["encoder.large"] = torch.zeros(5000)
    torch.save(content, "checkpoint.pt", _use_new_zipfile_serialization=zip_file)
    size = os.path.getsize("checkpoint.pt")
    os.truncate("checkpoint.pt", int(share * size))
    message = failure(capsys, "checkpoint.pt")
    assert "checkpoint.pt" in message
    assert "cut short" in message


NO_CHECKPOINT = {
    "empty": b"",
    "text": b"hello\n",
    "JSON": b'{"format": "revdarts-genotype"}\n',
    "long text": b"a b c\n" * 100,
    "start of a pickle": b"\x80\x02",
    "broken pickle": b"\x80\x04\x95" + b"\0" * 20,
    "pickle that would run code": b"cos\nsystem\n(S'true'\ntR.",
    "broken zip": b"PK\x03\x04" + b"\0" * 100,
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("content", NO_CHECKPOINT.values(), ids=NO_CHECKPOINT)
def test_a_file_that_is_no_checkpoint(folder, capsys, content):
    (folder / "checkpoint.pt").write_bytes(content)
    assert "checkpoint.pt" in failure(capsys, "checkpoint.pt")


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


ALPHA = search()["model"]
NO_SEARCH = {
    "of a derived network": {**search(), "model": {"encoder.layer_norm.weight": torch.ones(4)}},
    "of one side only": {**search(), "model": without(ALPHA, "architecture.decoder")},
    "without weights": {**search(), "model": None},
    "without model": without(search(), "model"),
    "weights that are a list": {**search(), "model": [1, 2]},
    "weights that are a tensor": {**search(), "model": torch.ones(3)},
    "a list": [1, 2, 3],
    "a tensor": torch.ones(3),
    "nothing": None,
    "without configuration": without(search(), "cfg"),
    "configuration that is nothing": {**search(), "cfg": None},
    "another model's configuration": {**search(), "cfg": {"model": {"arch": "transformer"}}},
    "alpha that is no tensor": {
        **search(),
        "model": {"architecture.encoder": 1.0, "architecture.decoder": 2.0},
    },
}
UNREADABLE = {
    "alpha of other candidates": (
        search({**random_alpha(), "encoder": torch.ones(2, 2, 12)}),
        "of 12 candidates, 13 are known; .* had no --user-dir",
    ),
    "alpha of two dimensions": (
        search({"encoder": torch.ones(2, 13), "decoder": torch.ones(2, 14)}),
        "its search cannot be read",
    ),
    "alpha of other cell layers on each side": (
        search({"encoder": torch.ones(1, 2, 13), "decoder": torch.ones(2, 2, 14)}),
        "its search cannot be read",
    ),
    "alpha of no layers": (
        search({"encoder": torch.ones(0, 2, 13), "decoder": torch.ones(0, 2, 14)}),
        "its search cannot be read",
    ),
    "living candidates of another shape": (
        search(living={"encoder": torch.ones(3, 2, 13, dtype=torch.bool)}),
        "its search cannot be read",
    ),
    "unknown pooling": (search(pooling="median"), "its search cannot be read: .*median"),
    "a custom operation": (with_custom_operation("mine"), CUSTOM_MESSAGE),
    "a custom operation in the list": (
        search(encoder_candidates="ffn,mine"),
        "no encoder operation 'mine'; they are conv_3, .* had no --user-dir",
    ),
}


@pytest.mark.parametrize("content", NO_SEARCH.values(), ids=NO_SEARCH)
def test_a_checkpoint_that_is_no_search(folder, capsys, content):
    message = failure(capsys, save("checkpoint.pt", content))
    assert "checkpoint.pt: not a search's checkpoint" in message


@pytest.mark.parametrize(("content", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_search_that_cannot_be_read(folder, capsys, content, words):
    message = failure(capsys, save("checkpoint.pt", content))
    assert re.search(f"checkpoint.pt: .*{words}", message), message
    assert "not a search's checkpoint" not in message


def test_a_checkpoint_that_would_run_code(folder, capsys):
    class Attack:
        def __reduce__(self):
            return os.mkdir, ("attacked",)

    save("checkpoint.pt", {**search(), "extra": Attack()})
    assert "checkpoint.pt" in failure(capsys, "checkpoint.pt")
    assert not os.path.exists("attacked")


OTHER_SPACES = {
    "cell layers": search(random_alpha(cell_layers=1)),
    "encoder splits": search(random_alpha(encoder_splits=3)),
    "decoder splits": search(random_alpha(searched=3)),
    "pooling": search(pooling="avg"),
}


@pytest.mark.parametrize("other", OTHER_SPACES.values(), ids=OTHER_SPACES)
def test_checkpoints_of_different_search_spaces(folder, capsys, other):
    paths = [save("0.pt", search()), save("1.pt", search()), save("2.pt", other)]
    message = failure(capsys, *paths)
    assert "2.pt" in message
    assert "0.pt" in message
    assert "another search space" in message


def test_one_broken_checkpoint_among_several_is_named(folder, capsys):
    save("0.pt", search())
    message = failure(capsys, "0.pt", "1.pt")
    assert "1.pt" in message
    assert "0.pt" not in message


@pytest.mark.parametrize(
    ("exclude", "words"),
    [
        ("conv_4", ["'conv_4'", "conv_3"]),
        ("ffn,FFN", ["'FFN'", "ffn"]),
        (",".join(CANDIDATES["encoder"]), ["all encoder operations"]),
    ],
)
def test_what_cannot_be_excluded(folder, capsys, exclude, words):
    message = failure(capsys, save("checkpoint.pt", search()), "--exclude", exclude)
    for word in ["exclude", *words]:
        assert word in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--exclude=zero"], "--exclude: the search has no other left in decoder.1.2"),
        ([], "no candidate is left in decoder.1.2"),
    ],
)
def test_a_node_that_has_nothing_left(folder, capsys, flags, words):
    living = random_living(seed=0, threshold=math.inf)
    node = living["decoder"][0, 1]
    node[:] = False
    node[CANDIDATES["decoder"].index("zero")] = bool(flags)
    message = failure(capsys, save("checkpoint.pt", search(living=living)), *flags)
    assert words in message
    assert bool(flags) == ("--exclude" in message)


@pytest.mark.parametrize("output", ["no/such/folder/found.json", "a_folder"])
def test_an_output_that_cannot_be_written(folder, capsys, output):
    os.mkdir("a_folder")
    checkpoint = save("checkpoint.pt", search())
    message = failure(capsys, checkpoint, "-o", output)
    assert output in message and "None" not in message
    assert os.listdir("a_folder") == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top=0"], "--top 0: at least 1"),
        (["--top=2", "--by-family"], "--top: not with --by-family"),
        (["other.pt", "--weights=network.pt"], "--weights: the weights are those of one"),
    ],
)
def test_flags_that_do_not_fit(folder, capsys, flags, message):
    with pytest.raises(SystemExit):
        main([save("checkpoint.pt", search()), *flags])
    assert message in capsys.readouterr().err
    assert (folder / "genotype.json").read_text() == OLD
