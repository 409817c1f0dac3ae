"""The bilevel search: alpha's step, which follows each update of theta.

    theta <- theta - Adam(dL_theta(theta, alpha)/dtheta)     on theta's share: fairseq's own update
    alpha <- alpha - Adam(dL_alpha(theta, alpha)/dalpha)     on alpha's share: this file

L_theta and L_alpha are the same loss on different data; the second line is the first-order
approximation of DARTS (Liu et al. 2019, equation 6 with xi = 0).
"""

import math
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.nan_detector import NanDetector
from torch import Tensor, nn

from ..derivation import non_finite_nodes
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.architecture import Architecture
from ..modules.reconstruction import without_backward_hooks
from ..search_space import CANDIDATES
from .level_loss import LevelLoss, exact


def alpha_optimizer(
    architecture: Architecture, lr: float, betas: Tuple[float, float], weight_decay: float
) -> torch.optim.Adam:
    """alpha's Adam, whose state is the architecture's buffers: so that checkpoints hold it."""
    adam = torch.optim.Adam(architecture.alphas(), lr=lr, betas=betas, weight_decay=weight_decay)
    for side, alpha in zip(CANDIDATES, architecture.alphas()):
        state = architecture.adam_state(side)
        # Adam reads its step in every update: it has one on the CPU, which the buffer follows.
        adam.state[alpha] = {**state, "step": state["step"].to("cpu", copy=True)}
    adam.register_step_post_hook(lambda *_: architecture.count_step())
    return adam


@contextmanager
def only_alpha_requires_grad(model: RevDartsTransformerModel) -> Iterator[None]:
    """Freeze theta and thaw alpha; afterwards every `requires_grad` is as it was before."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(False)
        model.architecture.requires_grad_(True)
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)


def alpha_gradients(
    model: RevDartsTransformerModel,
    criterion: FairseqCriterion,
    batches: List[Dict[str, Any]],
    loss_scale: float,
) -> Tuple[List[Tensor], LevelLoss]:
    """This process's summed gradients of alpha's loss, and the loss; nothing waits for the device.

    Args:
        model: the supernet, without distributed wrappers
        criterion: the loss
        batches: of alpha's share; empty ones contribute nothing
        loss_scale: multiplies the loss before the backward (fp16) and divides the gradients after
    """
    alphas = model.architecture.alphas()
    gradients = [torch.zeros_like(alpha) for alpha in alphas]
    total = LevelLoss(0.0, 0.0)
    with only_alpha_requires_grad(model):
        for batch in filter(None, batches):
            loss, sample_size, logged = criterion(model, to_device(batch, model))
            for gradient, term in zip(gradients, torch.autograd.grad(loss * loss_scale, alphas)):
                gradient += term / loss_scale
            loss = loss.detach()  # without smoothing, a criterion may log nothing else
            nll, tokens = logged.get("nll_loss", loss), logged.get("ntokens", sample_size)
            total += LevelLoss(exact(loss), sample_size, exact(nll), tokens)
    return gradients, total


def to_device(batch: Dict[str, Any], model: RevDartsTransformerModel) -> Dict[str, Any]:
    """`batch` where the model is; from pinned memory, nothing waits for it."""
    device = model.architecture.alphas()[0].device
    return utils.apply_to_sample(lambda tensor: tensor.to(device, non_blocking=True), batch)


@torch.no_grad()
def find_non_finite(
    model: RevDartsTransformerModel, criterion: FairseqCriterion, batches: List[Dict[str, Any]]
) -> None:
    """Log the first module whose output is not finite on `batches`, if there is one."""
    # Backward hooks, such as those of fairseq's own detector, cannot handle the lists in an
    # encoder's output.
    with NanDetector(model, backward=False), without_backward_hooks(model.modules()):
        for batch in filter(None, batches):
            criterion(model, to_device(batch, model))


def step_alpha(
    adam: torch.optim.Adam,
    alphas: List[nn.Parameter],
    gradients: List[Tensor],
    loss: LevelLoss,
    finite: bool,
) -> None:
    """One Adam step of alpha on the mean gradient per token.

    Args:
        adam: alpha's
        alphas: of the encoder and of the decoder
        gradients: summed over all processes
        loss: summed over all processes, numbers on the CPU
        finite: whether all gradients are, which is known without asking the device

    Raises:
        FloatingPointError: loss or gradients are not finite; names the nodes. alpha has not moved
    """
    if not (finite and math.isfinite(loss.loss)):
        nodes = non_finite_nodes({side: one.tolist() for side, one in zip(CANDIDATES, gradients)})
        where = f", its gradient not finite at {', '.join(nodes)}" if nodes else ""
        raise FloatingPointError(f"alpha's loss is {loss.mean:.3g}{where}")
    for alpha, gradient in zip(alphas, gradients):
        alpha.grad = gradient / max(loss.sample_size, 1)
    adam.step()
    for alpha in alphas:
        alpha.grad = None
