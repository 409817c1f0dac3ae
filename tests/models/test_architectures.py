"""The named architectures: their sizes, and their flags on the command line."""

import dataclasses
import json
import types

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import build_model
from flags import FOUND, OTHER, config, parse, parse_error
from omegaconf import OmegaConf

from fairseq_revdarts.models.revdarts_transformer.config import (
    RevDartsTransformerConfig,
    chosen_genotype,
    network_shape,
)
from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel

BASE = {
    "genotype": None,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "cell_layers": 2,
    "encoder_splits": 2,
    "decoder_splits": 3,
    "pooling": "max",
    "embed_dim": 256,
    "hidden_size": 960,
    "attention_heads": 8,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "share_decoder_input_output_embed": False,
    "share_all_embeddings": False,
    "backprop": None,
    "max_source_positions": 1024,
    "max_target_positions": 1024,
}
BIG = {**BASE, "embed_dim": 512, "hidden_size": 1824, "dropout": 0.3}


@pytest.mark.parametrize(
    ("arch", "expected"), [("revdarts_transformer", BASE), ("revdarts_transformer_big", BIG)]
)
def test_the_named_architectures_have_the_documented_numbers(arch, expected):
    model = convert_namespace_to_omegaconf(parse(arch=arch)).model
    assert {flag: model[flag] for flag in expected} == expected
    network_shape(model)


def test_the_tiny_architecture_is_a_small_one_of_the_same_kind():
    tiny = convert_namespace_to_omegaconf(parse(arch="revdarts_transformer_tiny")).model
    for flag in ("cell_layers", "encoder_splits", "decoder_splits", "pooling", "dropout"):
        assert tiny[flag] == BASE[flag]
    for flag in ("encoder_layers", "decoder_layers", "embed_dim", "hidden_size"):
        assert tiny[flag] < BASE[flag]
    network_shape(tiny)


def test_flags_on_the_command_line_override_a_named_architecture():
    flags = ["--hidden-size", "912", "--dropout", "0.2", "--pooling", "avg"]
    model = convert_namespace_to_omegaconf(parse(*flags, arch="revdarts_transformer_big")).model
    assert (model.hidden_size, model.dropout, model.pooling) == (912, 0.2, "avg")
    assert model.embed_dim == 512


def test_without_a_command_line_the_configuration_is_the_base():
    """As fairseq-hydra-train takes it."""
    cfg = dataclasses.asdict(RevDartsTransformerConfig())
    positions = {"max_source_positions", "max_target_positions"}  # the task's
    assert {flag: cfg[flag] for flag in BASE if flag not in positions} == {
        flag: value for flag, value in BASE.items() if flag not in positions
    }


def parameters(vocabulary, **flags):
    """Millions of parameters of the network with a joint vocabulary."""
    dictionary = Dictionary()
    for number in range(vocabulary - len(dictionary)):
        dictionary.add_symbol(str(number))
    task = types.SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        cfg = config(share_all_embeddings=True, **flags)
        model = RevDartsTransformerModel.build_model(cfg, task)
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def test_the_base_that_was_found_has_the_reported_parameters():
    assert parameters(33_000, genotype=FOUND.to_json()) == pytest.approx(65, abs=3)


# ------------------------------------------------------------------------------- command line


def test_a_genotype_file_on_the_command_line_becomes_its_content(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(json.loads(OTHER.to_json()), indent=2), encoding="utf-8")
    args = parse("--genotype", str(path))
    path.unlink()
    assert args.genotype == OTHER.to_json()
    cfg = convert_namespace_to_omegaconf(args)
    assert cfg.model.genotype == OTHER.to_json()
    assert network_shape(cfg.model).cell_layers == 3


def test_a_genotype_that_an_earlier_run_stored_is_taken_as_it_is():
    assert parse("--genotype", OTHER.to_json()).genotype == OTHER.to_json()


def test_without_a_genotype_the_network_is_the_supernet():
    args = parse()
    assert network_shape(convert_namespace_to_omegaconf(args).model).searched


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--pooling", "median"], ["--pooling", "'median'", "max", "avg"]),
        (["--backprop", "nothing"], ["--backprop", "'nothing'", "reconstruct", "store"]),
        (["--hidden-size", "wide"], ["--hidden-size", "'wide'"]),
        (["--genotype", "no/such.json"], ["--genotype", "no/such.json", "No such file"]),
        (["--genotype", "random:x"], ["argument --genotype: random:x", "such as random:1"]),
        (["--genotype", "random:"], ["argument --genotype: random:", "such as random:1"]),
    ],
)
def test_a_flag_that_cannot_be_read_is_an_error_of_the_command_line(capsys, flags, words):
    message = parse_error(capsys, *flags)
    for word in ["error", *words]:
        assert word in message


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        ("not JSON", "not JSON"),
        ("", "not JSON"),
        (FOUND.to_json().replace("max", "median"), "'median'"),
        (FOUND.to_json().replace("ffn", "100%"), "'100%'"),
        (FOUND.to_json().replace('"version": 1', '"version": 2'), "version"),
    ],
)
def test_a_broken_genotype_file_is_an_error_of_the_command_line(tmp_path, capsys, content, flaw):
    path = tmp_path / "broken.json"
    path.write_text(content, encoding="utf-8")
    message = parse_error(capsys, "--genotype", str(path))
    assert str(path) in message
    assert flaw in message


@pytest.mark.parametrize("backprop", ["reconstruct", "checkpoint", "store"])
def test_each_way_of_backpropagation_is_accepted(backprop):
    args = parse("--backprop", backprop)
    assert convert_namespace_to_omegaconf(args).model.backprop == backprop


@pytest.mark.parametrize("name", ["genotype.json", "random:1"])
def test_checkpoints_hold_the_genotype_itself(tmp_path, monkeypatch, name):
    """As a hydra configuration names it: a path, or a random one."""
    monkeypatch.chdir(tmp_path)
    FOUND.save("genotype.json")
    model = {"_name": "revdarts_transformer", "genotype": name, "hidden_size": 48}
    model.update(max_source_positions=64, max_target_positions=64)
    tree = OmegaConf.create({"model": model})
    symbols = Dictionary()
    task = types.SimpleNamespace(source_dictionary=symbols, target_dictionary=symbols)
    build_model(tree.model, task)
    expected = chosen_genotype(config(genotype=name))
    assert tree.model.genotype == expected.to_json()
