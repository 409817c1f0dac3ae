"""What the system sees of a search: a process takes hardly more than its tensors, at any depth."""

import sys
from functools import partial

import pytest

from fairseq_revdarts.profiling.compare import MODES, steps_alone
from fairseq_revdarts.profiling.resident import resident_peak
from fairseq_revdarts.profiling.workload import Workload

WORKLOAD = Workload(500, 25, 500, "fp32", "cpu", seed=1)
WIDTHS = {"hidden_size": 96, "embed_dim": 32, "ffn_embed_dim": 144, "attention_heads": 4}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")


def resident(backprop, layers):
    (contestant,) = [mode for mode in MODES if mode.name == backprop]
    flags = {"genotype": None, "encoder_layers": layers, "decoder_layers": layers, **WIDTHS}
    return resident_peak(WORKLOAD, partial(steps_alone, WORKLOAD, flags, contestant))


def test_the_process_is_as_flat_in_depth_as_its_tensors():
    """Without the buffer for gradients, it grows with them: to a multiple."""
    deep = resident("reconstruct", 8)
    assert deep <= 1.25 * resident("reconstruct", 4)
    assert deep <= resident("store", 8) / 5


def no_steps():
    raise MemoryError


def test_a_process_that_dies_gives_no_figure():
    assert resident_peak(WORKLOAD, no_steps) is None
