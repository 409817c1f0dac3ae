"""Print the flags of a network that has as many parameters as asked for.

NETWORK is "transformer" for that of fairseq, "evolved_transformer", or what --genotype takes. The
hidden size of the network of a genotype is the largest one that fits with embeddings as wide as
--embed-dim; wider embeddings make up for the rest. The Evolved Transformer has one width, a
multiple of 16: the nearest is taken. The flags that share embeddings are those of fairseq-train.
"""

import argparse
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, Tuple, Type, Union

import torch
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.models import ARCH_MODEL_REGISTRY, FairseqEncoderDecoderModel
from parameters import parameters_in

from fairseq_revdarts.genotype import RANDOM
from fairseq_revdarts.models.evolved_transformer.cells import WIDE_ATTENTION_HEADS
from fairseq_revdarts.models.evolved_transformer.model import (
    EvolvedTransformerConfig,
    EvolvedTransformerModel,
)
from fairseq_revdarts.models.revdarts_transformer.config import (
    NetworkShape,
    RevDartsTransformerConfig,
    chosen_genotype,
)
from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel
from fairseq_revdarts.profiling.training import read_training
from fairseq_revdarts.profiling.transformer_size import HEADS, transformer_flags
from fairseq_revdarts.search_space import POOLINGS
from fairseq_revdarts.utils.parameters import is_copy

#: As --embed-dim: embeddings at least as wide as the network itself, like the other networks'.
HIDDEN_SIZE = "hidden-size"
#: Hidden size, width of the embeddings.
Widths = Tuple[int, int]


def count(genotype: str, dictionary: Dictionary, args: argparse.Namespace, widths: Widths) -> int:
    """Parameters of a genotype's network with these flags."""
    hidden_size, width = widths
    config = RevDartsTransformerConfig(
        genotype=genotype,
        pooling=args.pooling,
        encoder_layers=args.layers,
        decoder_layers=args.layers,
        hidden_size=hidden_size,
        embed_dim=width,
        ffn_embed_dim=2 * hidden_size,
        **shared_settings(args),
    )
    return count_in(RevDartsTransformerModel, config, dictionary)


def shared_settings(args: argparse.Namespace) -> Dict[str, Any]:
    """Settings of any network that is counted; positions have no parameters."""
    return {
        "attention_heads": args.heads,
        "share_all_embeddings": args.share_all_embeddings,
        "share_decoder_input_output_embed": True,
        "max_source_positions": 8,
        "max_target_positions": 8,
    }


def count_in(
    model: Type[FairseqEncoderDecoderModel], config: FairseqDataclass, dictionary: Dictionary
) -> int:
    """Parameters of a model, without its weights in memory."""
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        built = model.build_model(config, task)
    return sum(weight.numel() for weight in built.parameters())


def genotype_flags(
    genotype: str, parameters: int, dictionary: Dictionary, args: argparse.Namespace
) -> Iterator[str]:
    """Flags of a genotype's network: its splits and the heads divide its hidden size."""
    layers, heads = args.layers, args.heads

    def least_width(hidden_size: int) -> int:
        return hidden_size if args.embed_dim == HIDDEN_SIZE else args.embed_dim

    def left(*widths: int) -> int:
        return parameters - count(genotype, dictionary, args, widths)

    shape = NetworkShape.of_genotype(chosen_genotype(RevDartsTransformerConfig(genotype=genotype)))
    splits = least_common_multiple(*map(shape.splits, ("encoder", "decoder")))
    step = splits * heads
    fitting = [size for size in range(step, 1025, step) if left(size, least_width(size)) >= 0]
    if not fitting:
        raise SystemExit(f"{parameters}: too few parameters for a network of this vocabulary")
    hidden_size = fitting[-1]
    least = least_width(hidden_size)
    each = left(hidden_size, least) - left(hidden_size, least + 1)
    width = least + round(left(hidden_size, least) / each)
    yield f"--arch revdarts_transformer_tiny --genotype {genotype} --embed-dim {width}"
    if genotype.startswith(RANDOM):
        yield f"--pooling {args.pooling}"
    yield f"--hidden-size {hidden_size} --ffn-embed-dim {2 * hidden_size} --attention-heads {heads}"
    yield f"--encoder-layers {layers} --decoder-layers {layers}"


def least_common_multiple(one: int, other: int) -> int:
    """Python 3.8 has no math.lcm."""
    return one * other // math.gcd(one, other)


def evolved_flags(parameters: int, dictionary: Dictionary, args: argparse.Namespace) -> str:
    """Flags of the Evolved Transformer: its authors' 3 and 4 cells stand for six layers."""
    encoder_cells, decoder_cells = (max(1, round(args.layers * cells / 6)) for cells in (3, 4))

    def distance(width: int) -> int:
        config = EvolvedTransformerConfig(
            encoder_layers=encoder_cells,
            decoder_layers=decoder_cells,
            hidden_size=width,
            **shared_settings(args),
        )
        return abs(parameters - count_in(EvolvedTransformerModel, config, dictionary))

    step = least_common_multiple(args.heads, WIDE_ATTENTION_HEADS)
    return (
        f"--arch evolved_transformer --hidden-size {min(range(step, 1025, step), key=distance)} "
        f"--attention-heads {args.heads} "
        f"--encoder-layers {encoder_cells} --decoder-layers {decoder_cells}"
    )


def number_of_parameters(text: str, args: argparse.Namespace) -> int:
    """A number, or that of the model in a checkpoint, or of an architecture of fairseq."""
    if text.isdigit():
        return int(text)
    if text not in ARCH_MODEL_REGISTRY:
        return parameters_in(text)
    shared = "--share-all-embeddings"
    if not args.share_all_embeddings:
        shared = "--share-decoder-input-output-embed"
    flags = [str(args.data), f"--arch={text}", shared, "--max-tokens=1", "--max-update=1"]
    model = read_training(flags, length=1, vocabulary=None).model()
    return sum(weight.numel() for name, weight in model.named_parameters() if not is_copy(name))


def embedding_width(text: str) -> Union[int, str]:
    """The argparse type of --embed-dim."""
    if text == HIDDEN_SIZE:
        return text
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: a positive number or {HIDDEN_SIZE} is needed")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", metavar="NETWORK")
    parser.add_argument(
        "parameters", help="a number, or what has as many: a checkpoint, an --arch of fairseq-train"
    )
    parser.add_argument("--data", type=Path, required=True, help="binarised, one dictionary")
    parser.add_argument("--layers", type=int, default=4, help="of encoder and of decoder")
    parser.add_argument("--heads", type=int, default=HEADS, help="of attention")
    parser.add_argument(
        "--embed-dim",
        type=embedding_width,
        default=128,
        help=f"least width of embeddings: a number, or {HIDDEN_SIZE}: as wide as the network",
    )
    parser.add_argument("--pooling", choices=POOLINGS, default="max", help="of random:SEED")
    shared = parser.add_mutually_exclusive_group()
    shared.add_argument("--share-all-embeddings", action="store_true", default=True)
    shared.add_argument(
        "--share-decoder-input-output-embed", action="store_false", dest="share_all_embeddings"
    )
    args = parser.parse_args()
    dictionary = Dictionary.load(str(min(args.data.glob("dict.*.txt"))))
    parameters = number_of_parameters(args.parameters, args)
    if args.network == "transformer":
        embedded = len(dictionary) * (1 if args.share_all_embeddings else 2)
        print("--arch transformer --encoder-normalize-before --decoder-normalize-before")
        print(transformer_flags(parameters, embedded, args.layers, args.heads))
    elif args.network == "evolved_transformer":
        print(evolved_flags(parameters, dictionary, args))
    else:
        print(*genotype_flags(args.network, parameters, dictionary, args))


if __name__ == "__main__":
    main()
