"""The table of proof.sh: BLEU, its standard deviation and range for each kind of network.

Reads the scores, the logs of training (validation loss, words a second) and of translation
(tokens a second).
"""

import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Dict, List


def numbers(pattern: str, path: Path) -> List[float]:
    """All that `pattern` finds in a file, as numbers."""
    text = path.read_text(encoding="utf-8")
    return [float(found.replace(",", "")) for found in re.findall(pattern, text, re.MULTILINE)]


def main() -> None:
    """Entry point."""
    work = Path(sys.argv[1])
    kinds: Dict[str, List[Dict[str, float]]] = defaultdict(list)
    signatures = set()
    scored = sorted(work.glob("*-score.done"))
    if not scored:
        sys.exit(f"{work}: no network scored there; proof.sh does it")
    for done in scored:
        run = done.name[: -len("-score.done")]
        score, log = work / f"{run}-score.log", work / f"{run}.log"
        signatures.add(re.search(r"signature: (\S+)", score.read_text(encoding="utf-8"))[1])
        kinds[re.match(r"[a-z]+", run).group()].append(
            {
                "bleu": numbers(r"^BLEU = ([\d.]+)", score)[-1],
                "loss": numbers(r"valid on .* nll_loss[ =]([\d.]+)", log)[-1],
                "parameters": numbers(r"^parameters = ([\d,]+)", score)[-1],
                "trained": statistics.median(
                    numbers(r"\| train(?:_inner)? \| .*wps[ =]([\d.]+)", log)
                ),
                "decoded": numbers(r"([\d.]+) tokens/s", work / f"{run}-translate.log")[-1],
            }
        )
    print(
        "| | runs | BLEU | deviation | least, most | validation loss (bits a token) | parameters "
        "| words/s, training | tokens/s, decoding |"
    )
    print("| --- " * 9 + "|")
    for kind, runs in sorted(kinds.items(), key=lambda item: -mean(item[1], "bleu")):
        scores = [run["bleu"] for run in runs]
        deviation = f"{statistics.stdev(scores):.2f}" if len(runs) > 1 else "-"
        print(
            f"| {kind} | {len(runs)} | {mean(runs, 'bleu'):.2f} | {deviation} "
            f"| {min(scores):.2f}, {max(scores):.2f} | {mean(runs, 'loss'):.3f} "
            f"| {mean(runs, 'parameters'):,.0f} | {mean(runs, 'trained'):,.0f} "
            f"| {mean(runs, 'decoded'):,.0f} |"
        )
    print("\n" + "\n".join(sorted(signatures)))


def mean(runs: List[Dict[str, float]], name: str) -> float:
    """Mean of a number over runs."""
    return statistics.mean(run[name] for run in runs)


if __name__ == "__main__":
    main()
