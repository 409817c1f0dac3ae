"""The alignment: weights of the last cross-attention, as by hand, and computed only when asked."""

from unittest import mock

import pytest
import torch
from helpers import PAD, SMALL_EVOLVED, build_evolved, build_model

from fairseq_revdarts.modules.operations import CrossAttention

DEEP = {"decoder_layers": 4, "hidden_size": 48}
BUILD = {
    "derived": lambda **flags: build_model(genotype="random:1", **DEEP, **flags).double(),
    "supernet": lambda **flags: build_model(**DEEP, **flags).double(),
    "evolved": lambda: build_evolved(**SMALL_EVOLVED).double(),
}
each_network = pytest.mark.parametrize("network", BUILD)
DROPOUT = {"dropout": 0.2, "attention_dropout": 0.3, "activation_dropout": 0.1}


def pairs():
    source, target = torch.randint(4, 30, (3, 5)), torch.randint(4, 30, (3, 6))
    source[0, :2] = target[1, -2:] = PAD
    return source, target


def last_cross_attention(model):
    return [m for m in model.decoder.modules() if isinstance(m, CrossAttention)][-1]


def by_hand(attention, h, encoder_out, heads):
    """softmax(Q K^T / sqrt(width of a head)) over the real source positions, as a mean of heads."""
    attention, keys = attention.attention, encoder_out["encoder_out"][0]
    q, k = attention.q_proj(h), attention.k_proj(keys)
    q, k = (x.unflatten(-1, (attention.num_heads, -1)).permute(1, 2, 0, 3) for x in (q, k))
    scores = q @ k.transpose(-1, -2) / q.size(-1) ** 0.5  # (B, heads, T, S)
    for mask in encoder_out["encoder_padding_mask"]:
        scores = scores.masked_fill(mask[:, None, None], -torch.inf)
    return scores.softmax(-1)[:, :heads].mean(1)


def assert_near(weights, expected):
    """fairseq's softmax is in single precision, whatever the model is in."""
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


@each_network
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("heads", [None, 1])
def test_the_weights_are_those_by_hand(network, training, heads):
    model = BUILD[network]().train(training)
    source, target = pairs()
    seen, attention = [], last_cross_attention(model)
    encoder_out = model.encoder(source)
    with attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        _, extra = model.decoder(target, encoder_out, alignment_heads=heads)
    (weights,) = extra["attn"]
    assert weights.shape == (3, 6, 5)
    assert_near(weights, by_hand(attention, seen[0], encoder_out, heads))
    assert (weights[0, :, :2] == 0).all()


@each_network
def test_one_step_at_a_time_gives_the_same(network):
    model = BUILD[network]().eval()
    source, target = pairs()
    target[1, -2:] = 4
    encoder_out, state = model.encoder(source), {}
    full = model.decoder(target, encoder_out)[1]["attn"][0]
    for length in range(1, target.size(1) + 1):
        logits, extra = model.decoder(target[:, :length], encoder_out, incremental_state=state)
        for _ in range(2):  # reading it changes nothing
            assert_near(extra["attn"][0], full[:, length - 1 : length])
        whole = model.decoder(target[:, :length], encoder_out)[0]
        torch.testing.assert_close(logits, whole[:, -1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["derived", "supernet"])
def test_its_gradient_is_that_of_plain_autograd(network):
    """With reconstruction, through the output of the stack; under dropout."""
    gradients = []
    for backprop in ("reconstruct", "checkpoint", "store"):
        torch.manual_seed(0)
        model = BUILD[network](backprop=backprop, **DROPOUT).train().requires_grad_()
        for parameter in model.parameters():  # no zero biases: a ReLU at zero has no derivative
            parameter.data += 0.1 * torch.randn_like(parameter)
        source, target = pairs()
        logits, extra = model(source, None, target)
        loss = logits.logsumexp(-1).sum() - extra["attn"][0][:, :, 2].log().sum()
        weights = list(model.parameters())
        gradients.append(torch.autograd.grad(loss, weights, allow_unused=True))
    for one, other, plain in zip(*gradients):
        assert (one is None) == (plain is None)
        if plain is not None:
            torch.testing.assert_close(one, plain)
            torch.testing.assert_close(other, plain)


@each_network
def test_nothing_is_computed_before_it_is_asked_for(network):
    model, (source, target) = BUILD[network]().train(), pairs()
    with mock.patch.object(CrossAttention, "alignment") as alignment:
        logits, extra = model(source, None, target)
        logits.sum().backward()
        assert alignment.call_count == 0 and len(extra["attn"]) == 1
        extra["attn"][0]
        assert alignment.call_count == 1


@each_network
@pytest.mark.parametrize("asked", [None, "hard"])
def test_decoding_gives_it_if_fairseq_says_that_it_is_asked_for(network, asked):
    """A full forward always does, and fairseq learns where it has to take it from."""
    model, (source, target) = BUILD[network](), pairs()
    model.make_generation_fast_(need_attn=asked)
    assert model.full_context_alignment == (asked is None)
    encoder_out = model.encoder(source)
    with mock.patch.object(CrossAttention, "alignment") as alignment:
        for state in ({}, None):
            _, extra = model.decoder(target[:, :1], encoder_out, incremental_state=state)
            left_out = asked is None and state is not None
            (weights,) = extra["attn"]
            assert (weights is None) == left_out
            assert alignment.called == (not left_out)
            alignment.reset_mock()


def test_another_layer_than_the_last():
    model = BUILD["derived"]().eval()
    source, target = pairs()
    model.decoder(target, model.encoder(source), alignment_layer=3)
    with pytest.raises(ValueError, match="alignment_layer 1: only the last one, 3, is given"):
        model.decoder(target, model.encoder(source), alignment_layer=1)
