"""Print how many parameters a checkpoint's model has, or with --transformer-layers the flags of a
fairseq transformer that has as many.

Shared embeddings count once.
"""

import argparse

import torch

from fairseq_revdarts.transformer_size import HEADS, transformer_widths


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--transformer-layers", type=int, metavar="LAYERS")
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
    width, ffn_width = transformer_widths(parameters, vocabulary, args.transformer_layers)
    for side in ("encoder", "decoder"):
        print(
            f"--{side}-layers {args.transformer_layers} --{side}-embed-dim {width} "
            f"--{side}-ffn-embed-dim {ffn_width} --{side}-attention-heads {HEADS}"
        )


if __name__ == "__main__":
    main()
