"""A --user-dir for tests: the plugin, and beside its checkpoints what each process holds when.

After every update process N adds a digest of its theta and alpha to recorded-N.txt in the save
directory. --ddp-backend pytorch_ddp runs on the CPU: fairseq names a GPU to it, which is left out.
The loss is computed in chunks, as with the vocabularies and batches of real searches.
"""

import hashlib
import os

from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from torch.nn.parallel import DistributedDataParallel

from fairseq_revdarts.criterions import reversible_search
from fairseq_revdarts.tasks import bilevel_search


class OnTheCPU(DistributedDataParallel):
    def __init__(self, *arguments, device_ids, output_device, **more):
        super().__init__(*arguments, **more)


def record(task):
    digest = hashlib.sha256()
    for name, value in sorted(task._model.named_parameters()):
        digest.update(name.encode() + value.detach().numpy().tobytes())
    rank = distributed_utils.get_data_parallel_rank()
    with open(os.path.join(task.cfg.save_dir, f"recorded-{rank}.txt"), "a") as file:
        file.write(digest.hexdigest() + "\n")


def recording(optimizer_step):
    def step(task, *arguments, **more):
        optimizer_step(task, *arguments, **more)
        record(task)

    return step


reversible_search.LOGITS_AT_ONCE = 2000
distributed_fairseq_model.DistributedDataParallel = OnTheCPU
check_processes = bilevel_search.check_processes
bilevel_search.check_processes = lambda cfg: (
    str(cfg.ddp_backend) == "pytorch_ddp" or check_processes(cfg)
)
task = bilevel_search.BilevelSearchTask
task.optimizer_step = recording(task.optimizer_step)
