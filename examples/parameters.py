"""Print how many parameters the model in a checkpoint has. Shared embeddings count once."""

import argparse

import torch

import fairseq_revdarts  # noqa: F401  lets torch load what its checkpoints hold
from fairseq_revdarts.utils.parameters import count_parameters


def parameters_in(checkpoint: str) -> int:
    """Parameters of the model in a checkpoint."""
    return count_parameters(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    args = parser.parse_args()
    print(f"parameters = {parameters_in(args.checkpoint):,}")


if __name__ == "__main__":
    main()
