"""Whether a search can run with its flags, and in its processes: asked before any work is done."""

import math
import os
from typing import Any, Dict, Tuple

import torch
from fairseq import utils
from fairseq.distributed import utils as distributed_utils

from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..utils.flags import flag_name
from .config import COSTS, BilevelSearchConfig, parse_betas
from .strategies import strategy_of

#: Two names of fairseq for the same backend.
LEGACY_DDP = ("legacy_ddp", "no_c10d")
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
#: Where torchrun, SLURM's srun, Open MPI and MPICH say how many processes they started.
LAUNCHERS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


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
    strategy_of(cfg).check_flags(cfg)
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
    schedule = strategy_of(cfg).schedule
    if "max_update" in schedule.get("optimization", ()) and cfg.max_update < 1:
        raise ValueError(
            f"--max-update {cfg.max_update}: --search-strategy {cfg.search_strategy} needs to know "
            "how long the search is, at least 1"
        )


def check_processes(cfg: BilevelSearchConfig) -> None:
    """Refuse settings that several processes cannot run with.

    Raises:
        ValueError: this is one of several processes that fairseq does not know of, so that each
            would search alone, or --ddp-backend does not run on the CPU, or it looks for unused
            parameters
    """
    if distributed_utils.get_data_parallel_world_size() == 1:
        launched = {name: int(os.environ.get(name) or 1) for name in LAUNCHERS}
        most = max(launched, key=launched.get)
        if launched[most] > 1:
            raise ValueError(
                f"{most} is {launched[most]}, but fairseq knows of one process: each would search "
                "alone. Pass --distributed-init-method env:// --distributed-world-size $WORLD_SIZE "
                "--distributed-rank $RANK --distributed-no-spawn to fairseq-train under torchrun"
            )
    elif str(cfg.ddp_backend) not in LEGACY_DDP and (cfg.cpu or not torch.cuda.is_available()):
        raise ValueError(
            f"--ddp-backend {cfg.ddp_backend}: fairseq runs it on GPUs only; several processes on "
            "the CPU need --ddp-backend legacy_ddp"
        )
    elif str(cfg.ddp_backend) not in LEGACY_DDP and cfg.find_unused_parameters:
        # The criterion computes the logits in chunks, when the forward that c10d watches is over.
        raise ValueError(
            f"--find-unused-parameters: not with bilevel_search and --ddp-backend "
            f"{cfg.ddp_backend}, which would take the output projection for unused; candidates "
            "may be idle with --backprop reconstruct, or with --ddp-backend legacy_ddp"
        )


def check_idle_candidates(cfg: BilevelSearchConfig, model: RevDartsTransformerModel) -> None:
    """Refuse what --ddp-backend c10d cannot do if candidates are idle in an update.

    With reconstruction all weights of a node are inputs of one function, and idle ones get no
    gradient from it. In plain autograd they are unused, for which c10d would wait.

    Raises:
        ValueError: --backprop is not reconstruct, and the backend waits for unused weights
    """
    reconstructs = all(stack.backprop == "reconstruct" for stack in model.stacks())
    bears_idle = reconstructs or str(cfg.ddp_backend) in LEGACY_DDP
    leaves_idle = strategy_of(cfg).leaves_idle
    if cfg.distributed_world_size > 1 and leaves_idle and not bears_idle:
        raise ValueError(
            f"--ddp-backend {cfg.ddp_backend} with --search-strategy {cfg.search_strategy}: an "
            "update leaves candidates without gradients; use --backprop reconstruct or "
            "--ddp-backend legacy_ddp"
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
    if not strategy_of(cfg).trains_alpha:
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
