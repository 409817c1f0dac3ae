"""The Evolved Transformer: published size, causality, padding, decoding, fairseq's commands."""

import re
from argparse import Namespace

import pytest
import torch
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from helpers import (
    SMALL_EVOLVED,
    beam_orders,
    build_evolved,
    check_incremental_model,
    check_padding_of_model,
    task,
)
from hypothesis import given, settings
from running import GENERATE, PLUGIN, TEST_SENTENCES, TRANSLATION, hypotheses, run, train

from fairseq_revdarts.models.evolved_transformer.cells import TimeConvolution
from fairseq_revdarts.models.evolved_transformer.model import evolved_transformer_big

#: Types in the joint vocabulary of tensor2tensor's translate_ende_wmt32k.
VOCABULARY = 33_288


def small():
    return build_evolved(**SMALL_EVOLVED).double().eval()


def transformer():
    flags = Namespace(share_all_embeddings=True)
    return TransformerModelBase.build_model(
        TransformerConfig.from_namespace(flags), task(VOCABULARY)
    )


def evolved_base():
    return build_evolved(VOCABULARY, share_all_embeddings=True)


def evolved_big():
    flags = Namespace(share_all_embeddings=True)
    evolved_transformer_big(flags)
    return build_evolved(VOCABULARY, **vars(flags))


@pytest.mark.parametrize(
    ("network", "published"), [(transformer, 61.1), (evolved_base, 64.1), (evolved_big, 221.7)]
)
def test_parameters_are_the_published_ones(network, published):
    """To the last digit of So et al. (2019); the Transformer's says that the vocabulary is theirs.

    Left out are the biases of attention, which tensor2tensor's has not, and the copies of weights
    that the Transformer of fairseq 0.12.2 holds.
    """
    with torch.device("meta"):
        model = network()
    left_out = re.compile(r"(attention|attn)\.\w+_proj\.bias|layers\.\d+\.\w+_(weight|bias)$")
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    millions = sum(size for name, size in sizes.items() if not left_out.search(name)) / 1e6
    assert round(millions, 1) == published
    assert sum(sizes.values()) < 1.001 * 1e6 * millions or network is transformer


def test_each_decoder_cells_first_attention_has_sixteen_heads():
    cell = small().decoder.layers[1]
    beside, across = cell.attentions.operations
    heads = [beside, across, *cell.self_attention.operations, *cell.cross_attention.operations]
    assert [operation.attention.num_heads for operation in heads] == [16, 2, 2, 2]


def test_convolutions_have_the_published_widths():
    widths = {
        side: [
            module.convolution.kernel_size[0]
            for module in getattr(small(), side).layers[1].convolutions.modules()
            if isinstance(module, TimeConvolution)
        ]
        for side in ("encoder", "decoder")
    }
    assert widths == {"encoder": [3, 9], "decoder": [11, 7, 7]}


def test_every_parameter_is_trained():
    model = small()
    logits, _ = model(torch.randint(4, 30, (2, 5)), None, torch.randint(4, 30, (2, 6)))
    logits.sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_decoder_is_causal():
    model, source, target = small(), torch.randint(4, 30, (2, 5)), torch.randint(4, 30, (2, 14))
    before, _ = model(source, None, target)
    for changed in range(target.size(1)):
        other = target.clone()
        other[:, changed] = (target[:, changed] - 3) % 26 + 4
        after, _ = model(source, None, other)
        torch.testing.assert_close(after[:, :changed], before[:, :changed])
        assert not torch.isclose(after[:, changed:], before[:, changed:]).all(-1).any()


def test_padding_never_changes_a_sentences_logits():
    check_padding_of_model(small())


@settings(deadline=None, max_examples=15)
@given(orders=beam_orders())
def test_incremental_decoding_with_reordered_beams(orders):
    check_incremental_model(small(), orders)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"encoder_layers": 0}, "--encoder-layers 0: at least 1 is needed"),
        ({"decoder_layers": -1}, "--decoder-layers -1: at least 1 is needed"),
        ({"attention_heads": 0}, "--attention-heads 0: at least 1 is needed"),
        ({"hidden_size": 0}, "--hidden-size 0: not a positive multiple of 2,"),
        ({"hidden_size": 40}, "--hidden-size 40: not a positive multiple of 16,"),
        (
            {"attention_heads": 5, "hidden_size": 48},
            "--hidden-size 48: not a positive multiple of 5,",
        ),
    ],
)
def test_a_flag_that_does_not_fit_is_named(flags, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_evolved(**{**SMALL_EVOLVED, **flags})


ARCHITECTURE = [
    "--arch=evolved_transformer",
    "--share-all-embeddings",
    *(f"--{name.replace('_', '-')}={value}" for name, value in SMALL_EVOLVED.items()),
]
HYDRA = """# @package _group_
task: {_name: translation, data: null}
model: {_name: evolved_transformer, hidden_size: 32, attention_heads: 2}
criterion: {_name: label_smoothed_cross_entropy}
optimizer: {_name: adam}
lr_scheduler: {_name: fixed}
dataset: {max_tokens: 400, required_batch_size_multiple: 1, num_workers: 0}
optimization: {max_update: 1, lr: [0.001]}
checkpoint: {no_save: true}
"""


def test_fairseq_trains_it_and_decodes_it(data, tmp_path):
    """Padding and beams change no sentence; its checkpoint loads as weights only."""
    train(data, tmp_path, *ARCHITECTURE, *TRANSLATION, updates=60)
    checkpoint = tmp_path / "checkpoint_last.pt"
    assert torch.load(checkpoint, weights_only=True)["cfg"]["model"]["hidden_size"] == 32
    command = ["fairseq-generate", data, "--path", checkpoint, "--beam=4", "--max-len-b=20"]
    batched, single = (
        hypotheses(run(*command, *GENERATE, *more)) for more in ([], ["--batch-size=1"])
    )
    assert sorted(batched) == list(range(TEST_SENTENCES))
    assert batched == single and len(set(batched.values())) > 1


def test_fairseq_hydra_train_trains_it(data, tmp_path):
    (tmp_path / "evolved.yaml").write_text(HYDRA)
    output = run(
        *("fairseq-hydra-train", "--config-dir", tmp_path, "--config-name", "evolved"),
        *(f"common.user_dir={PLUGIN}", f"task.data={data}", "common.cpu=true"),
        cwd=tmp_path,
    )
    assert "EvolvedTransformerModel" in output and "num_updates 1 " in output
