"""alpha: what is derived from it, its precision, and what a checkpoint restores of it."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fairseq_revdarts.derivation import node_names
from fairseq_revdarts.modules.architecture import Architecture
from fairseq_revdarts.search.bilevel import alpha_optimizer, step_alpha
from fairseq_revdarts.search.level_loss import LevelLoss
from fairseq_revdarts.search_space import (
    CANDIDATES,
    CROSS_ATTENTION,
    DECODER_CANDIDATES,
    ENCODER_CANDIDATES,
)

SETTINGS = {"lr": 3e-4, "betas": (0.9, 0.98), "weight_decay": 1e-3}

moderate = settings(deadline=None, max_examples=50)
sides = st.sampled_from(sorted(CANDIDATES))


def architecture(cell_layers=2, encoder_splits=3, decoder_splits=4, pooling="max", seed=0):
    torch.manual_seed(seed)
    return Architecture(cell_layers, encoder_splits, decoder_splits, pooling)


def restored(source, seed):
    """Another architecture with the state of `source`, as a checkpoint file carries it."""
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    other = architecture(seed=seed)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def gradients(update):
    """The same gradients for the same update, whoever asks."""
    generator = torch.Generator().manual_seed(update)
    shapes = [alpha.shape for alpha in architecture().alphas()]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def go_on(module, adam, updates):
    for update in updates:
        step_alpha(adam, module.alphas(), gradients(update), LevelLoss(1.0, 7), True)


def same_state(one, other):
    """Whether two modules hold the same tensors, to the bit."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


# ------------------------------------------------------------------------------- probabilities


@moderate
@given(st.integers(1, 4), st.integers(2, 5), st.integers(2, 5), st.floats(0, 50))
def test_probabilities_sum_to_one(cell_layers, encoder_splits, decoder_splits, spread):
    module = architecture(cell_layers, encoder_splits, decoder_splits)
    for side, searched in (("encoder", encoder_splits), ("decoder", decoder_splits - 1)):
        alpha = getattr(module, side)
        alpha.copy_(torch.randn_like(alpha) * spread)
        probabilities = module.probabilities(side)
        assert probabilities.shape == (cell_layers, searched, len(CANDIDATES[side]))
        assert (probabilities >= 0).all()
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(cell_layers, searched))


def test_a_new_search_is_all_but_uniform():
    module = architecture(4, 5, 5)
    for side, candidates in CANDIDATES.items():
        uniform = torch.full_like(getattr(module, side), 1 / len(candidates))
        torch.testing.assert_close(module.probabilities(side), uniform, atol=1e-3, rtol=0)
        assert getattr(module, side).unique().numel() > 1


@moderate
@given(st.integers(1, 4), st.integers(2, 5), st.integers(2, 5), st.floats(-10, 10))
def test_the_entropy_of_uniform_alpha_is_the_logarithm(cell_layers, encoder, decoder, value):
    module = architecture(cell_layers, encoder, decoder)
    for alpha in module.alphas():
        alpha.fill_(value)
    nodes = encoder + decoder - 1
    expected = (encoder * math.log(13) + (decoder - 1) * math.log(14)) / nodes
    assert module.mean_entropy() == pytest.approx(expected, rel=1e-5)


def test_the_entropy_of_decided_alpha_is_zero():
    module = architecture()
    for alpha in module.alphas():
        alpha.fill_(-1e4)
        alpha[..., 3] = 0
    assert module.mean_entropy() == 0


def test_each_node_has_its_probabilities_by_name():
    module = architecture(2, 2, 3)
    module.decoder[1, 0, DECODER_CANDIDATES.index(CROSS_ATTENTION)] = 100
    table = module.node_probabilities()
    names = [*node_names("encoder", 2, 2), *node_names("decoder", 2, 2)]
    assert list(table) == names
    assert names[:4] == ["encoder.1.1", "encoder.1.2", "encoder.2.1", "encoder.2.2"]
    assert tuple(table["encoder.2.1"]) == ENCODER_CANDIDATES
    assert tuple(table["decoder.2.1"]) == DECODER_CANDIDATES
    assert table["decoder.2.1"][CROSS_ATTENTION] == pytest.approx(1)
    assert table["decoder.1.1"][CROSS_ATTENTION] == pytest.approx(1 / 14, abs=1e-3)


# ------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double"])
def test_no_conversion_reaches_alpha(convert):
    model = nn.Module()
    model.linear, model.architecture = nn.Linear(2, 2), architecture()
    adam = alpha_optimizer(model.architecture, **SETTINGS)
    go_on(model.architecture, adam, range(2))
    before = {name: tensor.clone() for name, tensor in model.architecture.state_dict().items()}

    getattr(model, convert)()

    assert model.linear.weight.dtype == getattr(torch, convert)
    after = model.architecture.state_dict()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name


def test_alpha_follows_to_another_device():
    module = architecture().to("meta", torch.float16)
    for tensor in module.state_dict().values():
        assert tensor.device.type == "meta"
    assert module.encoder.dtype == torch.float32


def test_alpha_requires_no_gradient_at_rest():
    assert not any(alpha.requires_grad for alpha in architecture().alphas())
    assert not any(parameter.requires_grad for parameter in architecture().parameters())


# ------------------------------------------------------------------------------- Adam


def test_the_state_of_adam_is_in_the_buffers():
    module, plain = architecture(), architecture()
    adam = alpha_optimizer(module, **SETTINGS)
    reference = torch.optim.Adam(plain.alphas(), **SETTINGS)
    for update in range(5):
        go_on(module, adam, [update])
        for alpha, gradient in zip(plain.alphas(), gradients(update)):
            alpha.grad = gradient / 7
        reference.step()
    for side in CANDIDATES:
        alpha = getattr(plain, side)
        assert torch.equal(getattr(module, side), alpha)
        state = reference.state[alpha]
        assert state["step"] == 5
        for name in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(module.get_buffer(f"{side}_{name}"), state[name]), name


def test_the_state_dict_holds_alpha_adam_and_the_place_in_the_data():
    module = architecture()
    go_on(module, alpha_optimizer(module, **SETTINGS), range(3))
    module.data_position.copy_(torch.tensor([4, 2, 9]))
    other = restored(module, seed=1)
    assert same_state(module, other)
    names = ("step", "exp_avg", "exp_avg_sq", "living", "last_choice")
    assert set(other.state_dict()) == {
        "data_position",
        "stable_updates",
        "drift",
        "loss_scaler",
        *CANDIDATES,
        *(f"{side}_{name}" for side in CANDIDATES for name in names),
    }
    assert other.data_position.tolist() == [4, 2, 9]
    assert other.encoder_step == 3
    assert not same_state(other, architecture(seed=1))


@moderate
@given(st.integers(0, 6), st.integers(1, 6))
def test_a_restored_search_goes_on_as_if_never_interrupted(first, more):
    straight = architecture()
    adam = alpha_optimizer(straight, **SETTINGS)
    go_on(straight, adam, range(first))
    interrupted = restored(straight, seed=1)
    go_on(straight, adam, range(first, first + more))

    go_on(interrupted, alpha_optimizer(interrupted, **SETTINGS), range(first, first + more))

    assert same_state(straight, interrupted)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_moves_nothing(value):
    module = architecture()
    adam = alpha_optimizer(module, **SETTINGS)
    go_on(module, adam, range(2))
    before = restored(module, seed=1)
    broken = gradients(2)
    broken[1][0, 0, 0] = value
    with pytest.raises(FloatingPointError, match=r"gradient not finite at decoder\.1\.1$"):
        step_alpha(adam, module.alphas(), broken, LevelLoss(1.0, 7), False)
    assert same_state(module, before)
    assert all(alpha.grad is None for alpha in module.alphas())
