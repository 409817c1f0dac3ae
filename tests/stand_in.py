"""The device "meta" in the place of a GPU, and searches on it.

Its tensors have no numbers. Whatever would make a process wait for a GPU is an error, or recorded.
"""

import sys
from pathlib import Path

import pytest
import torch
from fairseq import optim, options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from running import PLUGIN
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

META = torch.device("meta")
ASKED = ("_local_scalar_dense", "equal", "is_nonzero", "item")


def _checkpointing_works_on_meta():
    try:
        checkpoint(torch.relu, torch.ones(1, device=META), use_reentrant=False)
    except AttributeError:  # torch 2.4
        return False
    return True


_checkpoint = pytest.param(
    "checkpoint",
    marks=pytest.mark.skipif(
        not _checkpointing_works_on_meta(), reason="this torch cannot checkpoint on meta"
    ),
)
#: The modes of --backprop that this torch has on the meta device.
BACKPROP_ON_META = ["reconstruct", _checkpoint, "store"]


class Waits:
    """Records by whom the device is waited for. The numbers that it is asked for are all 1.

    An operation on tensors of which one was made on the CPU is an error, as on a GPU.
    """

    def __init__(self):
        self.places = []
        self._modes = (_Operations(self), _Constructors(self))

    def __enter__(self):
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def record(self):
        """Note the innermost function of the package that is under way, or else of fairseq."""
        found, frame = None, sys._getframe()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if PLUGIN in path.parents:
                found = f"{path.stem}.{frame.f_code.co_name}"
                break
            frame = frame.f_back
        self.places.append(found)


class _Operations(TorchDispatchMode):
    """Numbers that are read from the device, copies that are waited for, tensors that are not."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = [tensor for tensor in tensors if tensor.is_meta]
        if name in ASKED and on_device:
            self.waits.record()
            return True if name == "equal" else torch.ones((), dtype=on_device[0].dtype).item()
        if name == "_to_copy":
            moves = kwargs.get("device", args[0].device).type != args[0].device.type
            if moves and args[0].is_meta:
                self.waits.record()
                return torch.ones_like(args[0], **{**kwargs, "device": "cpu"})
            if moves and not kwargs.get("non_blocking"):
                self.waits.record()
        elif name == "copy_" and args[0].device != args[1].device:
            if args[1].is_meta:
                self.waits.record()
                return args[0].fill_(1)
            if len(args) < 3 or not args[2]:
                self.waits.record()
        elif on_device:
            elsewhere = [one for one in tensors if not one.is_meta and one.dim() > 0]
            assert not elsewhere, f"{name} on the device has an argument on the CPU"
        return function(*args, **kwargs)


class _Constructors(TorchFunctionMode):
    """Tensors that are made on the device from numbers, which are copied there."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.tensor and result.is_meta:
            self.waits.record()
        return result


class SearchOnDevice:
    """A search by the real task, whose network and theta's batches are on `device`."""

    def __init__(self, data, folder, *flags, device=META, max_update=100):
        words = [str(data), f"--save-dir={folder}", f"--max-update={max_update}", *flags]
        args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
        cfg = convert_namespace_to_omegaconf(args)
        utils.import_user_module(cfg.common)
        self.task = tasks.setup_task(cfg.task)
        self.model = self.task.build_model(cfg.model)
        self.criterion = self.task.build_criterion(cfg.criterion)
        half = torch.float16 if cfg.common.fp16 else torch.float32
        self.model.to(device).to(torch.bfloat16 if cfg.common.bf16 else half)
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        kind = optim.FP16Optimizer if cfg.common.fp16 or cfg.common.bf16 else optim
        build = kind.build_optimizer
        self.optimizer = build(cfg if kind is not optim else cfg.optimizer, weights)
        self.task.load_dataset("train")
        batches = self.task.get_batch_iterator(
            self.task.dataset("train"),
            max_tokens=cfg.dataset.max_tokens,
            max_sentences=cfg.dataset.batch_size,
            seed=1,
        )
        self._device, self._frequency = device, cfg.optimization.update_freq[0]
        self._batches = batches.next_epoch_itr(shuffle=True)
        self.task.begin_epoch(1, self.model)
        self.updates = 0
        #: The inputs that theta has seen.
        self.seen = []

    def update(self):
        """One update of theta and one of alpha, as fairseq's trainer asks for them."""
        self.model.train()
        self.criterion.train()
        for _ in range(self._frequency):
            sample = next(self._batches)
            self.seen.append(sample["net_input"])
            sample = utils.apply_to_sample(
                lambda tensor: tensor.to(self._device, non_blocking=True), sample
            )
            self.task.train_step(
                sample, self.model, self.criterion, self.optimizer, update_num=self.updates
            )
        self.task.optimizer_step(self.optimizer, self.model, update_num=self.updates)
        self.updates += 1
