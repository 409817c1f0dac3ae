"""Communication between the processes of one search, and checks that they can work together."""

import math
import os
from typing import List, Sequence, Tuple

import torch
from fairseq.distributed import utils as distributed_utils
from torch import Tensor

from ..models.revdarts_transformer.model import RevDartsTransformerModel
from .config import LEGACY_DDP, BilevelSearchConfig
from .level_loss import LevelLoss, Sum, exact

#: Where torchrun, SLURM's srun, Open MPI and MPICH say how many processes they started.
LAUNCHERS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


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
    if cfg.distributed_world_size > 1 and str(cfg.search_strategy) != "darts" and not bears_idle:
        raise ValueError(
            f"--ddp-backend {cfg.ddp_backend} with --search-strategy {cfg.search_strategy}: an "
            "update leaves candidates without gradients; use --backprop reconstruct or "
            "--ddp-backend legacy_ddp"
        )


def rank_and_processes() -> Tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    processes = distributed_utils.get_data_parallel_world_size()
    return (0 if processes == 1 else distributed_utils.get_data_parallel_rank()), processes


def is_master() -> bool:
    """Whether this process is the only one or the first: the one that writes."""
    return rank_and_processes()[0] == 0


def add_over_processes(numbers: Tensor) -> Tensor:
    """`numbers`, in place, summed over all processes."""
    if distributed_utils.get_data_parallel_world_size() > 1:
        distributed_utils.all_reduce(numbers, group=distributed_utils.get_data_parallel_group())
    return numbers


def sum_over_processes(
    gradients: List[Tensor], *losses: LevelLoss, device: torch.device
) -> Tuple[List[Tensor], List[LevelLoss], bool]:
    """Sum over all processes, in one all-reduce.

    Args:
        gradients: of alpha; there may be none
        losses: of one level or of both
        device: where they are

    Returns:
        The summed gradients, on the device; the summed losses, as numbers; and whether all
        gradients are finite
    """
    parts = [gradient.double().flatten() for gradient in gradients]
    sums = on_device([number for level in losses for number in level], device)
    flat = add_over_processes(torch.cat([*parts, sums]))
    *parts, sums = flat.split([*(part.numel() for part in parts), sums.numel()])
    gradients = [part.view_as(one).to(one) for part, one in zip(parts, gradients)]
    finite = [gradient.isfinite().all().double() for gradient in gradients]
    numbers = to_host(torch.stack([*sums.unbind(), *finite]))
    numbers, finite = numbers[: sums.numel()], numbers[sums.numel() :]
    size = len(LevelLoss._fields)
    levels = [LevelLoss(*numbers[i : i + size]) for i in range(0, len(numbers), size)]
    return gradients, levels, all(finite)


def on_device(numbers: Sequence[Sum], device: torch.device) -> Tensor:
    """(n,), in double precision; nothing waits for the device."""
    return torch.stack([exact(number).to(device, non_blocking=True) for number in numbers])


def to_host(numbers: Tensor) -> List[float]:
    """`numbers` (n,), for which the process waits until the device has computed them.

    An update of the search does it once, when both levels are computed: alpha must not move by
    numbers that are not finite. So does fairseq, for the norm of theta's gradients.
    """
    return numbers.tolist()


def largest_over_processes(numbers: Tensor) -> List[float]:
    """Elementwise maximum over all processes of `numbers` (n,); NaN counts as infinity."""
    numbers = numbers.nan_to_num(nan=math.inf, posinf=math.inf)
    if distributed_utils.get_data_parallel_world_size() > 1:
        group = distributed_utils.get_data_parallel_group()
        distributed_utils.all_reduce(numbers, group=group, op="max")
    return numbers.tolist()
