"""The task `bilevel_search`: each update of theta is followed by one of alpha."""

import logging
import os
import sys
from functools import lru_cache, partial
from typing import Any, Dict, Optional, Tuple

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import register_task
from torch import nn

from ..data.alpha_batches import AlphaBatches
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search.active import forget_idle_gradients
from ..search.bilevel import AlphaStep, alpha_optimizer
from ..search.checkpoint import SavedSearch, saves_after
from ..search.checks import (
    check_idle_candidates,
    check_processes,
    check_search_flags,
    check_training,
)
from ..search.config import BilevelSearchConfig, parse_betas
from ..search.cost import Budget
from ..search.gradient_buffer import GradientBuffer
from ..search.level_loss import LevelLoss, exact
from ..search.monitor import SearchMonitor
from ..search.paths import measure_paths
from ..search.processes import is_master, sum_over_processes
from ..search.restart import Restart, check_restored, has_ended, is_decided
from ..search.strategies import strategy_of
from ..search.strategy import Measure, Strategy
from ..utils.interruption import prepare_for_interruption
from .divided_translation import DividedTranslationTask

logger = logging.getLogger(__name__)


@register_task("bilevel_search", dataclass=BilevelSearchConfig)
class BilevelSearchTask(DividedTranslationTask):
    """Differentiable architecture search on translation data.

    The training pairs are divided once into theta's and alpha's. fairseq updates theta, with any of
    its flags; `optimizer_step` then updates alpha. The search writes `genotype.json` with every
    checkpoint and `search.jsonl` at every logged update.
    """

    cfg: BilevelSearchConfig

    def __init__(self, cfg: BilevelSearchConfig, *dictionaries: Any):
        super().__init__(cfg, *dictionaries)
        self._model: Optional[RevDartsTransformerModel] = None
        self._criterion: Optional[FairseqCriterion] = None
        self._step_alpha: Optional[AlphaStep] = None
        self._gradients: Optional[GradientBuffer] = None
        self._strategy: Optional[Strategy] = None
        self._budget: Optional[Budget] = None
        self._restart: Optional[Restart] = None
        #: The search in the checkpoint that fairseq restores.
        self._saved: Optional[SavedSearch] = None
        self._monitor: Optional[SearchMonitor] = None
        self._update_freq = 1
        #: Whether alpha shows the choice after the last update, for its checkpoint.
        self._choice_is_shown = False
        #: What paths are measured on: read once.
        self._first_batches = lru_cache(maxsize=None)(self.first_alpha_batches)
        #: Batches of theta's epoch that were taken before this process began with it.
        self._taken_before = 0

    @classmethod
    def setup_task(cls, cfg: BilevelSearchConfig, **kwargs: Any) -> "BilevelSearchTask":
        """As in translation; raises a ValueError for a flag that does not fit."""
        check_search_flags(cfg)
        return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> RevDartsTransformerModel:
        """The supernet to search with; for generation, whatever the checkpoint holds.

        Raises:
            ValueError: the search is given another model, or one with --genotype, or it is one of
                several processes that fairseq does not know of, or with a --ddp-backend that
                fairseq does not run on the CPU, or no network is within --cost-limit
        """
        model = super().build_model(cfg, from_checkpoint)
        if not from_checkpoint:
            if getattr(cfg, "genotype", None) is not None:
                raise ValueError(
                    "--task bilevel_search with --genotype: a search needs the supernet. Leave out "
                    "--genotype to search, or train the genotype with --task translation"
                )
            if getattr(model, "architecture", None) is None:
                raise ValueError("--task bilevel_search needs --arch revdarts_transformer")
            check_training(self.cfg)
            check_processes(self.cfg)
            check_idle_candidates(self.cfg, model)
            self._restart = Restart.of(self.cfg)
            self._saved = check_restored(self.cfg, self._restart, model.architecture)
            self._budget = Budget.of(self.cfg, cfg, model)
            if self._budget is not None:
                goes_on = self._saved is not None and not self._restart.resets_optimizer
                living = self._saved.living() if goes_on else model.architecture.searched()
                self._budget.check_possible(living)
            prepare_for_interruption()
            model.warns_of_no_search = False
            self._model, self.divides = model, True
            self._strategy = strategy_of(self.cfg)(model, self.cfg, self._budget)
            limits = (self.cfg.drift_interval, self.cfg.drift_limit, self.cfg.log_interval)
            self._monitor = SearchMonitor(model, *limits, self._budget)
        return model

    def build_criterion(self, cfg: Any, *args: Any, **kwargs: Any) -> FairseqCriterion:
        """The loss, kept for alpha's step."""
        self._criterion = super().build_criterion(cfg, *args, **kwargs)
        return self._criterion

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        """As in translation, the training pairs divided; a search at its end stays there."""
        super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)
        trains = self.divides and split == self.cfg.train_subset
        goes_on = trains and not self._restart.resets_optimizer
        if goes_on and (self._is_stable() or has_ended(self.cfg, self._saved)):
            self._limits.max_epoch = -1  # fairseq would train one more update

    # ------------------------------------------------------------------------------- search

    def train_step(
        self,
        sample: Dict[str, Any],
        model: nn.Module,
        criterion: FairseqCriterion,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool = False,
        **kwargs: Any,
    ) -> Tuple[torch.Tensor, int, Dict[str, Any]]:
        """One micro-batch of theta, as in translation."""
        monitor, update = self._monitor, update_num + 1
        self._choice_is_shown = False
        if self._step_alpha is None:
            self._start(optimizer, update_num)
        begins = self._gradients.offer()
        monitor.begin_micro_batch(update, begins, self._step_alpha.scaler, criterion)
        with self._model.architecture.restricted_to(self._strategy.for_theta(update)):
            try:
                loss, sample_size, logging_output = super().train_step(
                    sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs
                )
            except RuntimeError:  # out of memory: fairseq may skip this update
                monitor.forget_theta()
                raise
            tokens = 0.0 if ignore_grad else sample_size
            monitor.add_theta(LevelLoss(exact(loss.detach()), tokens), sample)
        return loss, sample_size, logging_output

    def optimizer_step(
        self, optimizer: FairseqOptimizer, model: nn.Module, update_num: int
    ) -> None:
        """The update of theta, then the update of alpha on as many batches of its share."""
        update = update_num + 1
        self._monitor.check_drift(update)
        forget_idle_gradients(self._model, self._strategy.for_theta(update), optimizer)
        super().optimizer_step(optimizer, model, update_num)
        theta_loss = self._monitor.take_theta()
        for_alpha = self._strategy.for_alpha(update)
        if for_alpha is not None:
            with self._model.architecture.restricted_to(for_alpha):
                theta_loss, alpha_loss = self._step_alpha(update, self._micro_batches(), theta_loss)
        else:
            _, (theta_loss,), _ = sum_over_processes([], theta_loss, device=self._device)
            alpha_loss = None
        self._strategy.after_update(update, self._measure(together=True))
        self._choice_is_shown = saves_after(update, self.cfg._get_parent(), self.theta_batches)
        if self._choice_is_shown:
            self._strategy.before_checkpoint(self._measure(together=True))
        self._monitor.report(update, theta_loss, alpha_loss)
        if self._is_stable():
            self._limits.max_update = update  # fairseq saves a checkpoint, and ends

    def valid_step(
        self, sample: Dict[str, Any], model: nn.Module, criterion: FairseqCriterion, **kwargs: Any
    ) -> Tuple[torch.Tensor, int, Dict[str, Any]]:
        """As in translation, on the candidates that the strategy names."""
        if self._strategy is None:  # fairseq-validate
            return super().valid_step(sample, model, criterion, **kwargs)
        with self._model.architecture.restricted_to(self._strategy.for_validation()):
            return super().valid_step(sample, model, criterion, **kwargs)

    def begin_epoch(self, epoch: int, model: nn.Module) -> None:
        """As in translation; alpha takes as many batches as theta, in the last update, too."""
        super().begin_epoch(epoch, model)
        self._taken_before = self.theta_batches.iterations_in_epoch
        if epoch == 1 and self._taken_before == 0:
            # A new search, --reset-dataloader or --finetune-from-model: alpha's data start too.
            self._model.architecture.reset_data_position()
        frequencies = self.cfg.update_freq
        self._update_freq = frequencies[min(epoch, len(frequencies)) - 1]
        self._monitor.forget_theta()

    def _micro_batches(self) -> int:
        """Of the update that is computed: the last of an epoch may have fewer than others."""
        taken = self.theta_batches.iterations_in_epoch - self._taken_before
        return (taken - 1) % self._update_freq + 1

    @property
    def _device(self) -> torch.device:
        return self._model.architecture.alphas()[0].device

    def _start(self, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Prepare alpha's step, once the model is restored and on its device."""
        cfg, architecture = self.cfg, self._model.architecture
        scaler = getattr(optimizer, "scaler", None)  # of the loss, in fp16
        if update_num == 0:
            # As theta's optimizer: --reset-optimizer, --finetune-from-model.
            decided = is_decided(self.cfg, self._saved, architecture)
            architecture.reset_updates(keeps_alpha=not decided)
        elif scaler is not None:
            architecture.restore_scaler(scaler)
        lr, decay = self._strategy.alpha_defaults()
        adam = alpha_optimizer(
            architecture,
            lr if cfg.alpha_lr is None else cfg.alpha_lr,
            parse_betas(cfg.alpha_betas),
            decay if cfg.alpha_weight_decay is None else cfg.alpha_weight_decay,
        )
        self._gradients = GradientBuffer(self._model.parameters())
        batches = AlphaBatches(self.alpha_iterator, architecture.data_position)
        self._step_alpha = AlphaStep(
            self._model, self._criterion, adam, batches, self._budget, scaler
        )
        self._monitor.resume()
        if is_master():
            self._monitor.open_log(os.path.join(cfg.save_dir, "search.jsonl"), update_num)

    def _measure(self, together: bool) -> Measure:
        return partial(measure_paths, self._model, self._criterion, self._first_batches, together)

    # ------------------------------------------------------------------------------- the end

    def _is_stable(self) -> bool:
        """Whether the genotype has been stable for as long as --stop-when-stable asks."""
        enough = self.cfg.stop_when_stable
        if enough == 0:  # the device is not asked
            return False
        stable = int(self._model.architecture.stable_updates)
        if stable < enough:
            return False
        logger.info(
            f"the genotype has been stable for {stable} updates, --stop-when-stable is {enough}: "
            "the search is at its end"
        )
        return True

    @property
    def _limits(self) -> Any:
        """fairseq's own: it asks --max-update after each update, --max-epoch before the first."""
        return self.cfg._get_parent().optimization

    def state_dict(self) -> Dict[str, Any]:
        """As in translation; asked for at every checkpoint, so it writes genotype.json.

        Not for crash.pt, which fairseq writes while it handles an error, and resumes from nowhere.
        """
        if self._step_alpha is not None and self._step_alpha.scaler is not None:
            self._model.architecture.keep_scaler(self._step_alpha.scaler)
        crashes = sys.exc_info()[0] is not None
        if self._step_alpha is not None and is_master() and not crashes:
            if not self._choice_is_shown:
                self._strategy.before_checkpoint(self._measure(together=False))
            path = os.path.join(self.cfg.save_dir, "genotype.json")
            genotype = self._model.architecture.genotype()
            genotype.save(path)
            if self._budget is not None:
                self._budget.report(genotype)
        return super().state_dict()
