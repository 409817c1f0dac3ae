"""Configuration of the task `bilevel_search`: flags and their validation."""

import ast
import math
from dataclasses import dataclass, field
from typing import List, Tuple

from fairseq import utils
from fairseq.tasks.translation import TranslationConfig
from omegaconf import II


@dataclass
class BilevelSearchConfig(TranslationConfig):
    """Flags of --task bilevel_search."""

    alpha_split: float = field(
        default=0.444,
        metadata={"help": "share of the training pairs that updates alpha; the rest, theta"},
    )
    alpha_lr: float = field(
        default=3e-4, metadata={"help": "learning rate of alpha's Adam, constant"}
    )
    alpha_weight_decay: float = field(
        default=1e-3, metadata={"help": "weight decay of alpha's Adam"}
    )
    alpha_betas: str = field(default="(0.9, 0.98)", metadata={"help": "betas of alpha's Adam"})
    alpha_start: int = field(
        default=0, metadata={"help": "updates of theta before alpha begins to move"}
    )
    drift_interval: int = field(
        default=100,
        metadata={"help": "measure the reconstruction drift every N updates; 0 for never"},
    )
    drift_limit: float = field(
        default=0.01,
        metadata={"help": "stop if the relative error of the reconstructed stack input exceeds it"},
    )
    amp: bool = II("common.amp")
    cpu: bool = II("common.cpu")
    ddp_backend: str = II("distributed_training.ddp_backend")
    update_freq: List[int] = II("optimization.update_freq")
    seed: int = II("common.seed")
    log_interval: int = II("common.log_interval")
    save_dir: str = II("checkpoint.save_dir")


def parse_betas(text: str) -> Tuple[float, float]:
    """The two numbers of --alpha-betas. Raises a ValueError."""
    try:
        first, second = (float(beta) for beta in ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        first, second = math.nan, math.nan
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(f'--alpha-betas {text}: two numbers in [0, 1) are needed: "(0.9, 0.98)"')
    return first, second


def check_search_flags(cfg: BilevelSearchConfig) -> None:
    """Raise a ValueError for a flag that does not fit: names it, its value, what would be right."""
    if len(utils.split_paths(cfg.data or "")) > 1:
        raise ValueError(
            f"{cfg.data}: several data directories; bilevel_search divides the training pairs of "
            "one directory between theta and alpha"
        )
    if cfg.amp:
        raise ValueError("--amp: not with bilevel_search; use --fp16, --bf16 or neither")
    if str(cfg.ddp_backend) in ("fully_sharded", "slowmo"):
        raise ValueError(
            f"--ddp-backend {cfg.ddp_backend}: a search takes legacy_ddp or c10d, because alpha's "
            "step needs the whole model, and the same one, in every process"
        )
    if not 0 < cfg.alpha_split < 1:
        raise ValueError(f"--alpha-split {cfg.alpha_split}: a share between 0 and 1 is needed")
    parse_betas(cfg.alpha_betas)
    for flag, least in (
        ("alpha_lr", 0),
        ("alpha_weight_decay", 0),
        ("alpha_start", 0),
        ("drift_interval", 0),
        ("drift_limit", 0),
    ):
        if not getattr(cfg, flag) >= least:
            name = "--" + flag.replace("_", "-")
            raise ValueError(f"{name} {getattr(cfg, flag)}: at least {least} is needed")
