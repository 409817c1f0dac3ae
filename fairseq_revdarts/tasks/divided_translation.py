"""Translation data whose training pairs are divided between theta and alpha."""

import copy
import logging
from typing import Any, Dict, List, Optional

import torch
from fairseq.data.iterators import EpochBatchIterator
from fairseq.tasks.translation import TranslationTask

from ..data.alpha_batches import AlphaBatches
from ..data.divided import Share, divide
from ..modules.architecture import FIRST_POSITION
from ..search.config import BilevelSearchConfig

logger = logging.getLogger(__name__)

#: Added to --seed for the order of alpha's batches, so that it differs from theta's.
ALPHA_SEED = 104729


class DividedTranslationTask(TranslationTask):
    """fairseq's translation task; once `divides` is set, it trains on theta's share of the pairs.

    The batches of alpha's share come from `alpha_iterator`.
    """

    cfg: BilevelSearchConfig

    def __init__(self, cfg: BilevelSearchConfig, *dictionaries: Any):
        super().__init__(cfg, *dictionaries)
        #: Whether this is a search: generation and validation take all pairs.
        self.divides = False
        #: fairseq's iterator over theta's share.
        self.theta_batches: Optional[EpochBatchIterator] = None
        self._alpha_share: Optional[Share] = None
        self._iterator_arguments: Dict[str, Any] = {}

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        """As in translation; a search's training pairs are divided between theta and alpha."""
        try:
            super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)
        except ValueError as error:  # an empty file cannot be mapped
            raise ValueError(f"{self.cfg.data}: its {split} data are empty or damaged") from error
        if self.divides and split == self.cfg.train_subset:
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
        self.theta_batches = iterator
        self.alpha_iterator()  # its errors come before any update; fairseq keeps it
        return iterator

    def alpha_iterator(self) -> EpochBatchIterator:
        """The batches of alpha's share, in another order than those of theta; built once."""
        arguments = {
            **self._iterator_arguments,
            "seed": self.cfg.seed + ALPHA_SEED,
            # A buffer is a thread, which outlives the search.
            "data_buffer_size": 0,
        }
        iterator = super().get_batch_iterator(self._alpha_share, epoch=1, **arguments)
        if not iterator.frozen_batches:
            raise ValueError(
                f"all {self._alpha_share.members.sum()} training pairs of alpha are too long: "
                "raise --max-tokens, --max-source-positions or --max-target-positions"
            )
        return iterator

    def first_alpha_batches(self, count: int) -> List[Dict[str, Any]]:
        """The first `count` batches of alpha's share, the same in every process."""
        whole = copy.copy(self.alpha_iterator())
        whole.num_shards, whole.shard_id = 1, 0
        # What alpha has begun stays alpha's: fairseq would use its loader and its epoch again.
        whole.dataloader = whole._cur_epoch_itr = None
        return AlphaBatches(lambda: whole, torch.tensor(FIRST_POSITION)).take(count)
