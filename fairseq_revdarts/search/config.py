"""Configuration of the task `bilevel_search`: its flags, and how to read those of two numbers."""

import ast
import math
from dataclasses import dataclass, field
from typing import List, Optional, Tuple

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks.translation import TranslationConfig
from omegaconf import II

STRATEGIES = ("darts", "sampling", "elimination", "evolution")
COSTS = ("parameters", "latency")
#: Nats per token that an expected cost of twice --cost-limit adds to alpha's loss.
DEFAULT_COST_WEIGHT = 1.0


@dataclass
class BilevelSearchConfig(TranslationConfig):
    """Flags of `--task bilevel_search`, in addition to those of the task `translation`."""

    search_strategy: ChoiceEnum(STRATEGIES) = field(
        default="elimination",
        metadata={
            "help": "elimination: train random subsets of the candidates, and eliminate candidates "
            "until each node has one; darts: train all, as in the paper, and choose each node's "
            "most probable one; sampling (a baseline): train one random path in each update, and "
            "choose the best of many on the training pairs of alpha; evolution: train as sampling "
            "does, and breed paths in the end"
        },
    )
    alpha_split: float = field(
        default=0.444,
        metadata={
            "help": "share of the training pairs, between 0 and 1, that updates alpha; the others "
            "update theta"
        },
    )
    warmup_share: float = field(
        default=0.4,
        metadata={
            "help": "with --search-strategy elimination: share of --max-update before alpha moves"
        },
    )
    elimination_share: str = field(
        default="(0.6, 0.95)",
        metadata={
            "help": "with --search-strategy elimination: shares of --max-update from where to "
            "where candidates are eliminated"
        },
    )
    active_share: float = field(
        default=0.25,
        metadata={
            "help": "with --search-strategy elimination: share of the living candidates of a node "
            "that an update evaluates, at least two"
        },
    )
    alpha_lr: Optional[float] = field(
        default=None,
        metadata={
            "help": "learning rate of Adam for alpha, constant (default: 3e-4; with "
            "--search-strategy elimination 120 / --max-update)"
        },
    )
    alpha_weight_decay: Optional[float] = field(
        default=None,
        metadata={
            "help": "weight decay of Adam for alpha (default: 1e-3; with --search-strategy "
            "elimination 0)"
        },
    )
    alpha_betas: str = field(default="(0.9, 0.98)", metadata={"help": "betas of Adam for alpha"})
    alpha_start: int = field(
        default=0,
        metadata={
            "help": "with --search-strategy darts: number of updates of theta before alpha begins "
            "to move"
        },
    )
    stop_when_stable: int = field(
        default=0,
        metadata={
            "help": "with --search-strategy darts: end the search when the genotype has stayed the "
            "same for this many updates of alpha; 0 for never"
        },
    )
    drift_interval: int = field(
        default=100,
        metadata={
            "help": "number of updates from one measurement of the reconstruction drift to the "
            "next; 0 for never"
        },
    )
    drift_limit: float = field(
        default=0.1,
        metadata={
            "help": "largest drift, the relative error of the reconstructed input of encoder or "
            "decoder; the search stops above it"
        },
    )
    cost: Optional[ChoiceEnum(COSTS)] = field(
        default=None,
        metadata={
            "help": "search within a budget, --cost-limit: of the parameters of the network found, "
            "or of its latency, the milliseconds in which it decodes a sentence (default: none, no "
            "budget)"
        },
    )
    cost_limit: Optional[float] = field(
        default=None,
        metadata={
            "help": "with --cost: the largest number of parameters, embeddings included, or of "
            "milliseconds"
        },
    )
    cost_weight: Optional[float] = field(
        default=None,
        metadata={
            "help": "with --cost: what the loss of alpha gains for the relative excess of the "
            "expected cost over --cost-limit, in nats per token (default: 1.0 if --cost is given)"
        },
    )
    latency_table: Optional[str] = field(
        default=None,
        metadata={
            "help": "with --cost latency: the file that revdarts-profile --latency wrote on the "
            "machine that will be used"
        },
    )
    amp: bool = II("common.amp")
    cpu: bool = II("common.cpu")
    tpu: bool = II("common.tpu")
    quantization_config_path: Optional[str] = II("common.quantization_config_path")
    use_bmuf: bool = II("optimization.use_bmuf")
    zero_sharding: str = II("distributed_training.zero_sharding")
    pipeline_model_parallel: bool = II("distributed_training.pipeline_model_parallel")
    ddp_backend: str = II("distributed_training.ddp_backend")
    find_unused_parameters: bool = II("distributed_training.find_unused_parameters")
    distributed_world_size: int = II("distributed_training.distributed_world_size")
    update_freq: List[int] = II("optimization.update_freq")
    max_update: int = II("optimization.max_update")
    seed: int = II("common.seed")
    log_interval: int = II("common.log_interval")
    save_dir: str = II("checkpoint.save_dir")


def parse_pair(text: str) -> Tuple[float, float]:
    """Two numbers from a text like "(0.9, 0.98)"; NaN if there are not two."""
    try:
        first, second = (float(number) for number in ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        first, second = math.nan, math.nan
    return first, second


def parse_betas(text: str) -> Tuple[float, float]:
    """The two numbers of --alpha-betas. Raises a ValueError."""
    first, second = parse_pair(text)
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(f'--alpha-betas {text}: two numbers in [0, 1) are needed: "(0.9, 0.98)"')
    return first, second


def parse_elimination_share(text: str) -> Tuple[float, float]:
    """The two numbers of --elimination-share. Raises a ValueError."""
    begin, end = parse_pair(text)
    if not 0 <= begin < end <= 1:
        raise ValueError(
            f"--elimination-share {text}: two shares of the search from 0 to 1, the smaller one "
            'first, are needed: "(0.6, 0.95)"'
        )
    return begin, end
