"""The task `bilevel_search`: each update of theta is followed by one of alpha."""

import logging
import math
import os
from typing import Any, Dict, List, Optional, Tuple

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask
from torch import nn

from ..bilevel import LevelLoss, alpha_gradients, alpha_optimizer, step, sum_over_processes
from ..data import AlphaBatches, Share, divide
from ..interruption import prepare_for_interruption
from ..model import RevDartsTransformerModel
from ..search_config import BilevelSearchConfig, check_search_flags, parse_betas
from ..search_log import SearchLog

logger = logging.getLogger(__name__)

#: Added to --seed for the order of alpha's batches, so that it differs from theta's.
ALPHA_SEED = 104729


@register_task("bilevel_search", dataclass=BilevelSearchConfig)
class BilevelSearchTask(TranslationTask):
    """Differentiable architecture search on translation data.

    The training pairs are divided once into theta's and alpha's. fairseq updates theta, with any of
    its flags; `optimizer_step` then updates alpha, and writes what a search leaves behind:
    `genotype.json` with every checkpoint and `search.jsonl` at every logged update.
    """

    cfg: BilevelSearchConfig

    def __init__(self, cfg: BilevelSearchConfig, *dictionaries: Any):
        super().__init__(cfg, *dictionaries)
        self._alpha_share: Optional[Share] = None
        self._theta_batches: Optional[EpochBatchIterator] = None
        self._iterator_arguments: Dict[str, Any] = {}
        self._model: Optional[RevDartsTransformerModel] = None
        self._criterion: Optional[FairseqCriterion] = None
        self._adam: Optional[torch.optim.Adam] = None
        self._alpha_batches: Optional[AlphaBatches] = None
        self._log: Optional[SearchLog] = None
        self._update_freq = 1
        self._theta_losses: List[LevelLoss] = []

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
                fairseq does not run on the CPU
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
            _check_processes(self.cfg)
            prepare_for_interruption()
            model.searching = True
            self._model = model
        return model

    def build_criterion(self, cfg: Any, *args: Any, **kwargs: Any) -> FairseqCriterion:
        """The loss, kept for alpha's step."""
        self._criterion = super().build_criterion(cfg, *args, **kwargs)
        return self._criterion

    # ------------------------------------------------------------------------------- data

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        """As in translation; a search's training pairs are divided between theta and alpha."""
        super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)
        if self._model is not None and split == self.cfg.train_subset:
            theta_share, self._alpha_share = divide(
                self.datasets[split], self.cfg.alpha_split, self.cfg.seed
            )
            self.datasets[split] = theta_share
            logger.info(
                f"of {len(theta_share)} training pairs, {theta_share.members.sum()} update theta "
                f"and {self._alpha_share.members.sum()} update alpha"
            )

    def get_batch_iterator(
        self, dataset: Any, epoch: int = 1, required_batch_size_multiple: int = 1, **kwargs: Any
    ) -> EpochBatchIterator:
        """As in translation; keeps theta's arguments for alpha's iterator."""
        if not isinstance(dataset, Share):
            # Larger multiples lose sentences in some versions of fairseq.
            return super().get_batch_iterator(dataset, epoch=epoch, **kwargs)
        kwargs["required_batch_size_multiple"] = required_batch_size_multiple
        self._iterator_arguments = kwargs
        if dataset in self.dataset_to_epoch_iter:
            return super().get_batch_iterator(dataset, epoch=epoch, **kwargs)
        # Batches must not depend on the epoch that they are first built in, or a resumed search
        # would see other ones.
        iterator = super().get_batch_iterator(dataset, epoch=1, **kwargs)
        iterator.epoch = epoch
        self._theta_batches = iterator
        return iterator

    def _build_alpha_iterator(self) -> EpochBatchIterator:
        arguments = {
            **self._iterator_arguments,
            "seed": self.cfg.seed + ALPHA_SEED,
            # A buffer is a thread, which outlives the search.
            "data_buffer_size": 0,
        }
        return super().get_batch_iterator(self._alpha_share, epoch=1, **arguments)

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
        interval = self.cfg.drift_interval
        for stack in self._model.stacks():
            stack.measures_drift = interval > 0 and update_num % interval == 0
            stack.drift = None
        loss, sample_size, logging_output = super().train_step(
            sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs
        )
        if not ignore_grad:
            self._theta_losses.append(LevelLoss(float(loss.detach()), float(sample_size)))
        return loss, sample_size, logging_output

    def optimizer_step(
        self, optimizer: FairseqOptimizer, model: nn.Module, update_num: int
    ) -> None:
        """theta's update, then alpha's on as many batches of its own share."""
        self._check_drift()
        super().optimizer_step(optimizer, model, update_num)
        optimizer.zero_grad()  # frees theta's gradients before alpha's step
        if self._adam is None:
            self._start(update_num)
        # Of an update that overflowed before this one, the losses do not count.
        theta_loss = sum(self._theta_losses[-self._update_freq :], LevelLoss(0.0, 0.0))
        self._theta_losses, alpha_loss = [], None
        if update_num >= self.cfg.alpha_start:
            scaler = getattr(optimizer, "scaler", None)
            theta_loss, alpha_loss = self._step_alpha(theta_loss, scaler)
        self._report(update_num + 1, theta_loss, alpha_loss)

    def begin_epoch(self, epoch: int, model: nn.Module) -> None:
        """As in translation; alpha takes as many batches an update as theta."""
        super().begin_epoch(epoch, model)
        if epoch == 1 and self._theta_batches.iterations_in_epoch == 0:
            # A new search, --reset-dataloader or --finetune-from-model: alpha's data start too.
            self._model.architecture.reset_data_position()
        frequencies = self.cfg.update_freq
        self._update_freq = frequencies[min(epoch, len(frequencies)) - 1]

    def _start(self, update_num: int) -> None:
        """Set up what alpha's step needs, once the model is restored and on its device."""
        cfg, architecture = self.cfg, self._model.architecture
        if update_num == 0:
            # A new search, --reset-optimizer or --finetune-from-model: alpha's Adam starts too.
            architecture.reset_adam()
        self._adam = alpha_optimizer(
            architecture, cfg.alpha_lr, parse_betas(cfg.alpha_betas), cfg.alpha_weight_decay
        )
        self._alpha_batches = AlphaBatches(self._build_alpha_iterator, architecture.data_position)
        if _is_master():
            self._log = SearchLog(os.path.join(cfg.save_dir, "search.jsonl"), update_num)

    def _step_alpha(self, theta_loss: LevelLoss, scaler: Any) -> Tuple[LevelLoss, LevelLoss]:
        """alpha's update; returns theta's loss and alpha's, over all processes."""
        for stack in self._model.stacks():
            stack.measures_drift = False
        gradients, alpha_loss = alpha_gradients(
            self._model,
            self._criterion,
            self._alpha_batches.take(self._update_freq),
            loss_scale=1.0 if scaler is None else scaler.loss_scale,
        )
        gradients, (theta_loss, alpha_loss) = sum_over_processes(gradients, theta_loss, alpha_loss)
        alphas = self._model.architecture.alphas()
        if not step(self._adam, alphas, gradients, alpha_loss.sample_size):
            logger.warning("alpha's gradient is not finite: alpha skips this update")
        return theta_loss, alpha_loss

    def _check_drift(self) -> None:
        """Note the drift if it was measured; raises a RuntimeError past the limit."""
        drifts = {
            side: float(stack.drift)
            for side, stack in zip(("encoder", "decoder"), self._model.stacks())
            if stack.drift is not None
        }
        for side, drift in drifts.items():
            if not drift <= self.cfg.drift_limit:
                raise RuntimeError(
                    f"the {side}'s reconstruction drift is {drift:.3g}, past --drift-limit "
                    f"{self.cfg.drift_limit}: its gradients can no longer be trusted. Compute in "
                    "fp32, lower --lr or --clip-norm, or use --backprop checkpoint, which does "
                    "not reconstruct"
                )
        if drifts:
            self._model.architecture.drift.fill_(max(drifts.values()))

    # ------------------------------------------------------------------------------- reports

    def _report(self, update: int, theta_loss: LevelLoss, alpha_loss: Optional[LevelLoss]) -> None:
        architecture = self._model.architecture
        entry = {
            "update": update,
            "loss": theta_loss.mean / math.log(2),
            "alpha_loss": None if alpha_loss is None else alpha_loss.mean / math.log(2),
            "alpha_entropy": architecture.mean_entropy(),
            "drift": architecture.last_drift(),
        }
        if alpha_loss is not None:
            metrics.log_scalar("alpha_loss", entry["alpha_loss"], alpha_loss.sample_size, round=3)
        metrics.log_scalar("alpha_entropy", entry["alpha_entropy"], weight=0, round=4)
        if entry["drift"] is not None:
            metrics.log_scalar("drift", entry["drift"])
        if self._log is not None and update % self.cfg.log_interval == 0:
            self._log.write({**entry, "probabilities": architecture.node_probabilities()})

    def state_dict(self) -> Dict[str, Any]:
        """As in translation; asked for at every checkpoint, so it writes genotype.json."""
        if self._adam is not None and _is_master():
            path = os.path.join(self.cfg.save_dir, "genotype.json")
            self._model.architecture.genotype().save(path)
        return super().state_dict()


def _is_master() -> bool:
    single = distributed_utils.get_data_parallel_world_size() == 1
    return single or distributed_utils.get_data_parallel_rank() == 0


def _check_processes(cfg: BilevelSearchConfig) -> None:
    """Refuse to be one of several processes that would each search alone, or that fairseq fails."""
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if distributed_utils.get_data_parallel_world_size() == 1:
        if launched > 1:
            raise ValueError(
                f"WORLD_SIZE is {launched}, but fairseq knows of one process: each would search "
                "alone. Pass --distributed-init-method env:// --distributed-world-size $WORLD_SIZE "
                "--distributed-rank $RANK --distributed-no-spawn to fairseq-train under torchrun"
            )
    elif str(cfg.ddp_backend) != "legacy_ddp" and (cfg.cpu or not torch.cuda.is_available()):
        raise ValueError(
            f"--ddp-backend {cfg.ddp_backend}: fairseq runs it on GPUs only; several processes on "
            "the CPU need --ddp-backend legacy_ddp"
        )
