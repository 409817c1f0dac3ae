"""A network out of a supernet: it computes what the supernet computes with its candidates."""

import torch
from helpers import build_model, genotypes
from hypothesis import given, settings

from fairseq_revdarts.search.active import active_on
from fairseq_revdarts.search.derived_weights import derived_weights
from fairseq_revdarts.utils.parameters import count_parameters

FLAGS = {"encoder_layers": 4, "decoder_layers": 4, "share_all_embeddings": True}


@settings(deadline=None, max_examples=20)
@given(genotypes(layers=(2, 2), splits=(3, 3)))
def test_the_network_computes_what_the_supernet_does(genotype):
    flags = {**FLAGS, "encoder_splits": 3, "pooling": genotype.pooling}
    supernet = build_model(**flags).eval()
    network = build_model(**flags, genotype=genotype.to_json()).eval()
    weights = derived_weights(supernet.state_dict(), genotype)
    network.load_state_dict(weights)
    source, target = torch.randint(4, 30, (3, 7)), torch.randint(4, 30, (3, 6))
    with torch.no_grad(), supernet.architecture.restricted_to(active_on(genotype)):
        expected, _ = supernet(source, torch.full((3,), 7), target)
    with torch.no_grad():
        found, _ = network(source, torch.full((3,), 7), target)
    assert torch.equal(found, expected)
    assert count_parameters(weights) == sum(weight.numel() for weight in network.parameters())
