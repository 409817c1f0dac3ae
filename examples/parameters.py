"""Print how many parameters a checkpoint's model has, or with --transformer-layers the flags of a
fairseq transformer that has as many.

Its width is the one whose feed-forward layers come closest to four times as wide; the feed-forward
width then fits the parameters. Embeddings are shared, as in the checkpoint; they count once.
"""

import argparse
from typing import Tuple

import torch

import fairseq_revdarts  # noqa: F401  (so that fairseq's own checkpoints can be loaded)

HEADS = 4


def transformer_widths(parameters: int, vocabulary: int, layers: int) -> Tuple[int, int]:
    """Width and feed-forward width of `layers`+`layers` layers with about that many parameters."""

    def ffn_width(width: int) -> float:
        attention = 4 * width * (width + 1)
        norms_and_biases = layers * (13 * width) + 4 * width
        fixed = vocabulary * width + 3 * layers * attention + norms_and_biases
        return (parameters - fixed) / (2 * layers * (2 * width + 1))

    widths = range(2 * HEADS, 4096, 2 * HEADS)
    width = min(widths, key=lambda width: abs(ffn_width(width) / width - 4))
    return width, max(1, round(ffn_width(width)))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--transformer-layers", type=int, metavar="LAYERS")
    args = parser.parse_args()

    weights = torch.load(args.checkpoint, map_location="cpu", weights_only=True)["model"]
    distinct = {tensor.data_ptr(): tensor for tensor in weights.values()}
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
