"""The found architecture: a small JSON file, read, validated and written.

{"format": "revdarts-genotype", "version": 1, "pooling": "max",
 "encoder": [["ffn", "self_attention"], ...],     one list a layer of the cell,
 "decoder": [["ffn", "glu", "cross_attention"], ...]}     one operation a split
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .search_space import CANDIDATES, FIXED_LAST_OPERATION, POOLINGS, searched_splits
from .utils.files import write_atomically

FORMAT = "revdarts-genotype"
VERSION = 1
SHIPPED = Path(__file__).parent / "genotypes"
#: --genotype random:SEED names a random architecture of the search space.
RANDOM = "random:"

Cell = Tuple[Tuple[str, ...], ...]
#: The operation of each searched node.
Choices = Dict[str, str]


class GenotypeError(ValueError):
    """A genotype that cannot be used: names its source, what is wrong and what would be right."""


@dataclass(frozen=True)
class Genotype:
    """One operation for each split of each layer of the encoder's and the decoder's cell.

    Args:
        pooling: how a node's inputs become one, "max" or "avg"
        encoder: for each of the s layers of the cell, the operation of each split
        decoder: the same; the last operation of a layer is cross-attention

    Raises:
        GenotypeError: an operation, a shape or the pooling is not of the search space
    """

    pooling: str
    encoder: Cell
    decoder: Cell

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise GenotypeError(f"pooling is {self.pooling!r}; it is one of {', '.join(POOLINGS)}")
        for side in CANDIDATES:
            _check_cell(side, getattr(self, side))
        if len(self.encoder) != len(self.decoder):
            raise GenotypeError(
                f"the encoder's cell has {len(self.encoder)} layers and the decoder's "
                f"{len(self.decoder)}; both have as many (--cell-layers)"
            )

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back as an equal genotype."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "pooling": self.pooling,
                "encoder": self.encoder,
                "decoder": self.decoder,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Read and validate a genotype's JSON. Raises GenotypeError."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GenotypeError(f"not JSON ({error})") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise GenotypeError(f'not a genotype: it has no "format": "{FORMAT}"')
        version = content.get("version")
        if type(version) is not int or version != VERSION:
            raise GenotypeError(f'"version" is {version!r}; this package reads version {VERSION}')
        known = {"format", "version", "pooling", *CANDIDATES}
        if set(content) != known:
            wrong = ", ".join(sorted(set(content) ^ known))
            raise GenotypeError(f"missing or unknown keys: {wrong}; it has {', '.join(known)}")
        return cls(content["pooling"], *(_as_cell(side, content[side]) for side in CANDIDATES))

    def save(self, path: str) -> None:
        """Write the genotype to `path` atomically: a reader sees the old file or the new one."""
        write_atomically(path, self.to_json() + "\n")


def operations_by_node(genotype: Genotype) -> Choices:
    """The operation of each searched node; nodes are named as in search.jsonl."""
    return {
        f"{side}.{i}.{k}": name
        for side in CANDIDATES
        for i, layer in enumerate(getattr(genotype, side), start=1)
        for k, name in enumerate(layer[: searched_splits(side, len(layer))], start=1)
    }


def load_genotype(name: str) -> Genotype:
    """The genotype that --genotype names.

    Args:
        name: the path of a genotype file, the name of one that ships with the package (see
            fairseq_revdarts/genotypes), or a genotype's JSON itself, as a checkpoint holds it

    Raises:
        GenotypeError: there is no such file, or it is not a genotype
    """
    source = "the checkpoint's genotype" if name.lstrip().startswith("{") else name
    try:
        return Genotype.from_json(_read(name))
    except GenotypeError as error:
        raise GenotypeError(f"--genotype {source}: {error}") from error


def random_seed(name: str) -> int:
    """SEED of --genotype random:SEED; raises a GenotypeError if it is not a whole number."""
    seed = name[len(RANDOM) :]
    if not (seed.isascii() and seed.isdigit()):
        raise GenotypeError(f"--genotype {name}: random: and a whole number, such as random:1")
    return int(seed)


def random_genotype(
    generator: random.Random,
    pooling: str,
    cell_layers: int,
    splits: Dict[str, int],
    candidates: Optional[Mapping[str, Sequence[str]]] = None,
) -> Genotype:
    """A genotype drawn uniformly from the search space.

    The draws are those of Python's Mersenne Twister, `random.Random`; of its methods only `random`
    is used, which is documented to give the same numbers in every version.

    Args:
        generator: where the draws come from
        pooling: "max" or "avg"
        cell_layers: s, the number of layers in a cell
        splits: parts of a layer of the "encoder" and of the "decoder"
        candidates: the operations that are drawn from, by side; None for all
    """
    candidates = candidates or CANDIDATES

    def layer(side: str) -> Tuple[str, ...]:
        names, fixed = candidates[side], FIXED_LAST_OPERATION[side]
        drawn = range(searched_splits(side, splits[side]))
        return (*(names[int(generator.random() * len(names))] for _ in drawn), *fixed)

    cells = {side: tuple(layer(side) for _ in range(cell_layers)) for side in CANDIDATES}
    return Genotype(pooling=pooling, **cells)


def _read(name: str) -> str:
    if name.lstrip().startswith("{"):
        return name
    shipped = sorted(path.stem for path in SHIPPED.glob("*.json"))
    path = SHIPPED / f"{name}.json" if name in shipped else Path(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        ships = f"; genotypes that ship with the package: {', '.join(shipped)}" if shipped else ""
        raise GenotypeError(f"cannot be read as a genotype file ({error}){ships}") from error


def _as_cell(side: str, layers: Any) -> Cell:
    if not isinstance(layers, list) or not all(isinstance(layer, list) for layer in layers):
        raise GenotypeError(f"{side}: a list of layers, each a list of operations, is needed")
    return tuple(tuple(layer) for layer in layers)


def _check_cell(side: str, cell: Cell) -> None:
    if not cell:
        raise GenotypeError(f"{side}: no layers; the cell has at least one")
    splits = len(cell[0])
    for number, layer in enumerate(cell, start=1):
        where = f"{side}, layer {number}"
        if len(layer) != splits:
            raise GenotypeError(f"{where}: {len(layer)} splits, but layer 1 has {splits}")
        if len(layer) < 2:
            raise GenotypeError(f"{where}: {len(layer)} splits; a reversible layer has at least 2")
        _check_operations(where, side, layer)


def _check_operations(where: str, side: str, layer: Tuple[str, ...]) -> None:
    fixed = FIXED_LAST_OPERATION[side]
    unknown: List[Any] = [name for name in layer if name not in CANDIDATES[side]]
    if unknown:
        choices = ", ".join(CANDIDATES[side])
        raise GenotypeError(f"{where}: no {side} operation {unknown[0]!r}; they are {choices}")
    if fixed and layer[-1:] != fixed:
        raise GenotypeError(f"{where}: the last split is {layer[-1]!r}; it is always {fixed[0]}")
