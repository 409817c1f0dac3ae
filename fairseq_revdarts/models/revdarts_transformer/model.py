"""The model `revdarts_transformer`: the supernet, or the network that a genotype describes."""

import argparse
import logging
import math
import os
from dataclasses import fields
from functools import partial
from typing import Any, Dict, List, Optional, Tuple

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.hub_utils import GeneratorHubInterface
from fairseq.models import (
    FairseqEncoderDecoderModel,
    register_model,
    register_model_architecture,
)
from fairseq.models.transformer import Embedding
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf, open_dict
from torch import Tensor

from ...modules.alignment import AligningModel
from ...modules.architecture import Architecture
from ...modules.mixture import Mixture
from ...modules.operations import Normalized
from ...modules.reversible_stack import ReversibleStack
from ...search_space import CANDIDATES
from .config import (
    NAMED_ARCHITECTURES,
    NetworkShape,
    RevDartsTransformerConfig,
    candidates_of,
    chosen_genotype,
    genotype_argument,
    network_shape,
)
from .encoder_decoder import RevDartsDecoder, RevDartsEncoder
from .hub import check_hub_arguments

logger = logging.getLogger(__name__)


@register_model("revdarts_transformer", dataclass=RevDartsTransformerConfig)
class RevDartsTransformerModel(AligningModel, FairseqEncoderDecoderModel):
    """Transformer of multi-split reversible layers: supernet or derived network.

    "Memory-Efficient Differentiable Transformer Architecture Search" (Zhao et al. 2021),
    https://arxiv.org/abs/2105.14669

    Args:
        encoder, decoder: the two stacks with their embeddings
        architecture: alpha of a supernet; None for a derived network
    """

    def __init__(
        self,
        encoder: RevDartsEncoder,
        decoder: RevDartsDecoder,
        architecture: Optional[Architecture],
    ):
        super().__init__(encoder, decoder)
        # Last: distributed training takes its buffer's precision from the first parameter.
        self.architecture = architecture
        #: Whether training it warns that alpha rests. Whoever searches, or measures, turns it off.
        self.warns_of_no_search = architecture is not None

    @classmethod
    def add_args(cls, parser: argparse.ArgumentParser) -> None:
        """Flags from the dataclass; --genotype is read at once: its errors are argparse's."""
        gen_parser_from_dataclass(parser, RevDartsTransformerConfig(), delete_default=True)
        for action in parser._group_actions:
            if action.dest == "genotype":
                action.type = genotype_argument

    @classmethod
    def build_model(
        cls, cfg: RevDartsTransformerConfig, task: FairseqTask
    ) -> "RevDartsTransformerModel":
        """Build the supernet, or with cfg.genotype the derived network.

        Raises:
            ValueError: a flag that does not fit; names it, its value and what would be right
        """
        shape = network_shape(cfg)
        _warn_of_heads(cfg, shape)
        _keep_genotype(cfg)
        source, target = task.source_dictionary, task.target_dictionary
        embed_source = Embedding(len(source), cfg.embed_dim, source.pad())
        if cfg.share_all_embeddings:
            if source != target:
                raise ValueError(
                    "--share-all-embeddings: the dictionaries of source and target differ; "
                    "run fairseq-preprocess with --joined-dictionary"
                )
            embed_target = embed_source
        else:
            embed_target = Embedding(len(target), cfg.embed_dim, target.pad())
        architecture = None
        if shape.searched:
            _check_averaging(cfg)
            splits = map(shape.splits, CANDIDATES)
            architecture = Architecture(
                shape.cell_layers, *splits, shape.pooling, candidates_of(cfg)
            )
        encoder = RevDartsEncoder(
            cfg, source, embed_source, shape, partial(_mixture, architecture, "encoder")
        )
        decoder = RevDartsDecoder(
            cfg, target, embed_target, shape, partial(_mixture, architecture, "decoder")
        )
        return cls(encoder, decoder, architecture)

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str,
        checkpoint_file: str = "model.pt",
        data_name_or_path: str = ".",
        **flags: Any,
    ) -> GeneratorHubInterface:
        """A trained network, or a supernet, for use from Python: `.translate(["...", "..."])`.

        Args:
            model_name_or_path: the folder of the checkpoints (--save-dir)
            checkpoint_file: its checkpoint; several, separated by os.pathsep, are an ensemble
            data_name_or_path: the folder of the dictionaries, relative to the model's folder if it
                begins with a dot
            flags: fairseq's flags, among them `bpe="sentencepiece"` with `sentencepiece_model`, and
                `source_lang` and `target_lang` for a folder that holds dictionaries only

        Raises:
            ValueError: names an argument that does not fit, its value and what would be right
        """
        folder, data = os.fspath(model_name_or_path), os.fspath(data_name_or_path)
        check_hub_arguments(folder, data, **flags)
        return super().from_pretrained(folder, checkpoint_file, data, **flags)

    def forward(self, *args: Any, **kwargs: Any) -> Tuple[Tensor, Dict[str, Any]]:
        """As FairseqEncoderDecoderModel: logits (B, T, |V|) under teacher forcing."""
        if self.training and self.warns_of_no_search:
            self.warns_of_no_search = False  # once
            logger.warning(
                "training a supernet outside a search: alpha will not move. Pass --genotype to "
                "train the network that was found, or --task bilevel_search to search for one"
            )
        return super().forward(*args, **kwargs)

    def stacks(self) -> List[ReversibleStack]:
        """The encoder's and the decoder's reversible stack."""
        return [self.encoder.stack, self.decoder.stack]

    def load_state_dict(self, state_dict: Dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in fairseq. Where the nodes normalise, the weights decide (`Normalized`).

        Raises:
            ValueError: the weights are of another vocabulary
        """
        for side, name in (("source", "encoder"), ("target", "decoder")):
            saved = state_dict.get(f"{name}.input.embed_tokens.weight")
            types = len(getattr(self, name).dictionary)
            if saved is not None and len(saved) != types:
                raise ValueError(
                    f"the checkpoint's {side} vocabulary has {len(saved)} types, but the "
                    f"dictionary of the data has {types}: use the data (or the "
                    "dictionaries, with fairseq-preprocess --srcdict and --tgtdict) of its training"
                )
        built = self._operation_norm()
        result = super().load_state_dict(state_dict, *args, **kwargs)
        loaded = self._operation_norm()
        if loaded != built:
            logger.warning(
                f"--operation-norm {built}: the weights in the checkpoint were trained with "
                f"{loaded}, so the network computes {loaded}"
            )
        return result

    def _operation_norm(self) -> Optional[str]:
        norms = (module.norm for module in self.modules() if isinstance(module, Normalized))
        return next(norms, None)


def _keep_genotype(cfg: RevDartsTransformerConfig) -> None:
    """Let checkpoints hold the genotype itself, when it is random or fairseq-hydra-train's path.

    fairseq saves the configuration whose copy, with the same parent, the model is built from.
    """
    parent = _all_flags(cfg)
    if cfg.genotype is not None and "model" in parent:
        with open_dict(parent):
            parent.model.genotype = chosen_genotype(cfg).to_json()


def _check_averaging(cfg: RevDartsTransformerConfig) -> None:
    """fairseq averages whatever a checkpoint of the model holds, and cannot average integers."""
    ema = _all_flags(cfg).get("ema")
    if ema is not None and ema.store_ema:
        raise ValueError(
            "--store-ema: not for a supernet, whose alpha and state of the search would be "
            "averaged with its weights; train the network that was found with it, with --genotype"
        )


def _warn_of_heads(cfg: RevDartsTransformerConfig, shape: NetworkShape) -> None:
    """In half precision, a GPU's fused kernels of attention want heads of a multiple of 8."""
    common, heads = _all_flags(cfg).get("common"), cfg.attention_heads
    if common is None or not (common.fp16 or common.bf16):
        return
    encoder, decoder = shape.splits("encoder"), shape.splits("decoder")
    widths = [cfg.hidden_size // splits // heads for splits in (encoder, decoder)]
    if any(width % 8 for width in widths):
        step = encoder * decoder // math.gcd(encoder, decoder) * heads * 8
        below = cfg.hidden_size // step * step
        better = " or ".join(str(size) for size in (below, below + step) if size)
        logger.warning(
            f"--hidden-size {cfg.hidden_size}: heads of {widths[0]} channels in the encoder, "
            f"{widths[1]} in the decoder; in half precision, attention on a GPU is "
            f"faster with multiples of 8, as with --hidden-size {better}"
        )


def _all_flags(cfg: RevDartsTransformerConfig) -> Any:
    """fairseq's whole configuration, of which `cfg` is a part; empty if it stands alone."""
    parent = cfg._get_parent() if OmegaConf.is_config(cfg) else None
    return {} if parent is None else parent


def _mixture(architecture: Optional[Architecture], side: str) -> Optional[Mixture]:
    return None if architecture is None else architecture.mixture(side)


def _set_defaults(defaults: Dict[str, Any], args: Any) -> None:
    if OmegaConf.is_config(args):  # that of a checkpoint, perhaps older than some flags
        flags = fields(RevDartsTransformerConfig)
        defaults = {**{flag.name: flag.default for flag in flags}, **defaults}
    for name, value in defaults.items():
        if name not in args:
            setattr(args, name, value)


for _name, _defaults in NAMED_ARCHITECTURES.items():
    register_model_architecture("revdarts_transformer", _name)(partial(_set_defaults, _defaults))
