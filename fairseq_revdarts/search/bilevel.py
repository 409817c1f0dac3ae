"""The bilevel search: alpha's step, which follows each update of theta.

    theta <- theta - Adam(dL_theta(theta, alpha)/dtheta)     on theta's share: fairseq's own update
    alpha <- alpha - Adam(dL_alpha(theta, alpha)/dalpha)     on alpha's share: this file

L_theta and L_alpha are the same loss on different data; the second line is the first-order
approximation of DARTS (Liu et al. 2019, equation 6 with xi = 0).
"""

import logging
import math
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.nan_detector import NanDetector
from torch import Tensor, nn

from ..data.alpha_batches import AlphaBatches
from ..derivation import non_finite_nodes
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.architecture import Architecture
from ..modules.reconstruction import without_backward_hooks
from ..search_space import CANDIDATES
from .cost import Budget
from .level_loss import LevelLoss, exact
from .processes import sum_over_processes

logger = logging.getLogger(__name__)


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


class AlphaStep:
    """The update of alpha that follows an update of theta, over all processes.

    Numbers that are not finite are answered as fairseq answers theta's: with a loss scaler (fp16),
    alpha skips the update and the scale, which both levels share, is lowered; otherwise a
    RuntimeError names the update and the nodes.

    Args:
        model: the supernet, without distributed wrappers
        criterion: the loss
        adam: alpha's
        batches: of alpha's share
        budget: that the network found has to keep; or None
        scaler: of the loss, in fp16; or None
    """

    def __init__(
        self,
        model: RevDartsTransformerModel,
        criterion: FairseqCriterion,
        adam: torch.optim.Adam,
        batches: AlphaBatches,
        budget: Optional[Budget],
        scaler: Any,
    ):
        self.model, self.criterion, self.adam, self.batches = model, criterion, adam, batches
        self.budget, self.scaler = budget, scaler

    def __call__(
        self, update: int, count: int, theta_loss: LevelLoss
    ) -> Tuple[LevelLoss, Optional[LevelLoss]]:
        """Update alpha on its next batches.

        Args:
            update: the number of the update
            count: batches to take in each process
            theta_loss: of this process

        Returns:
            theta's loss and alpha's, over all processes; None for alpha's if it skips the update

        Raises:
            RuntimeError: loss or gradients are not finite, without a scaler or at its least scale
        """
        architecture, batches = self.model.architecture, self.batches.take(count)
        scale = 1.0 if self.scaler is None else self.scaler.loss_scale
        gradients, alpha_loss = alpha_gradients(self.model, self.criterion, batches, scale)
        gradients, (theta_loss, alpha_loss), finite = sum_over_processes(
            gradients, theta_loss, alpha_loss, device=architecture.alphas()[0].device
        )
        if self.budget is not None:
            gradients = self.budget.add_penalty(architecture, gradients, alpha_loss.tokens)
        before = architecture.winners()
        try:
            step_alpha(self.adam, architecture.alphas(), gradients, alpha_loss, finite)
        except FloatingPointError as error:
            self._answer(update, error, batches)
            return theta_loss, None
        architecture.count_stable(before)
        return theta_loss, alpha_loss

    def _answer(
        self, update: int, error: FloatingPointError, batches: List[Dict[str, Any]]
    ) -> None:
        """Numbers are not finite: lower the loss scale, or raise a RuntimeError."""
        if self.scaler is None:
            find_non_finite(self.model, self.criterion, batches)
            # Not a FloatingPointError: fairseq would look for its cause in theta's batches.
            raise RuntimeError(f"update {update}: {error}") from error
        logger.warning(f"update {update}: {error}; alpha skips it, and lowers the loss scale")
        try:
            with suppress(OverflowError):  # theta's update is done, and stays
                self.scaler.check_overflow(math.inf)
        except FloatingPointError as least:  # --min-loss-scale
            raise RuntimeError(f"update {update}: {error}. {least}") from least
