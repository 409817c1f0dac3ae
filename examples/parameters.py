"""Print how many parameters the model in a checkpoint has. Shared embeddings count once."""

import argparse
from typing import Any, Dict

import torch

import fairseq_revdarts  # noqa: F401  lets torch load what its checkpoints hold


def count_parameters(checkpoint: str) -> int:
    """Parameters of the model in a checkpoint."""
    weights: Dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    distinct = {
        tensor.data_ptr(): tensor
        for name, tensor in weights.items()
        if not name.endswith(("version", "_float_tensor"))  # markers, not parameters
    }
    return sum(tensor.numel() for tensor in distinct.values())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    args = parser.parse_args()
    print(f"parameters = {count_parameters(args.checkpoint):,}")


if __name__ == "__main__":
    main()
