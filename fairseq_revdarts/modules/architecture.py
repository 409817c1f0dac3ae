"""The architecture parameters alpha, and the state that a resumed search needs with them.

alpha is fp32 whatever the model computes in, and requires no gradient except within its own step:
so fairseq's optimizer, clipping and distributed reducers see theta alone. The state of alpha's
Adam, the position in alpha's data, how long the genotype has been stable, the last drift and the
loss scaler's state are buffers of the same module, because fairseq restores the model's state from
a checkpoint, but not the task's.
"""

from contextlib import contextmanager
from statistics import mean
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..derivation import Table, derive_genotype, rows_by_node
from ..genotype import Genotype
from ..search_space import CANDIDATES, PARAMETER_FREE, searched_splits
from .mixture import Mixture, Node, Subsets, indices_of, softmax_over, without

#: Standard deviation of alpha's first values: all but uniform (as in DARTS).
INITIAL_STD = 1e-3
#: The beginning of alpha's data.
FIRST_POSITION = (1, 0, 0)
#: The state of a loss scaler that fairseq's checkpoints lack: they hold the scale alone.
SCALER_STATE = ("_iter", "_last_overflow_iter", "_last_rescale_iter", "_overflows_since_rescale")


class Architecture(nn.Module):
    """alpha of both stacks: (s, searched splits, candidates) each.

    Args:
        cell_layers: s, the number of layers in a cell
        encoder_splits, decoder_splits: parts of the reversible layers
        pooling: "max" or "avg", which the genotype states
        candidates: by side, the operations that are searched; None for all. The others have their
            places in alpha, and never live
    """

    def __init__(
        self,
        cell_layers: int,
        encoder_splits: int,
        decoder_splits: int,
        pooling: str,
        candidates: Optional[Mapping[str, Sequence[str]]] = None,
    ):
        super().__init__()
        self.pooling = pooling
        self.candidates = dict(candidates or CANDIDATES)
        splits = {"encoder": encoder_splits, "decoder": decoder_splits}
        for side, names in CANDIDATES.items():
            shape = (cell_layers, searched_splits(side, splits[side]), len(names))
            alpha = nn.Parameter(torch.randn(shape) * INITIAL_STD, requires_grad=False)
            self.register_parameter(side, alpha)
            self.register_buffer(f"{side}_exp_avg", torch.zeros(shape))
            self.register_buffer(f"{side}_exp_avg_sq", torch.zeros(shape))
            self.register_buffer(f"{side}_step", torch.zeros(()))
            #: True for the candidates that are searched and have not been eliminated.
            self.register_buffer(f"{side}_living", self._searched(side).repeat(*shape[:2], 1))
            #: How probable it was of a node's last two candidates that each is the better.
            self.register_buffer(f"{side}_last_choice", torch.zeros(shape))
        #: The candidates that the next calls evaluate, by side, if not all living ones.
        self.active: Dict[str, Subsets] = {}
        #: `living` by side, known on the CPU whatever the device; empty when it may have changed.
        self._living: Dict[str, Subsets] = {}
        #: Epoch of alpha's data, from 1, batches taken from it, and pairs in them.
        self.register_buffer("data_position", torch.tensor(FIRST_POSITION))
        #: alpha's updates since a node's most probable operation last changed.
        self.register_buffer("stable_updates", torch.tensor(0))
        #: Reconstruction drift when it was last measured; -1 before.
        self.register_buffer("drift", torch.tensor(-1.0))
        #: SCALER_STATE of fp16's loss scaler.
        self.register_buffer("loss_scaler", torch.tensor([0, -1, -1, 0]))

    def upgrade_state_dict_named(self, state_dict: Dict[str, Any], name: str) -> None:
        """fairseq's hook for older checkpoints, which lack some of the buffers."""
        position = state_dict.get(f"{name}.data_position", self.data_position)
        if len(position) == 2:  # the number of pairs is not known
            state_dict[f"{name}.data_position"] = F.pad(position, (0, 1), value=-1)
        state_dict.setdefault(f"{name}.stable_updates", torch.zeros_like(self.stable_updates))
        state_dict.setdefault(f"{name}.drift", torch.full_like(self.drift, -1.0))
        state_dict.setdefault(f"{name}.loss_scaler", torch.tensor([0, -1, -1, 0]))
        for side in CANDIDATES:
            everyone = self._searched(side).expand_as(getattr(self, f"{side}_living"))
            state_dict.setdefault(f"{name}.{side}_living", everyone)
            nothing = torch.zeros_like(getattr(self, f"{side}_last_choice"))
            state_dict.setdefault(f"{name}.{side}_last_choice", nothing)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._living.clear()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Architecture":
        """Follow the model to another device, never to another precision."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    def alphas(self) -> List[nn.Parameter]:
        """alpha of the encoder and of the decoder."""
        return [getattr(self, side) for side in CANDIDATES]

    def tables(self) -> Dict[str, Table]:
        """The numbers of alpha, by side; minus infinity for eliminated candidates."""
        return {side: self._masked(side).tolist() for side in CANDIDATES}

    def _masked(self, side: str) -> Tensor:
        """alpha of a side, minus infinity for eliminated candidates."""
        living = getattr(self, f"{side}_living")
        return getattr(self, side).detach().masked_fill(~living, -torch.inf)

    def adam_state(self, side: str) -> Dict[str, Tensor]:
        """The state of torch's Adam for alpha of "encoder" or "decoder"."""
        names = ("step", "exp_avg", "exp_avg_sq")
        return {name: getattr(self, f"{side}_{name}") for name in names}

    def keep_scaler(self, scaler: Any) -> None:
        """Note the state of fairseq's DynamicLossScaler."""
        self.loss_scaler.copy_(torch.tensor([getattr(scaler, name) for name in SCALER_STATE]))

    def restore_scaler(self, scaler: Any) -> None:
        """Give fairseq's DynamicLossScaler the state that was noted."""
        for name, value in zip(SCALER_STATE, self.loss_scaler.tolist()):
            setattr(scaler, name, value)

    @torch.no_grad()
    def reset_updates(self, keeps_alpha: bool = True) -> None:
        """Begin a new search: a new Adam, and all candidates live.

        Args:
            keeps_alpha: whether it begins from the present alpha; otherwise from a uniform one
        """
        self.stable_updates.zero_()
        self._living.clear()
        for side in CANDIDATES:
            if not keeps_alpha:
                getattr(self, side).zero_()
            getattr(self, f"{side}_living").copy_(self._searched(side))
            getattr(self, f"{side}_last_choice").zero_()
            for state in self.adam_state(side).values():
                state.zero_()

    def reset_data_position(self) -> None:
        """Begin again with the first epoch of alpha's data."""
        self.data_position.copy_(torch.tensor(FIRST_POSITION))

    def living(self, side: str) -> Subsets:
        """The candidates of "encoder" or "decoder" that have not been eliminated."""
        if side not in self._living:
            self._living[side] = indices_of(getattr(self, f"{side}_living"))
        return self._living[side]

    def searched(self) -> Dict[str, Subsets]:
        """The candidates with which a search begins, by side."""
        living = {}
        for side, names in self.candidates.items():
            layers, splits, _ = getattr(self, side).shape
            living[side] = ((tuple(map(CANDIDATES[side].index, names)),) * splits,) * layers
        return living

    def living_by_node(self) -> Dict[Node, Tuple[int, ...]]:
        """The candidates of each searched node that have not been eliminated."""
        return {
            (side, i, k): living
            for side in CANDIDATES
            for i, layer in enumerate(self.living(side))
            for k, living in enumerate(layer)
        }

    def mean_living(self) -> float:
        """Mean number of living candidates per node."""
        return mean(map(len, self.living_by_node().values()))

    def eliminate(self, side: str, layer: int, split: int, candidate: int) -> None:
        """Remove a candidate from a node for good; all numbers from 0.

        Its alpha stays what it is: without momentum, Adam does not move it any more.

        Raises:
            ValueError: it is the last one of its node
        """
        if self.living(side)[layer][split] == (candidate,):
            raise ValueError(f"{side}: the last candidate of a node cannot be eliminated")
        if self._masked(side)[layer, split].argmax() == candidate:
            self.stable_updates.zero_()
        getattr(self, f"{side}_living")[layer, split, candidate] = False
        getattr(self, f"{side}_exp_avg")[layer, split, candidate] = 0.0
        self._living[side] = without(self.living(side), layer, split, candidate)

    def keep_choice(
        self, side: str, layer: int, split: int, probabilities: Mapping[int, float]
    ) -> None:
        """Note of the last two candidates of a node how probable it is that each is the better."""
        row = getattr(self, f"{side}_last_choice")[layer, split]
        for candidate, probability in probabilities.items():
            row[candidate] = probability

    def eliminated(self) -> Dict[str, List[str]]:
        """By node, named like "encoder.1.2", the candidates that it has lost, if there are any."""
        return {
            node: lost
            for side, names in self.candidates.items()
            for node, living in rows_by_node(side, self.living(side)).items()
            if (lost := [name for name in names if CANDIDATES[side].index(name) not in living])
        }

    def last_choices(self) -> Dict[str, Table]:
        """By side, of each node's last two candidates the probability to be the better one.

        It is 0 for all others, and while more candidates live.
        """
        return {side: getattr(self, f"{side}_last_choice").tolist() for side in CANDIDATES}

    @contextmanager
    def restricted_to(self, active: Dict[str, Subsets]) -> Iterator[None]:
        """Within it, calls evaluate the candidates in `active` alone."""
        before, self.active = self.active, active
        try:
            yield
        finally:
            self.active = before

    def mixture(self, side: str) -> Mixture:
        """The candidates that a call on "encoder" or "decoder" evaluates, with a graph to alpha."""
        active = self.active.get(side) or self.living(side)
        return Mixture(softmax_over(getattr(self, side), active), active)

    def probabilities(self, side: str) -> Tensor:
        """softmax(alpha) over the living candidates: (s, searched splits, candidates)."""
        return softmax_over(getattr(self, side), self.living(side))

    @torch.no_grad()
    def mean_entropy(self) -> Tensor:
        """Mean over the nodes of the entropy of their probabilities, in nats; a scalar."""
        entropies = [
            torch.special.entr(self.probabilities(side)).sum(-1).flatten() for side in CANDIDATES
        ]
        return torch.cat(entropies).mean()

    def parameter_free_share(self) -> Tensor:
        """Share of the nodes whose most probable operation has no weights; a scalar."""
        free = [
            winners == CANDIDATES[side].index(name)
            for side, winners in self.winners().items()
            for name in PARAMETER_FREE
        ]
        return torch.cat(free).sum().double() * len(PARAMETER_FREE) / sum(map(len, free))

    def winners(self) -> Dict[str, Tensor]:
        """By side (searched nodes,), the index of each node's most probable operation."""
        return {side: self._masked(side).argmax(dim=-1).flatten() for side in CANDIDATES}

    def count_stable(self, before: Dict[str, Tensor]) -> None:
        """Count an update of alpha, before which `winners` was `before`."""
        same = [winners == before[side] for side, winners in self.winners().items()]
        self.stable_updates.add_(1).mul_(torch.cat(same).all())

    def count_step(self) -> None:
        """Count a step of alpha's Adam."""
        for side in CANDIDATES:
            getattr(self, f"{side}_step").add_(1)

    @torch.no_grad()
    def node_probabilities(self) -> Dict[str, Dict[str, float]]:
        """Each node's probabilities by operation; nodes are named like "encoder.1.2"."""
        return {
            node: {name: p for name, p in zip(CANDIDATES[side], row) if name in candidates}
            for side, candidates in self.candidates.items()
            for node, row in rows_by_node(side, self.probabilities(side).tolist()).items()
        }

    def _searched(self, side: str) -> Tensor:
        """True for the candidates of `side` that are searched: (candidates,)."""
        return torch.tensor([name in self.candidates[side] for name in CANDIDATES[side]])

    def last_drift(self) -> Optional[float]:
        """The drift that was last measured; None before."""
        drift = self.drift.item()
        return None if drift < 0 else drift

    def genotype(self) -> Genotype:
        """The argmax of each node's alpha."""
        return derive_genotype(self.tables(), self.pooling)
