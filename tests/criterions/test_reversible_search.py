"""The loss in chunks of tokens is fairseq's label-smoothed cross entropy."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from helpers import activation_peak_of, build_model
from losses import TYPES, build, sample

from fairseq_revdarts.criterions import reversible_search
from fairseq_revdarts.criterions.reversible_search import ReversibleSearchCriterion


def results(criterion, dtype=torch.double):
    torch.manual_seed(0)
    model = build_model(TYPES, share_all_embeddings=True).to(dtype).train()
    model.warns_of_no_search = False
    torch.manual_seed(1)
    loss, sample_size, log = criterion(model, sample())
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss, sample_size, log, gradients


@pytest.mark.parametrize("more", [{}, {"ignore_prefix_size": 2}])
@pytest.mark.parametrize("tokens", [1, 4, 16, 34])
def test_chunks_change_nothing(monkeypatch, tokens, more):
    expected = results(build(LabelSmoothedCrossEntropyCriterion, **more))
    monkeypatch.setattr(reversible_search, "LOGITS_AT_ONCE", tokens * TYPES)
    criterion = build(ReversibleSearchCriterion, **more)
    whole = LabelSmoothedCrossEntropyCriterion.forward
    monkeypatch.setattr(LabelSmoothedCrossEntropyCriterion, "forward", None)
    loss, sample_size, log, gradients = results(criterion)
    monkeypatch.setattr(LabelSmoothedCrossEntropyCriterion, "forward", whole)
    torch.testing.assert_close(loss, expected[0])
    assert sample_size == expected[1] and log.keys() == expected[2].keys()
    torch.testing.assert_close(log["nll_loss"], expected[2]["nll_loss"])
    assert gradients.keys() == expected[3].keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[3][name], rtol=1e-6, atol=1e-9)


def test_fairseq_may_scale_the_loss_in_place(monkeypatch):
    """It does for the dummy batch of a process that has none left: loss *= 0."""
    monkeypatch.setattr(reversible_search, "LOGITS_AT_ONCE", 4 * TYPES)
    model = build_model(TYPES, share_all_embeddings=True).train()
    model.warns_of_no_search = False
    loss, _, log = build(ReversibleSearchCriterion)(model, sample())
    loss *= 0
    loss.backward()
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)
    assert log["nll_loss"] > 0


def test_chunks_hold_a_part_of_the_logits(monkeypatch):
    output = torch.nn.Linear(8, 5000, bias=False)
    decoder = SimpleNamespace(output_layer=output)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Parameter(torch.randn(4, 100, 8))
            self.output, self.decoder_ = output, decoder

        decoder = property(lambda self: self.decoder_)

        def forward(self, features_only, **unused):
            return self.features, None

    task = SimpleNamespace(target_dictionary=range(5000))
    task.target_dictionary = type("Symbols", (), {"pad": lambda s: 1, "__len__": lambda s: 5000})()
    criterion = ReversibleSearchCriterion(task, sentence_avg=False, label_smoothing=0.1)
    target = torch.randint(4, 5000, (4, 100))
    model = Model().train()

    def peak(at_once):
        monkeypatch.setattr(reversible_search, "LOGITS_AT_ONCE", at_once)
        model.zero_grad()
        batch = {"net_input": {}, "target": target, "ntokens": 400}
        weights = list(model.parameters())
        return activation_peak_of(lambda: criterion(model, batch)[0].backward(), weights, target)

    assert peak(40 * 5000) < 0.5 * peak(399 * 5000)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tokens", [1, 4, 16, 34])
def test_no_chunk_is_larger_than_allowed(monkeypatch, tokens, training):
    monkeypatch.setattr(reversible_search, "LOGITS_AT_ONCE", tokens * TYPES + TYPES - 1)
    model, sizes = build_model(TYPES).train(training), []
    model.decoder.output_projection.register_forward_hook(
        lambda _, inputs, logits: sizes.append(logits.numel())
    )
    with torch.set_grad_enabled(training):
        loss = build(ReversibleSearchCriterion)(model, sample())[0]
    if training:
        loss.backward()
    assert max(sizes) == tokens * TYPES
