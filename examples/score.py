"""Score fairseq-generate's output against raw references, with sacrebleu.

Prints BLEU and chrF with their signatures, and the share of exact translations. Stops with an error
unless there is one hypothesis for every reference.
"""

import argparse
import re
import sys
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF

HYPOTHESIS = re.compile(r"^D-(\d+)\t[^\t]*\t(.*)$")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generated", type=Path, help="what fairseq-generate printed")
    parser.add_argument("references", type=Path, help="raw text, a sentence a line")
    parser.add_argument("--tokenize", default="13a", help="sacrebleu's tokenizer for BLEU")
    args = parser.parse_args()

    matches = map(HYPOTHESIS.match, args.generated.read_text(encoding="utf-8").split("\n"))
    found = {int(match[1]): match[2] for match in matches if match}
    references = args.references.read_text(encoding="utf-8").splitlines()
    if sorted(found) != list(range(len(references))):
        sys.exit(f"{args.generated}: {len(found)} hypotheses for {len(references)} references")
    hypotheses = [found[number] for number in range(len(references))]
    for metric in (BLEU(tokenize=args.tokenize), CHRF()):
        print(metric.corpus_score(hypotheses, [references]).format(width=2))
        print(f"    signature: {metric.get_signature()}")
    exact = sum(hypothesis == reference for hypothesis, reference in zip(hypotheses, references))
    print(f"exact = {exact} of {len(references)} ({100 * exact / len(references):.1f} %)")


if __name__ == "__main__":
    main()
