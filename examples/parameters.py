"""Print how many parameters a checkpoint's model has, or with --transformer-layers the flags of a
fairseq transformer that has as many.

Shared embeddings count once.
"""

import argparse

import torch

from fairseq_revdarts.profiling.transformer_size import HEADS, transformer_flags


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--transformer-layers", type=int, metavar="LAYERS")
    parser.add_argument("--heads", type=int, default=HEADS, help="of that transformer")
    args = parser.parse_args()

    weights = torch.load(args.checkpoint, map_location="cpu", weights_only=True)["model"]
    distinct = {
        tensor.data_ptr(): tensor
        for name, tensor in weights.items()
        if not name.endswith(("version", "_float_tensor"))  # markers, not parameters
    }
    parameters = sum(tensor.numel() for tensor in distinct.values())
    if args.transformer_layers is None:
        print(f"parameters = {parameters:,}")
        return
    vocabulary = len(weights["encoder.input.embed_tokens.weight"])
    print(transformer_flags(parameters, vocabulary, args.transformer_layers, args.heads))


if __name__ == "__main__":
    main()
