"""The buffer for theta's gradients: where they lie, and that nothing else changes."""

import torch
from torch import nn

from fairseq_revdarts.search.gradient_buffer import GradientBuffer


def small():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    return model


def backward(model, seed):
    torch.manual_seed(seed)
    model(torch.randn(5, 3)).pow(2).sum().backward()


def gradients(model):
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def test_gradients_are_those_without_it_over_updates_of_two_micro_batches():
    plain, offered = small(), small()
    buffer = GradientBuffer(offered.parameters())
    for update in range(3):
        for model in (plain, offered):
            model.zero_grad(set_to_none=True)
        for micro_batch in range(2):
            buffer.offer()
            for model in (plain, offered):
                backward(model, 10 * update + micro_batch)
        assert len(gradients(offered)) == 3
        for expected, actual in zip(gradients(plain), gradients(offered)):
            assert torch.equal(expected, actual)


def test_gradients_have_the_same_place_in_every_update():
    model = small()
    buffer, places = GradientBuffer(model.parameters()), []
    for update in range(3):
        model.zero_grad(set_to_none=True)
        buffer.offer()
        model[0].bias.grad = None  # as that of an idle candidate
        backward(model, update)
        gradient = gradients(model)[0]
        assert gradient.untyped_storage().nbytes() == 4 * (12 + 4 + 8)
        places.append([each.data_ptr() for each in (gradient, model[1].weight.grad)])
    assert places[0] == places[1] == places[2]
