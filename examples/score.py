"""Score fairseq-generate's output against raw references, with sacrebleu.

Prints BLEU and chrF with their signatures, the share of exact translations, and that of sentences
that say the same three words twice: decoders that run in a loop say more of these than the
references. Stops with an error unless there is one hypothesis for every reference.

It can also print the BLEU of older papers, that of tokenised text. Those papers tokenised with
Moses' script; here it is sacrebleu's 13a, so the last digits may differ. --compounds splits
compounds at their hyphens, as tensor2tensor's get_ende_bleu.sh does; --clitics splits English words
at their apostrophes, "it 's", as Moses does. --lowercase is for text that was lowercased.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import List, Tuple

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

#: What is split in tokenised text, by name: a pattern and what takes its place.
SPLIT = {
    "compounds": (re.compile(r"(\S)-(\S)"), r"\1 ##AT##-##AT## \2"),
    "clitics": (re.compile(r"([^\W\d_])'([^\W\d_])"), r"\1 '\2"),
}
HYPOTHESIS = re.compile(r"^D-(\d+)\t[^\t]*\t(.*)$")


def tokenised_bleu(
    hypotheses: List[str], references: List[str], split: str, lowercase: bool
) -> float:
    """BLEU of text tokenised by 13a, in which what `split` names is several tokens."""
    tokenize, (pattern, parts) = Tokenizer13a(), SPLIT[split]
    texts = [
        [pattern.sub(parts, tokenize(line)) for line in lines] for lines in (hypotheses, references)
    ]
    bleu = BLEU(tokenize="none", force=True, lowercase=lowercase)
    return bleu.corpus_score(texts[0], [texts[1]]).score


def read_translations(generated: Path, references: Path) -> Tuple[List[str], List[str]]:
    """Hypotheses and references, in the order of the references.

    Args:
        generated: what fairseq-generate printed
        references: raw text, one sentence per line

    Raises:
        SystemExit: there is not one hypothesis for every reference
    """
    matches = map(HYPOTHESIS.match, generated.read_text(encoding="utf-8").split("\n"))
    found = {int(match[1]): match[2] for match in matches if match}
    with open(references, encoding="utf-8", newline="\n") as file:  # as pieces.py reads the text
        lines = [line.rstrip("\r\n") for line in file]
    if sorted(found) != list(range(len(lines))):
        sys.exit(f"{generated}: {len(found)} hypotheses for {len(lines)} references")
    return [found[number] for number in range(len(lines))], lines


def count_exact(hypotheses: List[str], references: List[str]) -> int:
    """How many hypotheses are the reference, character by character."""
    return sum(hypothesis == reference for hypothesis, reference in zip(hypotheses, references))


def count_repeating(sentences: List[str], length: int = 3) -> int:
    """How many sentences have the same `length` words in a row more than once."""

    def repeats(words: List[str]) -> bool:
        runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
        return len(set(runs)) < len(runs)

    return sum(repeats(sentence.split()) for sentence in sentences)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generated", type=Path, help="what fairseq-generate printed")
    parser.add_argument("references", type=Path, help="raw text, one sentence per line")
    parser.add_argument("--tokenize", default="13a", help="sacrebleu's tokenizer for BLEU")
    parser.add_argument("--lowercase", action="store_true", help="compare without case")
    for name in SPLIT:
        parser.add_argument(
            f"--{name}",
            dest="split",
            action="store_const",
            const=name,
            help=f"also print tokenised BLEU, {name} split",
        )
    args = parser.parse_args()

    hypotheses, references = read_translations(args.generated, args.references)
    metrics = BLEU(tokenize=args.tokenize, lowercase=args.lowercase), CHRF(lowercase=args.lowercase)
    for metric in metrics:
        print(metric.corpus_score(hypotheses, [references]).format(width=2))
        print(f"    signature: {metric.get_signature()}")
    if args.split:
        score = tokenised_bleu(hypotheses, references, args.split, args.lowercase)
        print(f"tokenised BLEU = {score:.2f} (13a, {args.split} split)")
    exact, sentences = count_exact(hypotheses, references), len(references)
    print(f"exact = {exact} of {sentences} ({100 * exact / sentences:.1f} %)")
    repeating, as_usual = map(count_repeating, (hypotheses, references))
    print(f"repeating = {repeating} of {sentences} (references: {as_usual})")


if __name__ == "__main__":
    main()
