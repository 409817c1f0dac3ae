"""Configuration of the task `bilevel_search`: flags and their validation."""

import ast
import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from fairseq import utils
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks.translation import TranslationConfig
from omegaconf import II

from ..utils.flags import flag_name

#: Two names of fairseq for the same backend.
LEGACY_DDP = ("legacy_ddp", "no_c10d")
STRATEGIES = ("darts", "sampling", "elimination", "evolution")
WHOLE_MODEL = "alpha's step needs the whole model, and the same one, in every process"
#: Flags of fairseq that a search does not take: the value that each must have, and why.
NOT_WITH_A_SEARCH: Dict[str, Tuple[Any, str]] = {
    "amp": (False, "use --fp16, --bf16 or neither"),
    "tpu": (False, "use a GPU or --cpu"),
    "use_bmuf": (False, WHOLE_MODEL),
    "zero_sharding": ("none", WHOLE_MODEL),
    "pipeline_model_parallel": (False, WHOLE_MODEL),
    "quantization_config_path": (None, "quantize the network that was found, as it is trained"),
}
#: Flags that one strategy reads: that strategy, and what to use with another one.
OF_ONE_STRATEGY: Dict[str, Tuple[str, str]] = {
    "warmup_share": ("elimination", "darts has --alpha-start"),
    "elimination_share": ("elimination", "no other strategy eliminates candidates"),
    "active_share": ("elimination", "darts evaluates all candidates, the others one path"),
    "alpha_start": ("darts", "elimination has --warmup-share, a share of --max-update"),
    "stop_when_stable": (
        "darts",
        "elimination decides by its schedule, --elimination-share, the others when a checkpoint is "
        "written",
    ),
}
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
            "help": "end the search when the genotype has stayed the same for this many updates "
            "of alpha; 0 for never"
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


def check_search_flags(cfg: BilevelSearchConfig) -> None:
    """Raise a ValueError for a flag that does not fit: names it, its value, what would be right."""
    if len(utils.split_paths(cfg.data or "")) > 1:
        raise ValueError(
            f"{cfg.data}: several data directories; bilevel_search divides the training pairs of "
            "one directory between theta and alpha"
        )
    if str(cfg.ddp_backend) in ("fully_sharded", "slowmo"):
        raise ValueError(
            f"--ddp-backend {cfg.ddp_backend}: a search takes legacy_ddp or c10d, because "
            f"{WHOLE_MODEL}"
        )
    if not 0 < cfg.alpha_split < 1:
        raise ValueError(f"--alpha-split {cfg.alpha_split}: a share between 0 and 1 is needed")
    parse_betas(cfg.alpha_betas)
    _check_cost(cfg)
    for flag, (strategy, instead) in OF_ONE_STRATEGY.items():
        value, usual = getattr(cfg, flag), BilevelSearchConfig.__dataclass_fields__[flag].default
        if value != usual and str(cfg.search_strategy) != strategy:
            raise ValueError(
                f"{flag_name(flag)} {value}: not with --search-strategy {cfg.search_strategy}, it "
                f"is a flag of {strategy}; {instead}"
            )
    if str(cfg.search_strategy) == "elimination":
        _check_elimination(cfg)
    for flag in ("alpha_lr", "alpha_weight_decay", "drift_limit"):
        value = getattr(cfg, flag)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{flag_name(flag)} {value}: at least 0 is needed, and not infinity")
    for flag in ("alpha_start", "stop_when_stable", "drift_interval"):
        if not getattr(cfg, flag) >= 0:
            raise ValueError(f"{flag_name(flag)} {getattr(cfg, flag)}: at least 0 is needed")


def check_training(cfg: BilevelSearchConfig) -> None:
    """Raise a ValueError for a flag of fairseq-train that a search does not take, or lacks."""
    for flag, (usual, reason) in NOT_WITH_A_SEARCH.items():
        value = getattr(cfg, flag)
        if value != usual:
            shown = flag_name(flag) if value is True else f"{flag_name(flag)} {value}"
            raise ValueError(f"{shown}: not with bilevel_search; {reason}")
    if 0 < cfg.max_update <= cfg.alpha_start:
        raise ValueError(
            f"--alpha-start {cfg.alpha_start}: below --max-update, {cfg.max_update}, is needed: "
            "otherwise alpha never moves"
        )
    if str(cfg.search_strategy) in ("elimination", "evolution") and cfg.max_update < 1:
        raise ValueError(
            f"--max-update {cfg.max_update}: --search-strategy {cfg.search_strategy} needs to know "
            "how long the search is, at least 1"
        )


def _check_cost(cfg: BilevelSearchConfig) -> None:
    if cfg.cost is None:
        for flag in ("cost_limit", "cost_weight", "latency_table"):
            if getattr(cfg, flag) is not None:
                raise ValueError(
                    f"{flag_name(flag)} {getattr(cfg, flag)}: --cost is missing; it is one of "
                    f"{', '.join(COSTS)}"
                )
        return
    what = f"--cost {cfg.cost}"
    if str(cfg.search_strategy) in ("sampling", "evolution"):
        raise ValueError(
            f"{what}: not with --search-strategy {cfg.search_strategy}, whose alpha is not trained"
        )
    if cfg.cost_limit is None:
        raise ValueError(f"{what}: --cost-limit is missing, the largest cost of the network")
    if (str(cfg.cost) == "latency") != (cfg.latency_table is not None):
        raise ValueError(
            f"{what}: --latency-table is missing, a file of revdarts-profile --latency"
            if cfg.latency_table is None
            else f"--latency-table {cfg.latency_table}: not with {what}, but with --cost latency"
        )
    if not 0 < cfg.cost_limit < math.inf:
        raise ValueError(f"--cost-limit {cfg.cost_limit}: above 0 is needed, and not infinity")
    if cfg.cost_weight is not None and not 0 <= cfg.cost_weight < math.inf:
        raise ValueError(f"--cost-weight {cfg.cost_weight}: at least 0 is needed, not infinity")


def _check_elimination(cfg: BilevelSearchConfig) -> None:
    begin, _ = parse_elimination_share(cfg.elimination_share)
    if not 0 <= cfg.warmup_share <= begin:
        raise ValueError(
            f"--warmup-share {cfg.warmup_share}: from 0 to the beginning of --elimination-share, "
            f"{begin}, is needed: nothing is eliminated before alpha moves"
        )
    if not 0 < cfg.active_share <= 1:
        raise ValueError(f"--active-share {cfg.active_share}: above 0 and at most 1 is needed")
