"""A training that flags of fairseq-train ask for, known before it runs."""

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch
from fairseq import models, options
from fairseq.criterions import FairseqCriterion
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import TASK_REGISTRY, setup_task
from fairseq.tasks.translation import TranslationTask

from ..search.checks import check_idle_candidates, check_search_flags, check_training
from ..tasks.bilevel_search import BilevelSearchTask
from .workload import DTYPES, joint_dictionary, random_batch


@dataclass(frozen=True)
class Training:
    """What fairseq-train would run, without its data.

    Args:
        cfg: fairseq's whole configuration
        task: with its dictionaries
        tokens: of a batch of one process
        length: tokens per sentence
        device: where model and batch are made: "meta", "cpu" or "cuda"
    """

    cfg: Any
    task: TranslationTask
    tokens: int
    length: int
    device: str = "meta"

    @property
    def searches(self) -> bool:
        """Whether this is a search."""
        return isinstance(self.task, BilevelSearchTask)

    @property
    def processes(self) -> int:
        """How many there are, each with a GPU."""
        return self.cfg.distributed_training.distributed_world_size

    @property
    def update_freq(self) -> int:
        """Batches per update of each process."""
        return self.cfg.optimization.update_freq[0]

    @property
    def updates(self) -> int:
        """Of the whole training."""
        return self.cfg.optimization.max_update

    @property
    def precision(self) -> str:
        """Of weights and activations: "fp32", "fp16" or "bf16"."""
        return next((name for name in ("fp16", "bf16") if self.cfg.common[name]), "fp32")

    def model(self) -> FairseqEncoderDecoderModel:
        """A new model on the device, in training.

        Raises:
            ValueError: a flag that does not fit; names it, its value and what would be right
        """
        with torch.device(self.device):
            model = models.build_model(self.cfg.model, self.task)
        if self.searches and getattr(model, "architecture", None) is None:
            raise ValueError(
                "--task bilevel_search: a search needs the supernet, --arch revdarts_transformer "
                "without --genotype"
            )
        if self.searches:
            check_idle_candidates(self.task.cfg, model)
        model.warns_of_no_search = not self.searches
        # fairseq 0.12.2 makes a tensor of the positions on the CPU in any case.
        return model.to(self.device, DTYPES[self.precision]).train()

    def batch(self) -> Dict[str, Any]:
        """A batch of random sentences."""
        sizes = (len(self.task.source_dictionary), len(self.task.target_dictionary))
        return random_batch(self.tokens, self.length, sizes, self.device, self.cfg.common.seed)

    def criterion(self) -> FairseqCriterion:
        """The loss that --criterion names."""
        return self.task.build_criterion(self.cfg.criterion)


def read_training(flags: List[str], length: int, vocabulary: Optional[int]) -> Training:
    """The training that `flags` of fairseq-train ask for.

    Args:
        flags: with the data folder, as fairseq-train takes them
        length: tokens per sentence
        vocabulary: types of a joint dictionary that stands in for those of the data, or None

    Raises:
        ValueError: a flag that does not fit; names it, its value and what would be right
        SystemExit: fairseq's own parser does not take the flags
    """
    try:
        args = options.parse_args_and_arch(options.get_training_parser(), input_args=flags)
    except RuntimeError as error:  # fairseq's has no text
        raise ValueError("--arch is needed: the network") from error
    cfg = convert_namespace_to_omegaconf(args)
    task = TASK_REGISTRY[args.task]
    if not issubclass(task, TranslationTask):
        raise ValueError(f"--task {args.task}: translation or bilevel_search is needed")
    tokens = cfg.dataset.max_tokens or (cfg.dataset.batch_size or 0) * length
    if not tokens:
        raise ValueError("--max-tokens or --batch-size is needed: the size of a batch")
    if not cfg.optimization.max_update:
        raise ValueError("--max-update is needed: the length of the training")
    if issubclass(task, BilevelSearchTask):
        check_search_flags(cfg.task)
        check_training(cfg.task)
    if vocabulary is not None:
        symbols = joint_dictionary(vocabulary)
        return Training(cfg, task(cfg.task, symbols, symbols), tokens, length)
    return Training(cfg, _task_of_data(cfg.task), tokens, length)


def _task_of_data(cfg: Any) -> TranslationTask:
    try:
        return setup_task(cfg)
    except ValueError:
        raise
    except Exception as error:  # fairseq has no narrower one where it finds no languages
        reason = f"{error}" if os.path.isdir(cfg.data) else "no such folder"
        raise ValueError(
            f"{cfg.data}: {reason}; name the folder that fairseq-preprocess wrote, or give the "
            "size of a joint dictionary with --vocabulary"
        ) from error
