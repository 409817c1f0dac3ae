"""Flags: what fits builds a network of the documented size, what does not is named."""

import logging
import math
import types

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from flags import FOUND, OTHER, config, parse
from helpers import task
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.models.revdarts_transformer.config import (
    chosen_genotype,
    network_shape,
)
from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel
from fairseq_revdarts.search_space import CROSS_ATTENTION, DECODER_CANDIDATES, ENCODER_CANDIDATES

# ------------------------------------------------------------------------------- validation

BAD_FLAGS = {
    "hidden size, encoder splits": (
        {"hidden_size": 961},
        ["--hidden-size 961", "multiple of the 2 encoder splits"],
    ),
    "hidden size, decoder splits": (
        {"hidden_size": 962, "attention_heads": 1},
        ["--hidden-size 962", "multiple of the 3 decoder splits"],
    ),
    "hidden size, heads in the encoder": (
        {"hidden_size": 966},
        ["--hidden-size 966", "2 encoder splits of 483", "multiple of --attention-heads 8"],
    ),
    "hidden size, heads in the decoder": (
        {"hidden_size": 954, "attention_heads": 9},
        ["--hidden-size 954", "3 decoder splits of 318", "multiple of --attention-heads 9"],
    ),
    "no hidden size": ({"hidden_size": 0}, ["--hidden-size 0"]),
    "no heads": ({"attention_heads": 0}, ["--attention-heads 0"]),
    "encoder layers": (
        {"encoder_layers": 7},
        ["--encoder-layers 7", "multiple of 2", "--cell-layers"],
    ),
    "decoder layers": (
        {"decoder_layers": 8, "cell_layers": 3},
        ["--decoder-layers 8", "multiple of 3", "--cell-layers"],
    ),
    "fewer layers than in a cell": (
        {"encoder_layers": 2, "cell_layers": 4},
        ["--encoder-layers 2", "multiple of 4", "--cell-layers"],
    ),
    "no encoder layers": ({"encoder_layers": 0}, ["--encoder-layers 0", "multiple of 2"]),
    "negative decoder layers": ({"decoder_layers": -2}, ["--decoder-layers -2", "multiple of 2"]),
    "one encoder split": ({"encoder_splits": 1}, ["--encoder-splits 1", "at least 2"]),
    "one decoder split": ({"decoder_splits": 1}, ["--decoder-splits 1", "at least 2"]),
    "no splits": ({"encoder_splits": 0}, ["--encoder-splits 0", "at least 2"]),
    "no cell layers": ({"cell_layers": 0}, ["--cell-layers 0", "at least 1"]),
    "negative cell layers": ({"cell_layers": -1}, ["--cell-layers -1", "at least 1"]),
    "no embedding": ({"embed_dim": 0}, ["--embed-dim 0", "at least 1"]),
    "all dropped": ({"dropout": 1.0}, ["--dropout 1.0", "below 1"]),
    "negative dropout": ({"attention_dropout": -0.1}, ["--attention-dropout -0.1", "from 0"]),
    "no number": ({"activation_dropout": math.nan}, ["--activation-dropout nan", "from 0"]),
    "no positions": ({"max_target_positions": 0}, ["--max-target-positions 0", "at least 1"]),
    "no ffn": ({"ffn_embed_dim": -1}, ["--ffn-embed-dim -1", "at least 1"]),
    "layers for the genotype": (
        {"genotype": OTHER.to_json(), "encoder_layers": 10},
        ["--encoder-layers 10", "multiple of 3", "genotype's cell layers"],
    ),
    "hidden size for the genotype": (
        {"genotype": OTHER.to_json(), "hidden_size": 962, "attention_heads": 1},
        ["--hidden-size 962", "multiple of the 4 encoder splits"],
    ),
    "a random genotype without a seed": ({"genotype": "random:1.5"}, ["--genotype random:1.5"]),
    "a random genotype's splits": (
        {"genotype": "random:1", "decoder_splits": 1},
        ["--decoder-splits 1", "at least 2"],
    ),
    "a genotype file that is not there": (
        {"genotype": "no/such/genotype.json"},
        ["--genotype no/such/genotype.json", "No such file"],
    ),
}


@pytest.mark.parametrize(("flags", "words"), BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_a_flag_that_does_not_fit_is_named(flags, words):
    with pytest.raises(ValueError, match=r"^--") as error:
        network_shape(config(**flags))
    for word in words:
        assert word in str(error.value)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([1, 2, 3, 4, 6, 12]),
    st.integers(-1, 6),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([0, 7, 120, 240, 480, 960]),
    st.sampled_from([0, 1, 4, 5, 8]),
)
@example(12, 2, 2, 3, 960, 8)
def test_what_does_not_fit_is_refused_and_only_that(layers, s, encoder, decoder, width, heads):
    cfg = config(
        encoder_layers=layers,
        decoder_layers=12,
        cell_layers=s,
        encoder_splits=encoder,
        decoder_splits=decoder,
        hidden_size=width,
        attention_heads=heads,
    )
    fits = (
        min(s, heads, width) >= 1
        and min(encoder, decoder) >= 2
        and layers % s == 12 % s == 0
        and width % (encoder * heads) == width % (decoder * heads) == 0
    )
    if not fits:
        with pytest.raises(ValueError, match=r"^--"):
            network_shape(cfg)
        return
    shape = network_shape(cfg)
    assert shape.searched
    assert shape.pooling == "max"
    assert shape.operations["encoder"] == [[ENCODER_CANDIDATES] * encoder] * s
    searched = [DECODER_CANDIDATES] * (decoder - 1)
    assert shape.operations["decoder"] == [[*searched, (CROSS_ATTENTION,)]] * s


small = st.integers(-1, 6)
FLAGS = {
    **dict.fromkeys(("encoder_layers", "decoder_layers", "cell_layers"), small),
    **dict.fromkeys(("encoder_splits", "decoder_splits", "attention_heads"), small),
    **{flag: st.integers(-1, 24) for flag in ("embed_dim", "hidden_size", "ffn_embed_dim")},
    **{flag: st.floats() for flag in ("dropout", "attention_dropout", "activation_dropout")},
    "max_source_positions": st.integers(-2, 9),
    "pooling": st.sampled_from(["max", "avg"]),
    "genotype": st.none()
    | st.text(max_size=5)
    | st.sampled_from([FOUND, OTHER]).map(Genotype.to_json),
}
FITTING = {"encoder_layers": 6, "decoder_layers": 6, "hidden_size": 24, "attention_heads": 1}


@settings(deadline=None, max_examples=100)
@given(st.fixed_dictionaries({}, optional=FLAGS))
@example({"encoder_splits": 3, "hidden_size": 3})  # too narrow for sinusoidal positions
@example({"dropout": 0.5, "pooling": "avg"})
@example({"hidden_size": 18, "genotype": None})
def test_any_flags_build_a_network_that_runs_or_name_one_of_them(flags):
    dictionary = Dictionary()
    task = types.SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    try:
        cfg = config(**{"max_source_positions": 9, **FITTING, **flags})
        model = RevDartsTransformerModel.build_model(cfg, task)
    except ValueError as error:
        named = str(error).split()[0]
        assert named.startswith("--") and named[2:].replace("-", "_") in {*FLAGS, "genotype"}
        return
    tokens = torch.full((2, 2), dictionary.unk())
    logits, _ = model.eval()(tokens, None, tokens)
    assert logits.shape == (2, 2, len(dictionary)) and logits.isfinite().all()


# ------------------------------------------------------------------------------- genotypes


def test_a_genotype_overrides_the_flags_and_says_so(caplog):
    cfg = config(genotype=OTHER.to_json(), encoder_layers=6, decoder_layers=9)
    with caplog.at_level(logging.INFO, logger="fairseq_revdarts"):
        shape = network_shape(cfg)
    assert not shape.searched
    assert shape.pooling == "avg"
    assert shape.cell_layers == 3
    assert (shape.splits("encoder"), shape.splits("decoder")) == (4, 2)
    assert shape.operations["encoder"] == [[("ffn",), ("glu",), ("conv_3",), ("identity",)]] * 3
    assert shape.operations["decoder"] == [[("zero",), (CROSS_ATTENTION,)]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "--encoder-splits is 4, as the genotype says, not 2",
        "--decoder-splits is 2, as the genotype says, not 3",
        "--cell-layers is 3, as the genotype says, not 2",
        "--pooling is avg, as the genotype says, not max",
    ]


def test_a_genotype_that_agrees_with_the_flags_says_nothing(caplog):
    with caplog.at_level(logging.INFO, logger="fairseq_revdarts"):
        network_shape(config(genotype=FOUND.to_json()))
    assert not caplog.records


def test_flags_that_the_genotype_overrides_are_not_checked():
    flags = {"encoder_splits": 0, "decoder_splits": 1, "cell_layers": 0}
    assert network_shape(config(genotype=FOUND.to_json(), **flags)).cell_layers == 2


def test_a_random_genotype_takes_the_shape_of_the_flags():
    flags = {"encoder_splits": 4, "decoder_splits": 2, "cell_layers": 3, "pooling": "avg"}
    shape = network_shape(config(genotype="random:7", **flags))
    assert not shape.searched and shape.pooling == "avg" and shape.cell_layers == 3
    assert (shape.splits("encoder"), shape.splits("decoder")) == (4, 2)
    assert shape == network_shape(config(genotype="random:7", **flags))
    assert shape != network_shape(config(genotype="random:8", **flags))


def test_a_random_genotype_is_the_same_everywhere():
    assert chosen_genotype(config(genotype="random:1")) == Genotype(
        "max",
        (("conv_5", "zero"), ("glu", "conv_11")),
        (
            ("dynamic_conv_11", "dynamic_conv_11", CROSS_ATTENTION),
            ("glu", "zero", CROSS_ATTENTION),
        ),
    )


def test_a_random_genotype_on_the_command_line_waits_for_the_flags():
    cfg = convert_namespace_to_omegaconf(parse("--genotype", "random:1", "--cell-layers", "3"))
    assert cfg.model.genotype == "random:1" and network_shape(cfg.model).cell_layers == 3


def test_a_genotype_is_read_from_a_file(tmp_path):
    FOUND.save(str(tmp_path / "found.json"))
    from_file = network_shape(config(genotype=str(tmp_path / "found.json")))
    assert from_file == network_shape(config(genotype=FOUND.to_json()))


@pytest.mark.parametrize(
    ("flags", "better"),
    [
        (["--fp16"], "--hidden-size 768 or 1152"),
        (["--bf16", "--hidden-size=192"], "--hidden-size 384"),
        (["--fp16", "--hidden-size=384"], None),
        ([], None),
    ],
)
def test_heads_that_are_slow_in_half_precision_are_warned_of(flags, better, caplog):
    small = ["--encoder-layers=1", "--decoder-layers=1", "--genotype=random:1", "--cell-layers=1"]
    cfg = convert_namespace_to_omegaconf(parse(*small, *flags))
    RevDartsTransformerModel.build_model(cfg.model, task())
    warned = [record.getMessage() for record in caplog.records if "heads of" in record.msg]
    assert len(warned) == (better is not None)
    assert all(message.endswith(better) for message in warned)
