"""Communication between the processes of one search."""

import math
from typing import List, Sequence, Tuple

import torch
from fairseq.distributed import utils as distributed_utils
from torch import Tensor

from .level_loss import LevelLoss, Sum, exact


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
