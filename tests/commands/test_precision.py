"""Half precision: alpha stays in single, both levels' losses are scaled, the drift is reported."""

import pytest
import torch
from helpers import PAD, build_model
from losses import TYPES, batch, criterion
from running import SEARCH, read_log, train

from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.search.bilevel import alpha_gradients

pytestmark = pytest.mark.usefixtures("device")
HALVES = [torch.float16, torch.bfloat16]


def gradients(dtype, loss_scale=1.0):
    """alpha's gradients of one batch in `dtype`, as one vector."""
    torch.manual_seed(0)
    model = build_model(TYPES, dropout=0.0).train().to(dtype)
    model.warns_of_no_search = False
    alphas, _ = alpha_gradients(model, criterion, [batch()], loss_scale)
    assert all(gradient.dtype == torch.float32 for gradient in alphas)
    return torch.cat([gradient.flatten() for gradient in alphas])


@pytest.mark.parametrize("dtype", HALVES)
def test_alphas_gradients_are_those_of_single_precision_within_rounding(dtype):
    exact = gradients(torch.float32)
    assert (gradients(dtype) - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_alphas_gradients_do_not_depend_on_the_loss_scale(dtype):
    plain, scaled = gradients(dtype), gradients(dtype, loss_scale=64.0)
    torch.testing.assert_close(scaled, plain, rtol=2e-2, atol=2e-2 * plain.abs().max().item())


@pytest.mark.parametrize("flag", ["--fp16", "--memory-efficient-fp16"])
def test_a_search_in_half_precision(flag, data, tmp_path):
    flags = ["--fp16-no-flatten-grads"] if flag == "--fp16" else []
    output = train(
        *(data, tmp_path, *SEARCH, flag, *flags),
        *("--fp16-init-scale=16", "--clip-norm=1", "--lr=1e-4", "--log-interval=1"),
        updates=4,
    )
    assert '"loss_scale": "16"' in output
    entries = read_log(tmp_path / "search.jsonl")
    assert [entry["update"] for entry in entries] == [1, 2, 3, 4]
    # The operations compute in half precision, the stream does not: far below that of a half one.
    assert 0 < entries[-1]["drift"] < 1e-2
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)["model"]
    for side in ("encoder", "decoder"):
        assert state[f"architecture.{side}"].dtype == torch.float32
        # With half a precision's resolution, so small steps of alpha would be lost.
        assert state[f"architecture.{side}_exp_avg"].dtype == torch.float32
        assert state[f"architecture.{side}_exp_avg"].abs().max() > 0
    load_genotype(str(tmp_path / "genotype.json"))


@pytest.mark.parametrize(
    "norm, node_input, least",
    [("pre", "normalized", 0), ("post", "normalized", 0), ("post", "pooled", 1e-6)],
)
@pytest.mark.parametrize("dtype", HALVES)
def test_the_drift_in_half_precision_is_small_and_blind_to_padding(dtype, norm, node_input, least):
    torch.manual_seed(0)
    model = build_model(TYPES, operation_norm=norm, node_input=node_input).train().to(dtype)
    padded = batch()
    for tokens in (*padded["net_input"].values(), padded["target"]):
        if tokens is not None:
            tokens[:2, 3:] = PAD
    model.warns_of_no_search = False
    for stack in model.stacks():
        stack.measures_drift = True
    criterion(model, padded)[0].backward()
    for stack in model.stacks():
        assert least < stack.drift < 1e-2
