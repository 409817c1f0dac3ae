"""The criterion `reversible_search`: the loss of both levels of the search, in chunks of tokens."""

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

import torch
from fairseq import utils
from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
    label_smoothed_nll_loss,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

#: Logits held at once, |V| times tokens: those of a whole batch would outweigh the stacks.
LOGITS_AT_ONCE = 2**21


@dataclass
class ReversibleSearchCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """Flags of label_smoothed_cross_entropy; the default is the smoothing of the paper."""

    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "epsilon for label smoothing, for theta and for alpha; 0 for none"},
    )


@register_criterion("reversible_search", dataclass=ReversibleSearchCriterionConfig)
class ReversibleSearchCriterion(LabelSmoothedCrossEntropyCriterion):
    """Label-smoothed cross entropy, for theta and for alpha.

    What is logged as loss and alpha_loss includes the smoothing. nll_loss and ppl, alpha_nll_loss
    and alpha_ppl are without it.

    The output projection and the loss are computed chunk by chunk, and again in the backward, so
    that the logits of one chunk are held at a time.
    """

    def forward(
        self, model: nn.Module, sample: Dict[str, Any], reduce: bool = True
    ) -> Tuple[Tensor, int, Dict[str, Any]]:
        """As in fairseq: the summed loss (a scalar), the sample size, and the numbers to log."""
        whole = sample["target"].numel() * len(self.task.target_dictionary) <= LOGITS_AT_ONCE
        if whole or not reduce or self.report_accuracy:
            return super().forward(model, sample, reduce)
        loss, nll_loss = self._loss_in_chunks(model, sample)
        sentences, tokens = sample["target"].size(0), sample["ntokens"]
        sample_size = sentences if self.sentence_avg else tokens
        logging_output = {
            "loss": loss.data,
            "nll_loss": nll_loss.data,
            "ntokens": tokens,
            "nsentences": sentences,
            "sample_size": sample_size,
        }
        return loss, sample_size, logging_output

    def _loss_in_chunks(self, model: nn.Module, sample: Dict[str, Any]) -> Tuple[Tensor, Tensor]:
        features, _ = model(**sample["net_input"], features_only=True)
        target = sample["target"]
        features = features[:, self.ignore_prefix_size :].flatten(0, 1)
        target = target[:, self.ignore_prefix_size :].flatten()

        def chunk_loss(features: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
            logits = model.decoder.output_layer(features)
            return label_smoothed_nll_loss(
                utils.log_softmax(logits, dim=-1), target, self.eps, self.padding_idx
            )

        chunk = max(1, LOGITS_AT_ONCE // len(self.task.target_dictionary))
        losses = [
            checkpoint(chunk_loss, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(features.split(chunk), target.split(chunk))
        ]
        # No views: fairseq scales the loss of a dummy batch in place.
        loss, nll_loss = (torch.stack(of_chunks).sum() for of_chunks in zip(*losses))
        return loss, nll_loss
