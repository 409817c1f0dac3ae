"""A network on a device makes all its tensors there: "meta" stands in for a GPU.

search/test_waiting.py holds a search to it: a whole supernet, in both steps.
"""

import pytest
import torch
from fairseq import utils
from helpers import TYPICAL, build_evolved, build_model
from losses import TYPES, build, sample
from stand_in import BACKPROP_ON_META, META, Waits

from fairseq_revdarts.criterions.reversible_search import ReversibleSearchCriterion

NETWORKS = {
    **{
        mode: lambda mode=mode: build_model(TYPES, genotype=TYPICAL.to_json(), backprop=mode)
        for mode in ("reconstruct", "checkpoint", "store")
    },
    "evolved": lambda: build_evolved(TYPES),
}


@pytest.mark.parametrize("network", [*BACKPROP_ON_META, "evolved"])
def test_a_step_of_training(network):
    model = NETWORKS[network]().to(META).train()
    batch = utils.apply_to_sample(lambda tensor: tensor.to(META), sample())
    with Waits() as waits:
        for _ in range(2):
            waits.places.clear()  # at first, fairseq 0.12.2 moves its positions there
            build(ReversibleSearchCriterion)(model, batch)[0].backward()
    assert all(weight.grad.is_meta for weight in model.parameters())
    # Whether source and target are padded: fairseq's own transformer, too, waits for it.
    assert len(waits.places) == 2 or network == "evolved"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_of_decoding(network):
    model = NETWORKS[network]().to(META).eval()
    tokens, state = torch.ones(2, 3, dtype=torch.long, device=META), {}
    with Waits(), torch.no_grad():
        encoder_out = model.encoder(tokens, None)
        for length in (1, 2):
            logits, _ = model.decoder(tokens[:, :length], encoder_out, incremental_state=state)
    assert logits.is_meta and logits.shape == (2, 1, TYPES)
