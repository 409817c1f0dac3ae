"""The alignment of source and target: cross-attention weights, which are computed when asked for.

fairseq reads them as `extra["attn"][0]` of a decoder's output. Its criterions do so if they need
them. Its beam search does so in every step, but says before the first whether anybody asks.
"""

from typing import Any, Callable, Dict, Optional, Sequence

from torch import Tensor


class Alignment(Sequence[Tensor]):
    """fairseq's list of one tensor (B, T, S), computed anew each time that it is read.

    In incremental decoding it is read before the next step: it is that of the state as it stands.

    Args:
        compute: gives the weights, with a graph to theta in training
    """

    def __init__(self, compute: Callable[[], Tensor]):
        self._compute = compute

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        if index not in (0, -1):
            raise IndexError(index)
        return self._compute()


class AligningDecoder:
    """For decoders: whether the steps of decoding give an alignment."""

    #: False when fairseq generates without --print-alignment.
    need_attn = True

    def make_generation_fast_(self, need_attn: Any = False, **unused: Any) -> None:
        """fairseq's hook before generation; `need_attn` is --print-alignment."""
        self.need_attn = bool(need_attn)

    def alignment_or_none(
        self, incremental_state: Optional[Dict[str, Any]], compute: Callable[[], Tensor]
    ) -> Sequence[Optional[Tensor]]:
        """fairseq's list of one tensor, as `Alignment`, or in steps that need none, of None."""
        if incremental_state is not None and not self.need_attn:
            return [None]
        return Alignment(compute)


class AligningModel:
    """For encoder-decoder models whose decoder is an AligningDecoder."""

    @property
    def full_context_alignment(self) -> bool:
        """fairseq asks it when it prints alignments: whether they come from a full forward.

        They have to if the steps of decoding gave none, because the network was loaded without
        --print-alignment and a call from Python asks for it.
        """
        return not self.decoder.need_attn
