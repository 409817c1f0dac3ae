"""A budget for the network that a search finds: what networks cost, and what the limit does.

The cost of a network is a sum over its nodes, so the expected cost of the supernet is
differentiable (as in ProxylessNAS, Cai et al. 2019):

    E[cost] = fixed + sum over the nodes, and their candidates o, of p_o cost_o

fixed is all that is not searched, p the softmax of alpha over the node's living candidates, and
cost_o is of all layers that share the node. alpha's loss gains

    weight * max(0, E[cost] / limit - 1)        in nats per token

Parameters are those of the whole derived network; latency is the time to decode a sentence with
beam search, from a table (latency_table.py).
"""

import logging
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

import torch
from torch import Tensor, nn

from ..derivation import Table
from ..genotype import Genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.architecture import Architecture
from ..modules.mixture import Subsets, softmax_over
from ..search_space import CANDIDATES, searched_splits
from .active import active_on
from .config import DEFAULT_COST_WEIGHT, BilevelSearchConfig
from .latency_table import LatencyTable, load_latency_table

logger = logging.getLogger(__name__)


def rounded(kind: str, cost: float) -> str:
    """A cost in digits, rounded up; `kind` is "parameters" or "latency"."""
    return f"{cost:,.0f}" if kind == "parameters" else f"{math.ceil(1000 * cost) / 1000:,.3f}"


def in_words(kind: str, cost: float) -> str:
    """A cost with its unit."""
    return rounded(kind, cost) + (" parameters" if kind == "parameters" else " ms per sentence")


@dataclass(frozen=True)
class Costs:
    """The costs of all networks of a search space.

    Args:
        kind: "parameters" or "latency" (milliseconds)
        fixed: of all that is not searched
        tables: by side, (s, searched splits, candidates): of a candidate in all layers that share
            the node; 0 for those that are not searched
    """

    kind: str
    fixed: float
    tables: Dict[str, Table]

    def least(self, living: Mapping[str, Subsets]) -> float:
        """The cost of the cheapest network of the living candidates, given by side."""
        return self.fixed + sum(
            min(row[index] for index in indices)
            for side in CANDIDATES
            for table_layer, layer in zip(self.tables[side], living[side])
            for row, indices in zip(table_layer, layer)
        )

    def of(self, genotype: Genotype) -> float:
        """The cost of one network."""
        return self.least(active_on(genotype))


def parameter_costs(model: RevDartsTransformerModel) -> Costs:
    """Parameters of the networks of a supernet, as revdarts-derive counts them."""
    tables: Dict[str, List[List[List[float]]]] = {}
    fixed = _parameters(model) - _parameters(model.architecture)
    for (side, names), stack in zip(CANDIDATES.items(), model.stacks()):
        layers, splits, _ = getattr(model.architecture, side).shape
        tables[side] = [[[0.0] * len(names) for _ in range(splits)] for _ in range(layers)]
        for layer in stack.layers:
            for row, node in zip(tables[side][layer.cell_row], layer.nodes):
                for index, candidate in enumerate(node.candidates):
                    row[index] += _parameters(candidate)
                    fixed -= _parameters(candidate)
    return Costs("parameters", fixed, tables)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def latency_costs(table: LatencyTable, network: Mapping[str, Any]) -> Costs:
    """Milliseconds to decode a sentence, from a table; `network` are the flags of the network."""
    tables, fixed = {}, table.outside["decode"]
    for side, names in CANDIDATES.items():
        layers, cell_layers = network[f"{side}_layers"], network["cell_layers"]
        fixed += layers * table.layer[side]["decode"]
        nothing = {"decode": 0.0}
        row = [
            layers // cell_layers * table.candidates[side].get(name, nothing)["decode"]
            for name in names
        ]
        splits = searched_splits(side, network[f"{side}_splits"])
        tables[side] = [[row] * splits] * cell_layers
    return Costs("latency", fixed, tables)


class Budget:
    """The limit of a search, and what alpha pays for an expected cost above it.

    Args:
        costs: of all networks of the search space
        limit: the largest cost, --cost-limit
        weight: --cost-weight, nats per token for an excess of the whole limit
    """

    def __init__(self, costs: Costs, limit: float, weight: float):
        self.costs, self.limit, self.weight = costs, limit, weight
        self._tables: Dict[str, Tensor] = {}

    @classmethod
    def of(
        cls, cfg: BilevelSearchConfig, network: Mapping[str, Any], model: RevDartsTransformerModel
    ) -> Optional["Budget"]:
        """The budget that the flags ask for; None without --cost. Raises a ValueError.

        Args:
            cfg: the flags of the search
            network: the flags of the network
            model: the supernet
        """
        if cfg.cost is None:
            return None
        if str(cfg.cost) == "parameters":
            costs = parameter_costs(model)
        else:
            operations = model.architecture.candidates
            costs = latency_costs(
                load_latency_table(cfg.latency_table, network, operations), network
            )
        weight = DEFAULT_COST_WEIGHT if cfg.cost_weight is None else cfg.cost_weight
        return cls(costs, cfg.cost_limit, weight)

    def check_possible(self, living: Mapping[str, Subsets]) -> None:
        """Raise a ValueError if no network of the living candidates is within the limit."""
        if not self.allows(living):
            kind, least = self.costs.kind, self.costs.least(living)
            raise ValueError(
                f"--cost-limit {self.limit:g}: the cheapest network that the search can find costs "
                f"{in_words(kind, least)}; a limit of at least that is needed, or smaller sizes"
            )

    def allows(self, living: Mapping[str, Subsets]) -> bool:
        """Whether a network of the living candidates is within the limit."""
        return self.costs.least(living) <= self.limit

    def expected(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """The expected cost, a scalar in double precision.

        Args:
            probabilities: by side, (s, searched splits, candidates)
        """
        return self.costs.fixed + sum(
            (p.double() * self._table(side, p.device)).sum() for side, p in probabilities.items()
        )

    def penalty(self, alphas: Mapping[str, Tensor], living: Mapping[str, Subsets]) -> Tensor:
        """What alpha's loss gains, a scalar; `alphas` by side (s, searched splits, candidates)."""
        cost = self.expected({side: softmax_over(alphas[side], living[side]) for side in alphas})
        return self.weight * torch.relu(cost / self.limit - 1)

    def add_penalty(
        self, architecture: Architecture, gradients: List[Tensor], tokens: float
    ) -> List[Tensor]:
        """alpha's gradients, summed over `tokens` of all processes, with the penalty's.

        The penalty's gradient is computed in double precision, and is in each token's share.
        """
        alphas = [alpha.detach().double().requires_grad_() for alpha in architecture.alphas()]
        living = {side: architecture.living(side) for side in CANDIDATES}
        penalty = self.penalty(dict(zip(CANDIDATES, alphas)), living)
        return [
            gradient + max(tokens, 1) * of_penalty.to(gradient)
            for gradient, of_penalty in zip(gradients, torch.autograd.grad(penalty, alphas))
        ]

    @torch.no_grad()
    def expected_of(self, architecture: Architecture) -> Tensor:
        """The expected cost of the supernet, a scalar on its device."""
        return self.expected({side: architecture.probabilities(side) for side in CANDIDATES})

    def report(self, genotype: Genotype) -> None:
        """Log what a network costs."""
        verdict = against_limit(self.costs.kind, self.costs.of(genotype), self.limit)
        logger.info(f"the network in genotype.json: {verdict}")

    def _table(self, side: str, device: torch.device) -> Tensor:
        if side not in self._tables or self._tables[side].device != device:
            table = torch.tensor(self.costs.tables[side], dtype=torch.float64, device=device)
            self._tables[side] = table
        return self._tables[side]


def against_limit(kind: str, cost: float, limit: float) -> str:
    """A cost in words, compared with --cost-limit."""
    place = f"{100 * (cost / limit - 1):.3g} % above" if cost > limit else "within"
    return f"{in_words(kind, cost)}, {place} --cost-limit {rounded(kind, limit)}"
