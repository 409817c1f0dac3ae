"""fairseq's flags of generation that reach into a network: alignments, dropout."""

import re
from unittest import mock

import pytest
from fairseq.sequence_generator import EnsembleModel
from fairseq_cli.generate import cli_main as fairseq_generate
from helpers import SMALL_EVOLVED
from running import (
    GENERATE,
    RETRAIN,
    SEARCH,
    TEST_SENTENCES,
    TRANSLATION,
    in_process,
    run,
    save_without_flag,
    train_in_process,
)

import fairseq_revdarts
from fairseq_revdarts.models.evolved_transformer.model import EvolvedTransformerModel
from fairseq_revdarts.modules.operations import CrossAttention

GENOTYPE = "--genotype=random:1"
EVOLVED = [
    "--arch=evolved_transformer",
    *(f"--{name.replace('_', '-')}={value}" for name, value in SMALL_EVOLVED.items()),
]
NETWORKS = {
    "derived": [*RETRAIN, GENOTYPE],
    "supernet": SEARCH,
    "evolved": [*EVOLVED, *TRANSLATION],
}


@pytest.fixture(scope="module")
def networks(data, tmp_path_factory):
    """Checkpoints of every kind of network, of two updates."""
    folder = tmp_path_factory.mktemp("networks")
    for name, flags in NETWORKS.items():
        train_in_process(data, folder / name, *flags, updates=2)
    return {name: folder / name / "checkpoint_last.pt" for name in NETWORKS}


def alignments(data, monkeypatch, capsys, checkpoint, *flags):
    """The lines A of fairseq-generate, by the number of the sentence; lists of "hard" pairs."""
    words = ["--path", checkpoint, *GENERATE, "--beam=2", "--max-len-b=9", *flags]
    in_process(monkeypatch, fairseq_generate, data, *words)
    lines = re.findall(r"^A-(\d+)\t(.*)$", capsys.readouterr().out, re.MULTILINE)
    return {int(number): line.split() for number, line in lines}


@pytest.mark.parametrize("network", NETWORKS)
def test_alignments(data, networks, monkeypatch, capsys, network):
    """Of each target word the source word with the largest weight, end of sentence left out."""
    arguments = (data, monkeypatch, capsys, networks[network], "--print-alignment")
    hard, soft = alignments(*arguments, "hard"), alignments(*arguments, "soft")
    assert sorted(hard) == sorted(soft) == list(range(TEST_SENTENCES))
    assert sum(map(len, hard.values())) > TEST_SENTENCES
    for number, pairs in hard.items():
        rows = [[float(weight) for weight in row.split(",")] for row in soft[number]]
        assert all(abs(sum(row) - 1) < 1e-4 for row in rows)
        for pair in pairs:
            source, target = map(int, pair.split("-"))
            *words, _ = rows[target]
            assert words[source] == max(words)
    assert len(alignments(*arguments, "hard", "--score-reference")) == TEST_SENTENCES


@pytest.mark.parametrize("network", NETWORKS)
def test_alignments_that_nobody_asks_for_are_not_computed(data, networks, monkeypatch, network):
    words = ["--path", networks[network], *GENERATE, "--beam=2", "--max-len-b=9"]
    with mock.patch.object(CrossAttention, "alignment", side_effect=AssertionError):
        in_process(monkeypatch, fairseq_generate, data, *words)


def test_alignments_with_replaced_unknown_words(data, networks, tmp_path):
    """One source word alone is aligned to; fairseq itself cannot replace an <unk> by it."""
    (tmp_path / "words").write_text("one un\n")
    output = run(
        *("fairseq-interactive", data, "--path", networks["derived"], "--beam=2", *GENERATE),
        *("--source-lang=en", "--target-lang=fr", "--print-alignment=hard"),
        *(f"--replace-unk={tmp_path / 'words'}", "--unkpen=99", "--max-len-b=4"),
        input="unheardof\n",
    )
    (pairs,) = re.findall(r"^A-0\t(.*)$", output, re.MULTILINE)
    assert pairs and all(pair.startswith("0-") for pair in pairs.split())


@pytest.mark.parametrize("network", NETWORKS)
def test_alignments_from_python(data, networks, network):
    """Asked for when it is loaded, or in one call."""
    evolved, ours = EvolvedTransformerModel, fairseq_revdarts.RevDartsTransformerModel
    load = (evolved if network == "evolved" else ours).from_pretrained
    found = []
    for when_loaded, in_call in (
        ({"print_alignment": "hard"}, {}),
        ({}, {"print_alignment": "hard"}),
    ):
        model = load(
            networks[network].parent, "checkpoint_last.pt", str(data), max_len_b=5, **when_loaded
        )
        tokens = model.src_dict.encode_line("a b c", add_if_not_exist=False).long()
        found.append(model.generate(tokens, beam=1, **in_call)[0]["alignment"])
    assert found[0] == found[1] != []


@pytest.mark.parametrize("arch", ["revdarts_transformer", "revdarts_transformer_tiny"])
def test_a_checkpoint_older_than_the_norm_flag(data, tmp_path, monkeypatch, capsys, arch):
    """It is post-norm: it gets the scores that it got with the flag."""
    flags = ["--operation-norm=post", f"--arch={arch}", "--encoder-layers=2", "--decoder-layers=2"]
    train_in_process(data, tmp_path, *RETRAIN, GENOTYPE, *flags, updates=2)
    last, older = tmp_path / "checkpoint_last.pt", tmp_path / "older.pt"
    save_without_flag("operation_norm", last, older)
    scores = []
    for path in (last, older):
        words = ["--path", path, *GENERATE, "--score-reference"]
        in_process(monkeypatch, fairseq_generate, data, *words)
        scores.append(re.findall(r"^P-.*$", capsys.readouterr().out, re.MULTILINE))
    assert len(scores[0]) == TEST_SENTENCES and scores[0] == scores[1]


@pytest.fixture(scope="module")
def aligned(raw, tmp_path_factory):
    """The corpus with alignments: each word with the one at the same place."""
    folder = tmp_path_factory.mktemp("aligned")
    for split in ("train", "valid"):
        lines = zip(*((raw / f"pieces/{split}.{language}").open() for language in ("en", "fr")))
        counts = (min(len(line.split()) for line in pair) for pair in lines)
        text = "".join(" ".join(f"{i}-{i}" for i in range(count)) + "\n" for count in counts)
        (folder / f"{split}.align").write_text(text)
        for language in ("en", "fr"):
            (folder / f"{split}.{language}").symlink_to(raw / f"pieces/{split}.{language}")
    run(
        *("fairseq-preprocess", "--source-lang=en", "--target-lang=fr", "--joined-dictionary"),
        *(f"--trainpref={folder}/train", f"--validpref={folder}/valid"),
        *("--align-suffix=align", f"--destdir={folder}/data"),
    )
    return folder / "data"


@pytest.mark.parametrize("network", NETWORKS)
def test_training_with_given_alignments(aligned, tmp_path, caplog, network):
    """The loss of fairseq's criterion for them is logged, and falls."""
    flags = ["--load-alignments", "--criterion=label_smoothed_cross_entropy_with_alignment"]
    flags += ["--alignment-lambda=1", "--dropout=0", "--lr=0.01", "--log-interval=1", "--no-save"]
    with caplog.at_level("INFO"):
        train_in_process(aligned, tmp_path, *NETWORKS[network], *flags, updates=12)
    losses = [float(x) for x in re.findall(r'"alignment_loss": "([\d.]+)"', caplog.text)]
    assert len(losses) == 12 and sum(losses[-3:]) < 0.95 * sum(losses[:3])


SEARCHES = [
    *("--sampling --nbest=2", "--lenpen=0.5 --unkpen=1", "--sampling --sampling-topk=5 --nbest=2"),
    *("--sampling --sampling-topp=0.8 --nbest=2 --temperature=2", "--diversity-rate=0.5"),
    *("--diverse-beam-groups=2 --diverse-beam-strength=0.3", "--prefix-size=2", "--min-len=3"),
    *("--no-repeat-ngram-size=2", "--match-source-len", "--unnormalized", "--no-early-stop"),
    *("--score-reference", "--print-alignment"),
]


@pytest.mark.parametrize(
    ("network", "flags"),
    [
        *(("derived", flags) for flags in SEARCHES),
        *((network, "--nbest=2") for network in NETWORKS),
    ],
)
def test_searches_need_no_other_state(data, networks, monkeypatch, capsys, network, flags):
    """However hypotheses are kept and reordered, they are those of decoding from the beginning."""

    def lines():
        words = ["--path", networks[network], *GENERATE, "--beam=2", "--max-len-b=9", "--seed=3"]
        in_process(monkeypatch, fairseq_generate, data, *words, *flags.split())
        kinds = re.findall(r"^([HA])-(\d+)\t(.*)$", capsys.readouterr().out, re.MULTILINE)
        return [(kind, number, text.split("\t")[-1]) for kind, number, text in kinds]

    found = lines()
    assert len(found) >= TEST_SENTENCES
    monkeypatch.setattr(EnsembleModel, "has_incremental_states", lambda self: False)
    assert lines() == found


def test_constraints(data, networks):
    """The words that are asked for are in the translation."""
    output = run(
        *("fairseq-interactive", data, "--path", networks["derived"], "--beam=4", *GENERATE),
        *("--source-lang=en", "--target-lang=fr", "--constraints", "--max-len-b=8"),
        input="\u2581one\t\u2581trois\n",
    )
    (translation,) = re.findall(r"^H-0\t\S+\t(.*)$", output, re.MULTILINE)
    assert "\u2581trois" in translation.split()


@pytest.mark.parametrize("network", ["derived", "supernet"])
def test_dropout_that_is_retained(data, networks, monkeypatch, capsys, network):
    """All of it, or that of the nodes alone: other scores, which --seed repeats."""

    def scores(*flags):
        words = ["--path", networks[network], *GENERATE, "--score-reference", *flags]
        in_process(monkeypatch, fairseq_generate, data, *words)
        return re.findall(r"^H-\d+\t(\S+)", capsys.readouterr().out, re.MULTILINE)

    nodes = ["--retain-dropout", "--retain-dropout-modules", "MixedOperation"]
    variants = [[], ["--retain-dropout"], nodes, [*nodes, "--seed=2"]]
    found = [scores(*flags) for flags in variants]
    assert all(len(each) == TEST_SENTENCES for each in found)
    assert not any(one == other for i, one in enumerate(found) for other in found[:i])
    assert [scores(*flags) for flags in variants] == found
