"""Print the flags of a network that has as many parameters as asked for.

NETWORK is "transformer" for that of fairseq, or what --genotype takes. The hidden size of the
network of a genotype comes as close as it can from below with embeddings as wide as --embed-dim;
wider embeddings make up for the rest.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator, Tuple

import torch
from fairseq.data import Dictionary
from parameters import parameters_in

from fairseq_revdarts.models.revdarts_transformer.config import RevDartsTransformerConfig
from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel
from fairseq_revdarts.profiling.transformer_size import HEADS, transformer_flags

#: Hidden size, width of the embeddings.
Widths = Tuple[int, int]


def count(genotype: str, dictionary: Dictionary, layers: int, heads: int, widths: Widths) -> int:
    """Parameters of a genotype's network with these flags."""
    hidden_size, width = widths
    config = RevDartsTransformerConfig(
        genotype=genotype,
        encoder_layers=layers,
        decoder_layers=layers,
        hidden_size=hidden_size,
        embed_dim=width,
        ffn_embed_dim=2 * hidden_size,
        attention_heads=heads,
        share_all_embeddings=True,
        max_source_positions=8,
        max_target_positions=8,
    )
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        model = RevDartsTransformerModel.build_model(config, task)
    return sum(weight.numel() for weight in model.parameters())


def genotype_flags(
    genotype: str, parameters: int, dictionary: Dictionary, args: argparse.Namespace
) -> Iterator[str]:
    """Flags of a genotype's network: splits of 2 and 3 and the heads divide its hidden size."""
    layers, heads, usual = args.layers, args.heads, args.embed_dim

    def left(*widths: int) -> int:
        return parameters - count(genotype, dictionary, layers, heads, widths)

    step = 6 * heads
    fitting = [size for size in range(step, 1025, step) if left(size, usual) >= 0]
    if not fitting:
        raise SystemExit(f"{parameters}: too few parameters for a network of this vocabulary")
    hidden_size = fitting[-1]
    each = left(hidden_size, usual) - left(hidden_size, usual + 1)
    width = usual + round(left(hidden_size, usual) / each)
    yield f"--arch revdarts_transformer_tiny --genotype {genotype} --embed-dim {width}"
    yield f"--hidden-size {hidden_size} --ffn-embed-dim {2 * hidden_size} --attention-heads {heads}"
    yield f"--encoder-layers {layers} --decoder-layers {layers}"


def number_of_parameters(text: str) -> int:
    """A number, or that of the model in a checkpoint."""
    return int(text) if text.isdigit() else parameters_in(text)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", metavar="NETWORK")
    parser.add_argument(
        "parameters", type=number_of_parameters, help="a number, or a checkpoint that has as many"
    )
    parser.add_argument("--data", type=Path, required=True, help="binarised, one dictionary")
    parser.add_argument("--layers", type=int, default=4, help="of encoder and of decoder")
    parser.add_argument("--heads", type=int, default=HEADS, help="of attention")
    parser.add_argument("--embed-dim", type=int, default=128, help="least width of embeddings")
    args = parser.parse_args()
    dictionary = Dictionary.load(str(min(args.data.glob("dict.*.txt"))))
    if args.network == "transformer":
        print("--arch transformer --encoder-normalize-before --decoder-normalize-before")
        print(transformer_flags(args.parameters, len(dictionary), args.layers, args.heads))
    else:
        print(*genotype_flags(args.network, args.parameters, dictionary, args))


if __name__ == "__main__":
    main()
