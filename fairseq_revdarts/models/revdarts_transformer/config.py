"""Configuration of the model `revdarts_transformer`: flags, named architectures, validation."""

import argparse
import logging
import random
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from ...genotype import (
    RANDOM,
    Genotype,
    GenotypeError,
    load_genotype,
    random_genotype,
    random_seed,
)
from ...search_space import CANDIDATES, FIXED_LAST_OPERATION, POOLINGS, chosen_candidates
from ...utils.flags import flag_name

logger = logging.getLogger(__name__)

NODE_INPUTS = ("normalized", "pooled")
OPERATION_NORMS = ("pre", "post")
BACKPROP_MODES = ("reconstruct", "checkpoint", "store")
#: The candidates of a node.
Candidates = Tuple[Optional[str], ...]


@dataclass
class RevDartsTransformerConfig(FairseqDataclass):
    """Flags of `--arch revdarts_transformer`; the defaults are those of the base in the paper."""

    genotype: Optional[str] = field(
        default=None,
        metadata={
            "help": "architecture to build: a genotype file, the name of one that ships with the "
            "package, or random:SEED for a random one with the splits, cell layers and pooling "
            "that the other flags say (default: none, the model is the supernet of a search)"
        },
    )
    encoder_layers: int = field(
        default=12, metadata={"help": "number of encoder layers, a multiple of --cell-layers"}
    )
    decoder_layers: int = field(
        default=12, metadata={"help": "number of decoder layers, a multiple of --cell-layers"}
    )
    cell_layers: int = field(
        default=2,
        metadata={
            "help": "s: number of layers in a cell; each of them has its own operations, and the "
            "cell is repeated until the stack is full"
        },
    )
    encoder_splits: int = field(
        default=2, metadata={"help": "number of parts of an encoder layer, all searched"}
    )
    decoder_splits: int = field(
        default=3,
        metadata={"help": "number of parts of a decoder layer; the last is always cross-attention"},
    )
    pooling: ChoiceEnum(POOLINGS) = field(
        default="max", metadata={"help": "how the inputs of a node are pooled into one"}
    )
    encoder_candidates: Optional[str] = field(
        default=None,
        metadata={
            "help": "the operations that a search chooses from in the encoder, with commas between "
            "them, e.g. ffn,self_attention (default: all operations)"
        },
    )
    decoder_candidates: Optional[str] = field(
        default=None, metadata={"help": "the same in the decoder (default: all operations)"}
    )
    node_input: ChoiceEnum(NODE_INPUTS) = field(
        default="normalized",
        metadata={
            "help": "how candidate operations read the pooled inputs of their node: all through a "
            "LayerNorm, their own or one without weights (normalized), or those without their own "
            "before them as they are (pooled)"
        },
    )
    operation_norm: ChoiceEnum(OPERATION_NORMS) = field(
        default="pre",
        metadata={
            "help": "what a candidate operation o computes from the input H of its node: "
            "o(LayerNorm(H)) (pre), or LayerNorm(H + o(H)), as in the paper (post)"
        },
    )
    embed_dim: int = field(default=256, metadata={"help": "e: width of the factorised embeddings"})
    hidden_size: int = field(
        default=960,
        metadata={"help": "d: width of a layer, a multiple of its splits times --attention-heads"},
    )
    ffn_embed_dim: int = field(default=1440, metadata={"help": "inner width of the operation ffn"})
    attention_heads: int = field(
        default=8, metadata={"help": "number of heads of attention and of dynamic convolutions"}
    )
    dropout: float = field(default=0.1, metadata={"help": "dropout probability"})
    attention_dropout: float = field(
        default=0.0, metadata={"help": "dropout probability for attention weights"}
    )
    activation_dropout: float = field(
        default=0.0, metadata={"help": "dropout probability after the activation in the ffn"}
    )
    share_decoder_input_output_embed: bool = field(
        default=False, metadata={"help": "share decoder input and output embeddings"}
    )
    share_all_embeddings: bool = field(
        default=False,
        metadata={
            "help": "share encoder, decoder and output embeddings (requires a shared dictionary)"
        },
    )
    backprop: Optional[ChoiceEnum(BACKPROP_MODES)] = field(
        default=None,
        metadata={
            "help": "where the backward pass gets activations from: reconstruct computes them "
            "from the outputs of the last layer (least memory), checkpoint keeps the inputs of "
            "each layer, store keeps all (fastest); the gradients are the same "
            "(default: reconstruct for a supernet, store for a genotype)"
        },
    )
    max_source_positions: int = II("task.max_source_positions")
    max_target_positions: int = II("task.max_target_positions")


#: Values of the named architectures that differ from the base.
NAMED_ARCHITECTURES: Dict[str, Dict[str, Any]] = {
    "revdarts_transformer_big": {
        "embed_dim": 512,
        "hidden_size": 1824,
        "ffn_embed_dim": 2736,
        "dropout": 0.3,
    },
    "revdarts_transformer_tiny": {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "embed_dim": 64,
        "hidden_size": 96,
        "ffn_embed_dim": 144,
        "attention_heads": 4,
    },
}


def genotype_argument(name: str) -> str:
    """The argparse type of --genotype: turns a file or a name into the JSON of the genotype.

    So the configuration, and with it the checkpoint, holds the architecture and not a path. A
    random one waits for the other flags.

    Raises:
        ArgumentTypeError: there is no such genotype, or it is damaged
    """
    try:
        if name.startswith(RANDOM):
            random_seed(name)
            return name
        return load_genotype(name).to_json()
    except GenotypeError as error:
        # argparse puts the flag's name before the message
        message = str(error).replace("--genotype ", "", 1)
        raise argparse.ArgumentTypeError(message) from error


def chosen_genotype(cfg: RevDartsTransformerConfig) -> Optional[Genotype]:
    """The genotype that `cfg` names, or None for a supernet. Raises a ValueError."""
    if cfg.genotype is None or not cfg.genotype.startswith(RANDOM):
        return None if cfg.genotype is None else load_genotype(cfg.genotype)
    _check_flags(cfg)
    splits = {"encoder": cfg.encoder_splits, "decoder": cfg.decoder_splits}
    generator = random.Random(random_seed(cfg.genotype))
    pooling, candidates = str(cfg.pooling), candidates_of(cfg)
    return random_genotype(generator, pooling, cfg.cell_layers, splits, candidates)


def candidates_of(cfg: RevDartsTransformerConfig) -> Dict[str, Tuple[str, ...]]:
    """By side, the operations that a search chooses from. Raises a ValueError."""
    return {
        side: chosen_candidates(side, getattr(cfg, f"{side}_candidates")) for side in CANDIDATES
    }


@dataclass(frozen=True)
class NetworkShape:
    """The operations in encoder and decoder, from the flags or from the genotype.

    Args:
        operations: for each side and each layer of the cell, the candidates in the node of a split;
            None stands for one that the search does not choose from
        pooling: "max" or "avg"
        searched: True for a supernet
    """

    operations: Dict[str, List[List[Candidates]]]
    pooling: str
    searched: bool

    @classmethod
    def of_supernet(cls, cfg: RevDartsTransformerConfig) -> "NetworkShape":
        """Every candidate that `cfg` names in every searched node."""
        splits = {"encoder": cfg.encoder_splits, "decoder": cfg.decoder_splits}
        operations = {
            side: [_supernet_layer(side, splits[side], names)] * cfg.cell_layers
            for side, names in candidates_of(cfg).items()
        }
        return cls(operations, str(cfg.pooling), searched=True)

    @classmethod
    def of_genotype(cls, genotype: Genotype) -> "NetworkShape":
        """In every node the operation that the genotype chose."""
        operations = {
            side: [[(name,) for name in layer] for layer in getattr(genotype, side)]
            for side in CANDIDATES
        }
        return cls(operations, genotype.pooling, searched=False)

    def splits(self, side: str) -> int:
        """Parts of a layer of `side`."""
        return len(self.operations[side][0])

    @property
    def cell_layers(self) -> int:
        """s: the number of layers in a cell."""
        return len(self.operations["encoder"])


def _supernet_layer(side: str, splits: int, chosen: Sequence[str]) -> List[Candidates]:
    searched = tuple(name if name in chosen else None for name in CANDIDATES[side])
    fixed = [(name,) for name in FIXED_LAST_OPERATION[side]]
    return [searched] * (splits - len(fixed)) + fixed


def network_shape(cfg: RevDartsTransformerConfig) -> NetworkShape:
    """The shape that `cfg` asks for, validated.

    Raises:
        ValueError: a flag that does not fit; names the flag, its value and what would be right
    """
    genotype = chosen_genotype(cfg)
    if genotype is None:
        _check_flags(cfg)
        shape = NetworkShape.of_supernet(cfg)
    else:
        shape = NetworkShape.of_genotype(genotype)
        _log_differences(cfg, shape)
    _check_sizes(cfg, shape)
    return shape


def _check_flags(cfg: RevDartsTransformerConfig) -> None:
    for flag, least in (("cell_layers", 1), ("encoder_splits", 2), ("decoder_splits", 2)):
        value = getattr(cfg, flag)
        if value < least:
            raise ValueError(f"{flag_name(flag)} {value}: at least {least} is needed")
    candidates_of(cfg)


def _check_sizes(cfg: RevDartsTransformerConfig, shape: NetworkShape) -> None:
    source = "the genotype's cell layers" if cfg.genotype else "--cell-layers"
    for side in CANDIDATES:
        flag = f"{side}_layers"
        layers, splits = getattr(cfg, flag), shape.splits(side)
        if layers < 1 or layers % shape.cell_layers:
            raise ValueError(
                f"{flag_name(flag)} {layers}: not a positive multiple of {shape.cell_layers} "
                f"({source})"
            )
        if cfg.hidden_size < 1 or cfg.hidden_size % splits:
            raise ValueError(
                f"--hidden-size {cfg.hidden_size}: not a positive multiple of the {splits} {side} "
                "splits"
            )
        width = cfg.hidden_size // splits
        if cfg.attention_heads < 1 or width % cfg.attention_heads:
            raise ValueError(
                f"--hidden-size {cfg.hidden_size}: its {splits} {side} splits of {width} are not "
                f"a positive multiple of --attention-heads {cfg.attention_heads}"
            )
    others = ("embed_dim", "ffn_embed_dim", "max_source_positions", "max_target_positions")
    # For sinusoidal positions fairseq divides by hidden_size // 2 - 1.
    for flag, number in {"hidden_size": 4, **dict.fromkeys(others, 1)}.items():
        if getattr(cfg, flag) < number:
            raise ValueError(f"{flag_name(flag)} {getattr(cfg, flag)}: at least {number} is needed")
    for flag in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0 <= getattr(cfg, flag) < 1:
            raise ValueError(f"{flag_name(flag)} {getattr(cfg, flag)}: from 0 to below 1 is needed")


def _log_differences(cfg: RevDartsTransformerConfig, shape: NetworkShape) -> None:
    of_genotype = {
        "encoder_splits": shape.splits("encoder"),
        "decoder_splits": shape.splits("decoder"),
        "cell_layers": shape.cell_layers,
        "pooling": shape.pooling,
    }
    for flag, value in of_genotype.items():
        given = getattr(cfg, flag)
        if str(given) != str(value):
            logger.info(f"{flag_name(flag)} is {value}, as the genotype says, not {given}")
