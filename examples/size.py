"""Print the flags of a network that has as many parameters as asked for.

NETWORK is "transformer", fairseq's, or what --genotype takes. The hidden size of a genotype's
network comes as close as it can from below; the width of its embeddings makes up for the rest.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator

import torch
from fairseq.data import Dictionary

from fairseq_revdarts.models.revdarts_transformer.config import RevDartsTransformerConfig
from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel
from fairseq_revdarts.profiling.transformer_size import HEADS, transformer_flags


def count(genotype: str, dictionary: Dictionary, layers: int, hidden_size: int, width: int) -> int:
    """Parameters of a genotype's network; feed-forward layers are twice as wide as the stream."""
    config = RevDartsTransformerConfig(
        genotype=genotype,
        encoder_layers=layers,
        decoder_layers=layers,
        hidden_size=hidden_size,
        embed_dim=width,
        ffn_embed_dim=2 * hidden_size,
        attention_heads=HEADS,
        share_all_embeddings=True,
        max_source_positions=8,
        max_target_positions=8,
    )
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        model = RevDartsTransformerModel.build_model(config, task)
    return sum(weight.numel() for weight in model.parameters())


def genotype_flags(
    genotype: str, parameters: int, dictionary: Dictionary, layers: int
) -> Iterator[str]:
    """Flags of a genotype's network: splits of 2 and 3 and HEADS divide its hidden size."""

    def error(hidden_size: int, width: int) -> int:
        return parameters - count(genotype, dictionary, layers, hidden_size, width)

    step, usual = 6 * HEADS, 128
    fitting = [size for size in range(step, 1025, step) if error(size, usual) >= 0]
    if not fitting:
        raise SystemExit(f"{parameters}: too few parameters for a network of this vocabulary")
    hidden_size = fitting[-1]
    each = error(hidden_size, usual) - error(hidden_size, usual + 1)
    width = usual + round(error(hidden_size, usual) / each)
    yield f"--arch revdarts_transformer_tiny --genotype {genotype} --embed-dim {width}"
    yield f"--hidden-size {hidden_size} --ffn-embed-dim {2 * hidden_size} --attention-heads {HEADS}"
    yield f"--encoder-layers {layers} --decoder-layers {layers}"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", metavar="NETWORK")
    parser.add_argument("parameters", type=int)
    parser.add_argument("--data", type=Path, required=True, help="binarised, one dictionary")
    parser.add_argument("--layers", type=int, default=4, help="of encoder and of decoder")
    args = parser.parse_args()
    dictionary = Dictionary.load(str(min(args.data.glob("dict.*.txt"))))
    if args.network == "transformer":
        print("--arch transformer --encoder-normalize-before --decoder-normalize-before")
        print(transformer_flags(args.parameters, len(dictionary), args.layers))
    else:
        print(*genotype_flags(args.network, args.parameters, dictionary, args.layers))


if __name__ == "__main__":
    main()
