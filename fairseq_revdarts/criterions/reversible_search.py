"""The criterion `reversible_search`: the loss of both levels of the search."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)


@dataclass
class ReversibleSearchCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """As label_smoothed_cross_entropy, with the paper's smoothing as the default."""

    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "epsilon for label smoothing, of theta's loss and of alpha's"},
    )


@register_criterion("reversible_search", dataclass=ReversibleSearchCriterionConfig)
class ReversibleSearchCriterion(LabelSmoothedCrossEntropyCriterion):
    """Label-smoothed cross entropy, for theta on its data and for alpha on its own."""
