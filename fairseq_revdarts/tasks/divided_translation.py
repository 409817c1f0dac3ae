"""Translation data whose training pairs are divided between theta and alpha."""

import copy
import inspect
import logging
from typing import Any, Dict, List, Optional

from fairseq.data.iterators import EpochBatchIterator
from fairseq.tasks.translation import TranslationTask

from ..data.divided import Share, divide
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

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> EpochBatchIterator:
        """As in translation; keeps theta's arguments for alpha's iterator."""
        signature = inspect.signature(TranslationTask.get_batch_iterator)
        _, _, *given = signature.bind(self, dataset, *args, **kwargs).arguments.items()
        arguments = dict(given)
        if not isinstance(dataset, Share):
            # Larger multiples lose sentences in some versions of fairseq.
            return super().get_batch_iterator(
                dataset, **{**arguments, "required_batch_size_multiple": 1}
            )
        self._iterator_arguments = arguments
        if dataset in self.dataset_to_epoch_iter:
            return super().get_batch_iterator(dataset, **arguments)
        # Batches must not depend on the epoch that they are first built in, or a resumed search
        # would see other ones.
        iterator = super().get_batch_iterator(dataset, **{**arguments, "epoch": 1})
        iterator.epoch = arguments.get("epoch", 1)
        self.theta_batches = iterator
        self.alpha_iterator()  # its errors come before any update; fairseq keeps it
        return iterator

    def alpha_iterator(self) -> EpochBatchIterator:
        """The batches of alpha's share, in another order than those of theta; built once."""
        arguments = {
            **self._iterator_arguments,
            "seed": self.cfg.seed + ALPHA_SEED,
            "epoch": 1,
            # A buffer is a thread, which outlives the search.
            "data_buffer_size": 0,
        }
        iterator = super().get_batch_iterator(self._alpha_share, **arguments)
        if not iterator.frozen_batches:
            raise ValueError(
                f"all {self._alpha_share.members.sum()} training pairs of alpha are too long: "
                "raise --max-tokens, --max-source-positions or --max-target-positions"
            )
        if arguments.get("skip_remainder_batch") and len(iterator) < 2:
            raise ValueError(
                "--skip-remainder-batch: alpha's pairs make a single batch per process, which "
                "fairseq would drop; leave the flag out, or raise --alpha-split"
            )
        return iterator

    def first_alpha_batches(self, count: int) -> List[Dict[str, Any]]:
        """The first `count` batches of alpha's share, the same in every process.

        There are fewer if the share has no more: none comes twice.
        """
        whole = copy.copy(self.alpha_iterator())
        whole.num_shards, whole.shard_id = 1, 0
        batches = whole.ordered_batches(1, fix_batches_to_gpus=False, shuffle=True)[:count]
        share = self._alpha_share
        return [share.collater([share[index] for index in batch]) for batch in batches]
