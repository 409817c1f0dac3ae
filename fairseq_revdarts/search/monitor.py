"""The report of a search while it runs: both losses, the reconstruction drift, signs of collapse.

fairseq's metrics take all of it to the log, the progress bar, TensorBoard and Weights & Biases;
`search.jsonl` keeps the same under the same names, without rounding; of the losses, those that are
minimised, with label smoothing.
"""

import logging
import math
from typing import Any, Dict, List, Optional, Tuple

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.logging import metrics

from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search_space import CANDIDATES, PARAMETER_FREE
from .bilevel import find_non_finite
from .cost import Budget
from .level_loss import LevelLoss, Sum
from .log import SearchLog
from .processes import largest_over_processes, on_device, rank_and_processes

logger = logging.getLogger(__name__)

#: Places in the progress bar and in the lines of the log. Those of fairseq are from 10 (loss) to
#: 1600 (memory of the GPU).
FIRST, LAST = 0, 2000


class SearchMonitor:
    """Reports every update of a search, and stops it when its gradients cannot be trusted.

    Args:
        model: the supernet
        drift_interval: number of updates from one measurement of the drift to the next; 0 for never
        drift_limit: the largest relative error with which the search continues
        log_interval: number of updates from one line of `search.jsonl` to the next
        budget: of the search, whose expected cost is reported; or None
    """

    def __init__(
        self,
        model: RevDartsTransformerModel,
        drift_interval: int,
        drift_limit: float,
        log_interval: int,
        budget: Optional[Budget] = None,
    ):
        self._model, self._budget = model, budget
        self._drift_interval = drift_interval
        self._drift_limit = drift_limit
        self._log_interval = log_interval
        self._log: Optional[SearchLog] = None
        self._warned = False
        #: The drift that was last measured; None before.
        self._drift: Optional[float] = None
        #: Micro-batches of theta since its last update, and their losses.
        self._theta: List[Tuple[LevelLoss, Dict[str, Any]]] = []

    def resume(self) -> None:
        """Begin where the restored model stands."""
        self._drift = self._model.architecture.last_drift()

    def open_log(self, path: str, update_num: int) -> None:
        """Let this process, the first, write `search.jsonl` from `update_num` on, and warn."""
        self._log = SearchLog(path, update_num)

    def begin_micro_batch(
        self, update: int, begins: bool, scaler: Any, criterion: FairseqCriterion
    ) -> None:
        """Before a micro-batch of theta: measure the drift in its backward pass, if it is time.

        If an update begins, and fairseq has made no step with the micro-batches before, their
        gradients were not finite. In fp16 fairseq continues with the next batches, until the scale
        of the loss is at its minimum; otherwise it looks for the cause before it stops.

        Args:
            update: number of the update, from 1
            begins: whether this is the first micro-batch of an update
            scaler: of the loss, or None
            criterion: the loss

        Raises:
            FloatingPointError: theta's gradients were not finite, and fairseq is about to stop
        """
        if self._theta and begins:
            self._find_non_finite_loss(update, criterion)
            message = f"update {update}: theta's gradients are not finite"
            if rank_and_processes()[1] > 1:
                message += ", or differ between processes (fairseq says above if they do)"
            if scaler is None:
                raise FloatingPointError(message)
            if scaler._last_overflow_iter == scaler._iter:  # fairseq counts on if it goes on
                raise FloatingPointError(f"{message}, with the loss scale at --min-loss-scale")
            logger.warning(f"{message}; fairseq skips it, and lowers the loss scale")
            self.forget_theta()
        for stack in self._model.stacks():
            interval = self._drift_interval
            stack.measures_drift = interval > 0 and (update - 1) % interval == 0
            stack.drift = None

    def add_theta(self, loss: LevelLoss, sample: Dict[str, Any]) -> None:
        """Keep the loss of a micro-batch of theta, and the batch until the update is made."""
        self._theta.append((loss, sample))

    def take_theta(self) -> LevelLoss:
        """The loss of theta in the update that is made."""
        loss = sum((loss for loss, _ in self._theta), LevelLoss(0.0, 0.0))
        self.forget_theta()
        return loss

    def forget_theta(self) -> None:
        """Begin an update of theta anew."""
        self._theta.clear()

    def _find_non_finite_loss(self, update: int, criterion: FairseqCriterion) -> None:
        """Log where the losses of theta that are not finite begin, if there are any."""
        for loss, sample in self._theta:
            if not math.isfinite(loss.loss):
                logger.warning(f"update {update}: theta's loss is {float(loss.loss)}")
                find_non_finite(self._model, criterion, [sample])

    def check_drift(self, update: int) -> None:
        """Note the largest drift of all processes, if it was measured.

        Raises:
            RuntimeError: it is above the limit; names the update and the stack. All processes stop
        """
        stacks = self._model.stacks()
        if not all(stack.measures_drift for stack in stacks):
            return
        for stack in stacks:
            stack.measures_drift = False  # alpha's step measures nothing
        measured = [-1.0 if stack.drift is None else stack.drift for stack in stacks]
        device = self._model.architecture.encoder.device
        drifts = largest_over_processes(on_device(measured, device))
        for side, drift in zip(CANDIDATES, drifts):
            if not drift <= self._drift_limit:
                raise RuntimeError(
                    f"update {update}: the {side}'s reconstruction drift is {drift:.3g}, past "
                    f"--drift-limit {self._drift_limit}: its gradients can no longer be trusted. "
                    "Compute in fp32, lower --lr or --clip-norm, or use --backprop checkpoint, "
                    "which does not reconstruct (on several GPUs with --ddp-backend legacy_ddp)"
                )
        if max(drifts) >= 0:
            self._drift = max(drifts)
            self._model.architecture.drift.fill_(self._drift)

    def report(
        self, update: int, theta_loss: LevelLoss, alpha_loss: Optional[LevelLoss] = None
    ) -> None:
        """Report an update; warn, once, if the search is collapsing.

        Numbers that are on the device are read at logged updates alone, here and by fairseq.

        Args:
            update: its number, from 1
            theta_loss: loss of theta over all processes
            alpha_loss: loss of alpha; None if alpha did not move
        """
        architecture = self._model.architecture
        numbers = {
            "alpha_entropy": architecture.mean_entropy(),
            "parameter_free": architecture.parameter_free_share(),
            "stable_updates": architecture.stable_updates.clone(),
            "living": architecture.mean_living(),
            "drift": self._drift,
        }
        limit = {}
        if self._budget is not None:
            numbers["cost"] = self._budget.expected_of(architecture)
            limit = {"cost_limit": self._budget.limit}
        losses = {
            "loss": _bits(theta_loss.mean),
            "alpha_loss": alpha_loss and _bits(alpha_loss.mean),
        }
        # fairseq itself logs num_updates later, and shows it past the 100th column.
        metrics.log_scalar("num_updates", update, weight=0, priority=FIRST)
        if alpha_loss is not None:
            _show("alpha_loss", losses["alpha_loss"], weight=alpha_loss.sample_size)
            _show("alpha_nll_loss", _bits(alpha_loss.mean_nll), weight=alpha_loss.tokens)
            metrics.log_derived("alpha_ppl", _perplexity, priority=LAST)
        for name, number in numbers.items():
            if number is not None:
                _show(name, number, weight=0)
        if self._log is not None and update % self._log_interval == 0:
            for name, number in numbers.items():
                numbers[name] = number.item() if torch.is_tensor(number) else number
            nodes: Dict[str, Any] = {"probabilities": architecture.node_probabilities()}
            eliminated = architecture.eliminated()
            if eliminated:
                nodes["eliminated"] = eliminated
            self._log.write({"update": update, **losses, **numbers, **limit, **nodes})
            if alpha_loss is not None:
                self._warn_of_collapse(update, numbers["parameter_free"])

    def _warn_of_collapse(self, update: int, parameter_free: float) -> None:
        if parameter_free > 0.5 and not self._warned:
            self._warned = True
            names = ",".join(PARAMETER_FREE)
            logger.warning(
                f"update {update}: operations without weights ({names}) lead in "
                f"{100 * parameter_free:.0f} % of the nodes, the way in which such searches "
                f"collapse. 'revdarts-derive --exclude {names}' takes the best of the others that "
                "are left, also of an earlier checkpoint; a search without them "
                "(--encoder-candidates, --decoder-candidates), a smaller --alpha-lr, or a longer "
                "rest of alpha (--alpha-start, with elimination --warmup-share) may prevent it"
            )


def _show(name: str, number: Sum, weight: float) -> None:
    """Log a number of the search, rounded; the latest if `weight` is 0, otherwise a mean."""
    if name == "drift":
        number = float(f"{number:.1e}")  # any power of ten: two significant digits
        metrics.log_scalar(name, number, weight, priority=LAST)
    else:
        metrics.log_scalar(name, number, weight, priority=LAST, round=3)


def _perplexity(meters: Dict[str, Any]) -> float:
    return utils.get_perplexity(meters["alpha_nll_loss"].avg)


def _bits(nats: float) -> Optional[float]:
    """Nats in bits; None if that is no number."""
    return nats / math.log(2) if math.isfinite(nats) else None
