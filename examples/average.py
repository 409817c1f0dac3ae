"""Average the weights of a training's last checkpoints into one, for fairseq-generate.

Takes the checkpoints that --save-interval-updates wrote, checkpoint_EPOCH_UPDATE.pt, and
checkpoint_last.pt if it is later than these. Everything else comes from the last of them; the state
of the optimizer is left out.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Dict, List

import torch

import fairseq_revdarts  # noqa: F401  lets torch load what its checkpoints hold


def load(path: Path) -> Dict[str, Any]:
    """A checkpoint, on the CPU; its tensors stay in the file until they are read."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def last_checkpoints(folder: Path, count: int) -> List[Path]:
    """The last `count` of a training, the earliest first; fewer if there are not as many."""
    updates = {
        int(match[1]): path
        for path in folder.glob("checkpoint_*.pt")
        for match in [re.match(r"checkpoint_\d+_(\d+)\.pt$", path.name)]
        if match
    }
    last = folder / "checkpoint_last.pt"
    if updates and last.exists():  # at the end of an epoch, fairseq writes no other
        updates.setdefault(load(last)["optimizer_history"][-1]["num_updates"], last)
    return [updates[update] for update in sorted(updates)][-count:]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--last", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()

    paths = last_checkpoints(args.folder, args.last)
    if not paths:
        sys.exit(
            f"{args.folder}: no checkpoint_EPOCH_UPDATE.pt there; --save-interval-updates writes"
        )
    if len(paths) < args.last:
        print(f"{args.folder}: {len(paths)} checkpoints there, not {args.last}", file=sys.stderr)
    average = {}
    for path in paths:
        checkpoint = load(path)
        for name, tensor in checkpoint["model"].items():
            if not tensor.is_floating_point():
                average[name] = tensor
                continue
            so_far = average.get(name, torch.zeros_like(tensor, dtype=torch.float64))
            average[name] = so_far + tensor.double() / len(paths)
    dtypes = {name: tensor.dtype for name, tensor in checkpoint["model"].items()}
    checkpoint["model"] = {name: tensor.to(dtypes[name]) for name, tensor in average.items()}
    checkpoint.pop("last_optimizer_state", None)
    torch.save(checkpoint, args.output)
    print(f"{args.output}: the average of {', '.join(path.name for path in paths)}")


if __name__ == "__main__":
    main()
