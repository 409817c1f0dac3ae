"""A network out of a supernet: the weights of the chosen candidates, as a checkpoint of their own.

After an elimination to the end this is the network that the search has trained, without loss.
Before, its weights have only worked together with those of other candidates, and need training.
"""

import re
from dataclasses import fields
from typing import Any, Dict, Mapping

from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.tasks.translation import TranslationConfig
from torch import Tensor

from ..genotype import Genotype
from ..search_space import CANDIDATES, searched_splits

CANDIDATE = re.compile(
    r"(?P<node>(?P<side>encoder|decoder)\.stack\.layers\.(?P<layer>\d+)\.nodes\.(?P<k>\d+)"
    r"\.candidates)\.(?P<index>\d+)\.(?P<rest>.*)"
)


def derived_weights(weights: Mapping[str, Tensor], genotype: Genotype) -> Dict[str, Tensor]:
    """The weights of the network of `genotype`, under the names that it gives them.

    Args:
        weights: of a supernet of the genotype's search space, by name
        genotype: the chosen candidates
    """
    kept = {}
    for name, weight in weights.items():
        found = CANDIDATE.fullmatch(name)
        if found:
            cell = getattr(genotype, found["side"])
            operations, k = cell[int(found["layer"]) % len(cell)], int(found["k"])
            if k < searched_splits(found["side"], len(operations)):
                if CANDIDATES[found["side"]][int(found["index"])] != operations[k]:
                    continue
                name = f"{found['node']}.0.{found['rest']}"
        if not name.startswith("architecture."):
            kept[name] = weight
    return kept


def derived_checkpoint(search: Mapping[str, Any], genotype: Genotype) -> Dict[str, Any]:
    """A checkpoint of the network of `genotype`, before its first update.

    It generates, and it begins a training with --finetune-from-model.

    Args:
        search: the content of a search's checkpoint
        genotype: the chosen candidates, of the same search space
    """
    cfg = dict(search["cfg"])
    cfg["model"] = {**cfg["model"], "genotype": genotype.to_json()}
    cfg["task"] = _as(TranslationConfig, "translation", cfg["task"])
    cfg["criterion"] = _as(
        LabelSmoothedCrossEntropyCriterionConfig, "label_smoothed_cross_entropy", cfg["criterion"]
    )
    history = {**search["optimizer_history"][-1], "num_updates": 0}
    return {
        **search,
        "cfg": cfg,
        "model": derived_weights(search["model"], genotype),
        "optimizer_history": [history],
        "last_optimizer_state": None,
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    }


def _as(config: type, name: str, settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Those of a search's settings that the dataclass `config` of fairseq has."""
    known = {field.name for field in fields(config)}
    return {**{key: value for key, value in settings.items() if key in known}, "_name": name}
