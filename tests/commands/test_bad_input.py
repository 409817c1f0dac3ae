"""Files and data that a search cannot use: an error that names them, and no work done."""

import os
import pickle
import zipfile

import pytest
import torch
from fairseq_cli.generate import cli_main as fairseq_generate
from fairseq_cli.preprocess import cli_main as fairseq_preprocess
from running import (
    GENERATE,
    RETRAIN,
    SEARCH,
    in_process,
    load,
    save_without_flag,
    train,
    train_in_process,
    weights_only,
)
from searches import CUSTOM_MESSAGE, save, with_custom_operation

from fairseq_revdarts.cli.derive import main as derive

SHIPPED = "--genotype=multi30k_en_de_1"


# ------------------------------------------------------------------------------- checkpoints


def attack(folder):
    """A checkpoint that makes a folder when it is unpickled."""

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(folder / "attacked"),)

    return Attack()


def empty_zip(path):
    with zipfile.ZipFile(path, "w"):
        pass


BROKEN = {
    "truncated": lambda path, whole: path.write_bytes(whole.read_bytes()[: 2 * 10**5]),
    "empty": lambda path, whole: path.write_bytes(b""),
    "random": lambda path, whole: path.write_bytes(bytes(range(256)) * 9),
    "zip without content": lambda path, whole: empty_zip(path),
    "malicious": lambda path, whole: torch.save({**load(whole), "x": attack(path.parent)}, path),
    "malicious pickle": lambda path, whole: path.write_bytes(pickle.dumps(attack(path.parent))),
}
FOREIGN = {
    "weights alone": lambda path, whole: torch.save(load(whole)["model"], path),
    "another model's": lambda path, whole: torch.save(
        {**load(whole), "model": {"encoder.embed_tokens.weight": torch.zeros(8, 4)}}, path
    ),
    "missing": lambda path, whole: None,
}


KINDS = [
    pytest.param(kind, marks=weights_only if kind.startswith("malicious") else ())
    for kind in (*BROKEN, *FOREIGN)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_is_broken_or_foreign(data, search, tmp_path, monkeypatch, capsys, kind):
    """Given to the search, to training, to fairseq-generate and to revdarts-derive."""
    path, folder = tmp_path / "other.pt", tmp_path / "out"
    {**BROKEN, **FOREIGN}[kind](path, search[0] / "checkpoint_last.pt")
    reason = "no such file" if kind == "missing" else "not a "
    with pytest.raises(ValueError, match=f"{path}: {reason}"):
        train_in_process(data, folder, *SEARCH, f"--restore-file={path}", updates=1)
    with pytest.raises(SystemExit, match=f"{path}: {reason}"):
        derive([str(path), "-o", str(tmp_path / "genotype.json")])
    named = f"^{path}: not a readable checkpoint" if kind in BROKEN else ""
    with pytest.raises(ValueError if named else Exception, match=named):
        in_process(monkeypatch, fairseq_generate, data, "--path", path, *GENERATE)
    if kind != "missing":  # fairseq trains from the start then
        with pytest.raises(ValueError if named else Exception, match=named or str(path)):
            flags = [*RETRAIN, SHIPPED, f"--restore-file={path}"]
            train_in_process(data, folder, *flags, updates=1)
    assert "H-0" not in capsys.readouterr().out
    assert not (tmp_path / "attacked").exists() and not (tmp_path / "genotype.json").exists()
    assert list(folder.iterdir()) == []


def test_a_damaged_last_checkpoint_is_neither_used_nor_overwritten(data, tmp_path):
    """As a user finds it: exit code 1, and the last line names the file."""
    (tmp_path / "checkpoint_last.pt").write_bytes(b"PK\x03\x04 cut short")
    output = train(data, tmp_path, *SEARCH, updates=1, fails=True)
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"ValueError: {tmp_path}/checkpoint_last.pt: not a readable checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_last.pt"]
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == b"PK\x03\x04 cut short"


@pytest.mark.parametrize(
    "flag", ["--pooling=avg", "--encoder-splits=3", "--decoder-splits=2", "--cell-layers=1"]
)
def test_a_search_of_another_search_space_is_not_taken_up(data, search, tmp_path, flag):
    restored = f"--restore-file={search[0] / 'checkpoint_last.pt'}"
    with pytest.raises(
        ValueError, match=r"checkpoint_last\.pt: its search has another search space"
    ):
        train_in_process(data, tmp_path, *SEARCH, restored, flag, updates=7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--node-input=pooled", "--node-input pooled: the search in .*_last.pt has normalized"),
        ("--operation-norm=post", "--operation-norm post: the search in .*_last.pt has pre"),
        ("--attention-heads=2", "--attention-heads 2: the search in .*_last.pt has 4"),
    ],
)
def test_nodes_that_compute_something_else_are_not_taken_up(data, search, tmp_path, flag, message):
    restored = f"--restore-file={search[0] / 'checkpoint_last.pt'}"
    with pytest.raises(ValueError, match=message):
        train_in_process(data, tmp_path, *SEARCH, restored, flag, updates=7)
    assert list(tmp_path.iterdir()) == []


def test_a_search_older_than_the_norm_flag_is_post_norm(data, search, tmp_path):
    save_without_flag("operation_norm", search[0] / "checkpoint_last.pt", tmp_path / "older.pt")
    restored = f"--restore-file={tmp_path / 'older.pt'}"
    with pytest.raises(ValueError, match=r"--operation-norm pre: the search in .* has post"):
        train_in_process(data, tmp_path / "new", *SEARCH, restored, updates=7)


def test_a_search_with_a_custom_operation_is_not_taken_up_without_it(data, search, tmp_path):
    content = load(search[0] / "checkpoint_last.pt")
    content["model"].update(with_custom_operation("mine")["model"])
    content["cfg"]["common"]["user_dir"] = "mine"
    restored = f"--restore-file={save(tmp_path / 'other.pt', content)}"
    with pytest.raises(ValueError, match=f"other.pt: .*{CUSTOM_MESSAGE}"):
        train_in_process(data, tmp_path / "out", *SEARCH, restored, updates=7)
    assert list((tmp_path / "out").iterdir()) == []


# ------------------------------------------------------------------------------- data


@pytest.fixture
def corpus(raw, data, tmp_path, monkeypatch):
    """Binarises pairs of lines as training and validation data."""

    def binarise(source, target, dictionary=data / "dict.en.txt"):
        for split in ("train", "valid"):
            for language, lines in (("en", source), ("fr", target)):
                text = "".join(f"{line}\n" for line in lines)
                (tmp_path / f"{split}.{language}").write_text(text)
        flags = ["--source-lang=en", "--target-lang=fr", "--joined-dictionary"]
        flags += [f"--trainpref={tmp_path}/train", f"--validpref={tmp_path}/valid"]
        flags += [f"--destdir={tmp_path}/data"]
        flags += [f"--srcdict={dictionary}"] if dictionary else []
        in_process(monkeypatch, fairseq_preprocess, *flags)
        return tmp_path / "data"

    return binarise


def pairs(raw, count):
    return [
        (raw / f"pieces/train.{language}").read_text().splitlines()[:count]
        for language in ("en", "fr")
    ]


@pytest.mark.parametrize(
    ("count", "message"),
    [(0, "its (train|valid) data are empty"), (1, "leaves 1 to theta and 0 to alpha")],
)
def test_nothing_for_one_of_the_levels(raw, corpus, tmp_path, count, message):
    with pytest.raises(ValueError, match=message):
        train_in_process(corpus(*pairs(raw, count)), tmp_path / "out", *SEARCH, updates=1)
    assert list((tmp_path / "out").iterdir()) == []


def enormous(raw, ordinary):
    """A pair that is all pairs in one, and some ordinary ones."""
    return [[" ".join(lines), *lines[:ordinary]] for lines in pairs(raw, 300)]


VALIDATE = [flag for flag in SEARCH if flag != "--disable-validation"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "skip this example with --skip-invalid-size-inputs-valid-test"),
        (["--max-source-positions=9999", "--max-target-positions=9999"], "max_tokens=400"),
    ],
)
def test_an_enormous_sentence(raw, corpus, tmp_path, caplog, flags, message):
    """Training leaves it out and says so; validation asks for a flag."""
    data = corpus(*enormous(raw, 9))
    with pytest.raises(Exception, match=message):
        train_in_process(data, tmp_path / "out", *VALIDATE, *flags, updates=1)
    assert "1 samples have invalid sizes and will be skipped" in caplog.text
    skip = "--skip-invalid-size-inputs-valid-test"
    if not flags:
        train_in_process(data, tmp_path / "skipping", *VALIDATE, skip, updates=1)
        assert (tmp_path / "skipping/checkpoint_last.pt").exists()


def test_enormous_sentences_alone(raw, corpus, tmp_path):
    data = corpus(*([f"{lines[0]} {line}" for line in lines[1:]] for lines in enormous(raw, 4)))
    with pytest.raises(
        ValueError, match=r"all 2 training pairs of alpha are too long: raise --max"
    ):
        train_in_process(data, tmp_path / "out", *SEARCH, updates=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_another_vocabulary_is_named_on_resuming(raw, corpus, search, tmp_path):
    data = corpus(*pairs(raw, 50), dictionary=None)
    restored = f"--restore-file={search[0] / 'checkpoint_last.pt'}"
    with pytest.raises(Exception, match="Cannot load model parameters") as stop:
        train_in_process(data, tmp_path / "out", *SEARCH, restored, updates=7)
    cause = str(stop.value.__context__)
    assert "the checkpoint's source vocabulary has" in cause and "--srcdict" in cause
    assert list((tmp_path / "out").iterdir()) == []


# ------------------------------------------------------------------------------- folders


def test_a_save_directory_that_cannot_be_written(data, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NotADirectoryError, match="file/sub"):
        train_in_process(data, tmp_path / "file/sub", *SEARCH, updates=1)
    assert (tmp_path / "file").read_text() == "precious"
