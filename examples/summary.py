"""Score the networks of an example, and say how the search did: on the screen and in summary.txt.

WORK holds what the stages of the quick start or of Multi30k have left.
"""

import argparse
import json
import os
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List

from parameters import parameters_in
from sacrebleu.metrics import BLEU, CHRF
from score import count_exact, read_translations

PLUGIN = Path(__file__).resolve().parent.parent / "fairseq_revdarts"
#: The networks, by their folder.
NETWORKS = {
    "found": "the network found",
    "random": "a random genotype",
    "transformer": "fairseq's transformer",
}
#: Columns of the summary.
WIDTH = 100
HEADINGS = ("", "parameters", "BLEU", "chrF", "exact (%)")


@dataclass(frozen=True)
class Result:
    """A network's scores on the test set.

    Args:
        name: of the network
        parameters: how many it has
        bleu, chrf: from 0 to 100
        exact: share of the sentences that are translated exactly as the reference, in %
    """

    name: str
    parameters: int
    bleu: float
    chrf: float
    exact: float

    def cells(self) -> List[str]:
        """The network's row of the table."""
        scores = (self.bleu, self.chrf, self.exact)
        digits = (2, 2, 1)
        numbers = [f"{score:.{n}f}" for score, n in zip(scores, digits)]
        return [self.name, f"{self.parameters:,}", *numbers]


def result_of(work: Path, folder: str, references: Path, bleu: BLEU) -> Result:
    """The scores of the network in a folder of `work`. Raises as `read_translations`."""
    hypotheses, lines = read_translations(work / f"{folder}.generated", references)
    return Result(
        NETWORKS[folder],
        parameters_in(str(work / folder / "checkpoint_last.pt")),
        bleu.corpus_score(hypotheses, [lines]).score,
        CHRF().corpus_score(hypotheses, [lines]).score,
        100 * count_exact(hypotheses, lines) / len(lines),
    )


def table(results: List[Result]) -> Iterator[str]:
    """The results as lines of text, in columns."""
    rows = [HEADINGS, *(result.cells() for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for name, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:])]
        yield "   ".join([name.ljust(widths[0]), *cells])


def verdict(found: Result, others: List[Result]) -> str:
    """Who won, and by how much; the first of the others is the random genotype."""
    clauses = []
    for other in others:
        ahead = round(found.bleu, 2) - round(other.bleu, 2)
        if ahead:
            outcome = "beat" if ahead > 0 else "lost to"
            clauses.append(f"{outcome} {other.name} by {abs(ahead):.2f} BLEU")
        else:
            clauses.append(f"came level with {other.name}")
    text = f"Verdict: {found.name} {' and '.join(clauses)}. "
    if found.bleu <= others[0].bleu:
        text += "So this search did not pay: it is no better than a genotype drawn at random. "
    return text + "Each network was trained once: another seed can turn a small difference around."


def shown(path: Path) -> str:
    """A path for the shell: from the current folder, if it is in there."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path.resolve()) if relative.startswith("..") else relative)


def architecture(genotype: Path) -> Iterator[str]:
    """The operations of a genotype file, one line per layer of the cell."""
    found: Dict[str, List[List[str]]] = json.loads(genotype.read_text(encoding="utf-8"))
    for side in ("encoder", "decoder"):
        for number, layer in enumerate(found[side], 1):
            yield f"  {side} layer {number}: {', '.join(layer)}"


def places(work: Path) -> Iterator[str]:
    """Where the results lie."""
    for name, paths in (
        ("genotype", [work / "genotype.json"]),
        ("probabilities", [work / "derived.txt"]),
        ("pictures", sorted((work / "search").glob("*.svg"))),
        ("models", [work / folder / "checkpoint_last.pt" for folder in NETWORKS]),
        ("logs", [work / "stages"]),
        ("summary", [work / "summary.txt"]),
    ):
        yield f"  {name:15}" + f"\n{'':17}".join(map(shown, paths))


def translation_command(work: Path, source: str, beam: int) -> str:
    """A command for the shell that translates the first sentence of the test set."""
    with open(work / f"raw/test.{source}", encoding="utf-8") as lines:
        sentence = shlex.quote(next(lines).rstrip("\n"))
    lines = (
        f"echo {sentence} | {shown(Path(sys.executable).parent / 'fairseq-interactive')}",
        f"    {shown(work / 'data')} --user-dir {shown(PLUGIN)}",
        f"    --path {shown(work / 'found/checkpoint_last.pt')} --beam {beam} --bpe sentencepiece",
        f"    --sentencepiece-model {shown(work / 'pieces/sentencepiece.model')}",
        "    2>/dev/null | grep '^D-' | cut -f 3",
    )
    return " \\\n".join(lines)


def summary(
    work: Path, source: str, target: str, tokenize: str, beam: int, time: str
) -> Iterator[str]:
    """The lines of the summary; the arguments are those of the command."""
    bleu = BLEU(tokenize=tokenize)
    references = work / f"raw/test.{target}"
    found, *others = [result_of(work, folder, references, bleu) for folder in NETWORKS]
    yield f"Summary: {source}-{target}, {time} without the installation\n"
    yield from table([found, *others])
    yield f"\nBLEU {bleu.get_signature()}\n"
    yield textwrap.fill(verdict(found, others), WIDTH)
    derived = (work / "derived.txt").read_text(encoding="utf-8").splitlines()
    for line in derived:
        if line.startswith("warning: "):
            yield "\n" + textwrap.fill(line[0].upper() + line[1:], WIDTH)
    yield "\nArchitecture found, one operation for each part of a layer:"
    yield from architecture(work / "genotype.json")
    yield "\nWhere everything is:"
    yield from places(work)
    yield "\nTo translate a sentence with the network found, in this folder:\n"
    yield translation_command(work, source, beam)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("source", help="language")
    parser.add_argument("target", help="language")
    parser.add_argument("--tokenize", default="13a", help="sacrebleu's tokenizer for BLEU")
    parser.add_argument("--beam", type=int, required=True, help="size of the beam of all networks")
    parser.add_argument("--time", required=True, help="that all stages took, in words")
    args = parser.parse_args()
    text = "\n".join(summary(**vars(args)))
    (args.work / "summary.txt").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
