"""The model `evolved_transformer`: a baseline that an evolutionary search found.

Embeddings, positions, the loop over the cells and the output are those of fairseq's transformer.
"""

import argparse
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Dict, List, Optional, Tuple

from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import (
    TransformerConfig,
    TransformerDecoderBase,
    TransformerEncoderBase,
    TransformerModelBase,
)
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor, nn

from ...modules.alignment import AligningDecoder, AligningModel
from ...modules.context import OperationSettings
from ...utils.flags import flag_name
from .cells import WIDE_ATTENTION_HEADS, EvolvedDecoderCell, EvolvedEncoderCell


@dataclass
class EvolvedTransformerConfig(FairseqDataclass):
    """Flags of `--arch evolved_transformer`; the defaults are the base of its authors."""

    encoder_layers: int = field(
        default=3, metadata={"help": "number of encoder cells, each about two transformer layers"}
    )
    decoder_layers: int = field(
        default=4,
        metadata={"help": "number of decoder cells, each about one and a half transformer layers"},
    )
    hidden_size: int = field(
        default=512, metadata={"help": "d: width of embeddings and cells; inner layers are 4 d"}
    )
    attention_heads: int = field(
        default=8,
        metadata={
            "help": "number of attention heads; the first attention of each decoder cell has at "
            "least 16"
        },
    )
    dropout: float = field(
        default=0.1, metadata={"help": "dropout probability, also within the branches of the cells"}
    )
    attention_dropout: float = field(
        default=0.1, metadata={"help": "dropout probability for attention weights"}
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
    max_source_positions: int = II("task.max_source_positions")
    max_target_positions: int = II("task.max_target_positions")


def check_flags(cfg: EvolvedTransformerConfig) -> None:
    """Raise a ValueError for a flag that does not fit: names it, its value, what would be right."""
    for flag in ("encoder_layers", "decoder_layers", "attention_heads"):
        if getattr(cfg, flag) < 1:
            raise ValueError(f"{flag_name(flag)} {getattr(cfg, flag)}: at least 1 is needed")
    for heads in (cfg.attention_heads, max(WIDE_ATTENTION_HEADS, cfg.attention_heads)):
        if cfg.hidden_size < 1 or cfg.hidden_size % heads:
            raise ValueError(
                f"--hidden-size {cfg.hidden_size}: not a positive multiple of {heads}, the heads "
                "of attention"
            )


def transformer_config(cfg: EvolvedTransformerConfig) -> TransformerConfig:
    """The configuration of fairseq's transformer, for everything around the cells."""
    flags = argparse.Namespace(
        encoder_layers=cfg.encoder_layers,
        decoder_layers=cfg.decoder_layers,
        # Without a prefix: of encoder and decoder.
        embed_dim=cfg.hidden_size,
        input_dim=cfg.hidden_size,
        output_dim=cfg.hidden_size,
        attention_heads=cfg.attention_heads,
        normalize_before=True,
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        share_decoder_input_output_embed=cfg.share_decoder_input_output_embed,
        share_all_embeddings=cfg.share_all_embeddings,
        max_source_positions=cfg.max_source_positions,
        max_target_positions=cfg.max_target_positions,
    )
    return TransformerConfig.from_namespace(flags)


def _settings(cfg: TransformerConfig, causal: bool) -> OperationSettings:
    channels = cfg.encoder.embed_dim
    return OperationSettings(
        channels=channels,
        encoder_channels=channels,
        heads=cfg.encoder.attention_heads,
        ffn_width=4 * channels,
        causal=causal,
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.dropout,
    )


class EvolvedTransformerEncoder(TransformerEncoderBase):
    """fairseq's encoder around the encoder cells."""

    def build_encoder_layer(self, cfg: TransformerConfig) -> nn.Module:
        """One cell."""
        return EvolvedEncoderCell(_settings(cfg, causal=False))


class EvolvedTransformerDecoder(AligningDecoder, TransformerDecoderBase):
    """fairseq's decoder around the decoder cells."""

    def build_decoder_layer(
        self, cfg: TransformerConfig, no_encoder_attn: bool = False
    ) -> nn.Module:
        """One cell."""
        return EvolvedDecoderCell(_settings(cfg, causal=True))

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Optional[Dict[str, Any]] = None,
        full_context_alignment: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
    ) -> Tuple[Tensor, Dict[str, Any]]:
        """As in fairseq; the attention (B, T, S) is that of a cell's last cross-attention.

        It is computed when it is read, and None in decoding without --print-alignment.
        """
        cell = self.layers[-1 if alignment_layer is None else alignment_layer]
        attention, inputs = cell.cross_attention.operations[0], []
        hook = attention.register_forward_pre_hook(lambda _, given: inputs.extend(given))
        with hook:
            x, extra = super().extract_features(
                prev_output_tokens, encoder_out, incremental_state, full_context_alignment
            )
        compute = partial(attention.alignment, *inputs, heads=alignment_heads)
        return x, {**extra, "attn": self.alignment_or_none(incremental_state, compute)}


@register_model("evolved_transformer", dataclass=EvolvedTransformerConfig)
class EvolvedTransformerModel(AligningModel, TransformerModelBase):
    """The Evolved Transformer.

    "The Evolved Transformer" (So, Liang and Le 2019), https://arxiv.org/abs/1901.11117
    """

    @classmethod
    def add_args(cls, parser: argparse.ArgumentParser) -> None:
        """Flags from the dataclass, not those of fairseq's transformer."""
        gen_parser_from_dataclass(parser, EvolvedTransformerConfig(), delete_default=True)

    @classmethod
    def build_model(
        cls, cfg: EvolvedTransformerConfig, task: FairseqTask
    ) -> "EvolvedTransformerModel":
        """Raises a ValueError for a flag that does not fit."""
        check_flags(cfg)
        return super().build_model(transformer_config(cfg), task)

    @classmethod
    def build_encoder(
        cls, cfg: TransformerConfig, src_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> EvolvedTransformerEncoder:
        """As in fairseq's transformer."""
        return EvolvedTransformerEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(
        cls, cfg: TransformerConfig, tgt_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> EvolvedTransformerDecoder:
        """As in fairseq's transformer."""
        return EvolvedTransformerDecoder(cfg, tgt_dict, embed_tokens)


@register_model_architecture("evolved_transformer", "evolved_transformer_big")
def evolved_transformer_big(args: Any) -> None:
    """The big model of its authors."""
    args.hidden_size = getattr(args, "hidden_size", 1024)
    args.attention_heads = getattr(args, "attention_heads", 16)
    args.dropout = getattr(args, "dropout", 0.3)
