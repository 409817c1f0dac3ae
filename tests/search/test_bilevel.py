"""alpha's step: what it moves, what it leaves alone, and that it is alpha's gradient."""

import math

import pytest
import torch
from helpers import build_model
from losses import TYPES, batch, criterion, sample
from losses import build as build_criterion
from running import SEARCH, train_in_process, weights

from fairseq_revdarts.criterions.reversible_search import ReversibleSearchCriterion
from fairseq_revdarts.search.bilevel import (
    alpha_gradients,
    alpha_optimizer,
    only_alpha_requires_grad,
    step_alpha,
)
from fairseq_revdarts.search.level_loss import LevelLoss


def build(**flags):
    torch.manual_seed(0)
    model = build_model(TYPES, **flags)
    model.warns_of_no_search = False
    return model.train()


def test_only_alpha_requires_grad_restores_every_flag():
    model = build()
    parameters = list(model.parameters())
    parameters[3].requires_grad_(False)
    before = [parameter.requires_grad for parameter in parameters]
    with pytest.raises(KeyError), only_alpha_requires_grad(model):
        assert all(alpha.requires_grad for alpha in model.architecture.alphas())
        assert sum(parameter.requires_grad for parameter in parameters) == 2
        raise KeyError
    assert [parameter.requires_grad for parameter in parameters] == before


def test_theta_does_not_move_with_alphas_step_and_alpha_does():
    model = build()
    adam = alpha_optimizer(model.architecture, 0.1, (0.9, 0.98), 0.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    gradients, loss = alpha_gradients(model, criterion, [batch()], 1.0)
    step_alpha(adam, model.architecture.alphas(), gradients, loss, True)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (not name.startswith("architecture"))
        assert value.grad is None


def test_alpha_does_not_move_with_thetas_step():
    model = build()
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1
    )
    before = [alpha.clone() for alpha in model.architecture.alphas()]
    criterion(model, batch())[0].backward()
    optimizer.step()
    for alpha, old in zip(model.architecture.alphas(), before):
        assert torch.equal(alpha, old) and alpha.grad is None


@pytest.mark.parametrize("backprop", ["reconstruct", "checkpoint"])
def test_alphas_gradient_is_plain_autograds(backprop):
    expected, actual = (
        alpha_gradients(build(backprop=mode, dropout=0.0), criterion, [batch(), batch(1)], 1.0)
        for mode in ("store", backprop)
    )
    assert expected[1].sample_size == actual[1].sample_size == 48
    for plain, other in zip(expected[0], actual[0]):
        torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-5 * plain.abs().max().item())


def test_alpha_takes_as_many_batches_as_theta_also_at_an_epochs_end(data, tmp_path):
    """Of theta's 3 batches the first update of an epoch has two; alpha has 3 of its own."""
    flags = ["--train-subset=valid", "--batch-size=4", "--update-freq=2"]
    train_in_process(data, tmp_path, *SEARCH, *flags, updates=2)
    position = weights(tmp_path / "checkpoint_last.pt")["architecture.data_position"]
    assert position.tolist() == [2, 0, 0]


def test_loss_scale_cancels_and_empty_batches_contribute_nothing():
    plain, loss = alpha_gradients(build(dropout=0.0), criterion, [batch()], 1.0)
    scaled, same = alpha_gradients(build(dropout=0.0), criterion, [{}, batch(), {}], 128.0)
    assert loss == same
    for one, other in zip(plain, scaled):
        torch.testing.assert_close(one, other)
    nothing, none = alpha_gradients(build(), criterion, [{}], 1.0)
    assert none == LevelLoss(0.0, 0.0)
    assert not any(gradient.any() for gradient in nothing)


@pytest.mark.parametrize(
    ("gradient", "loss", "message"),
    [
        (math.nan, 1.0, r"not finite at encoder\.1\.1, encoder\.1\.2, .*, decoder\.2\.2$"),
        (math.inf, 1.0, r"not finite at encoder\.1\.1, "),
        (0.0, math.nan, r"alpha's loss is nan$"),
    ],
)
def test_numbers_that_are_not_finite_move_nothing(gradient, loss, message):
    model = build()
    adam = alpha_optimizer(model.architecture, 0.1, (0.9, 0.98), 0.0)
    before = [alpha.clone() for alpha in model.architecture.alphas()]
    bad = [torch.full_like(alpha, gradient) for alpha in model.architecture.alphas()]
    with pytest.raises(FloatingPointError, match=message):
        step_alpha(adam, model.architecture.alphas(), bad, LevelLoss(loss, 1.0), gradient == 0)
    for alpha, old in zip(model.architecture.alphas(), before):
        assert torch.equal(alpha, old)
    assert model.architecture.encoder_step == 0


def test_weight_decay_and_adam_are_torchs():
    model = build()
    alphas = model.architecture.alphas()
    twins = [torch.nn.Parameter(alpha.detach().clone()) for alpha in alphas]
    adam = alpha_optimizer(model.architecture, 3e-4, (0.9, 0.98), 1e-3)
    expected = torch.optim.Adam(twins, lr=3e-4, betas=(0.9, 0.98), weight_decay=1e-3)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        gradients = [torch.randn(alpha.shape, generator=generator) for alpha in alphas]
        step_alpha(adam, alphas, gradients, LevelLoss(1.0, 2.0), True)
        for twin, gradient in zip(twins, gradients):
            twin.grad = gradient / 2
        expected.step()
    for alpha, twin in zip(alphas, twins):
        torch.testing.assert_close(alpha, twin)


def test_alpha_moves_by_the_mean_gradient_per_token():
    """Adam would hide a factor."""
    model = build()
    alphas = model.architecture.alphas()
    before = [alpha.clone() for alpha in alphas]
    gradients = [torch.randn_like(alpha) for alpha in alphas]
    step_alpha(torch.optim.SGD(alphas, lr=0.5), alphas, gradients, LevelLoss(3.0, 48.0), True)
    for alpha, old, gradient in zip(alphas, before, gradients):
        torch.testing.assert_close(alpha.detach(), old - 0.5 * gradient / 48)


def test_the_losses_are_those_that_the_criterion_logs():
    """Sums over batches; without label smoothing the criterion's nll_loss, per target token."""
    model = build(dropout=0.0)
    smoothed = build_criterion(ReversibleSearchCriterion)
    _, found = alpha_gradients(model, smoothed, [sample(), sample()], 1.0)
    with torch.no_grad():
        loss, sample_size, logged = smoothed(model, sample())
    assert logged["nll_loss"] != loss
    expected = LevelLoss(*map(float, (loss, sample_size, logged["nll_loss"], logged["ntokens"])))
    for one, other in zip(found, expected + expected):
        assert one == pytest.approx(other, rel=1e-5)
    _, plain = alpha_gradients(model, criterion, [batch()], 1.0)
    assert (plain.nll_loss, plain.tokens) == (plain.loss, plain.sample_size)
