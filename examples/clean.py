"""Clean a parallel text: one space between words, no pairs that are empty, too long or too unequal.

Reads TEXT.LANGUAGE and writes CLEAN.LANGUAGE of both languages, and prints how many pairs it kept.
Lengths are in words, with --tokens in tokens of sacrebleu's 13a, which splits off punctuation. With
--keep-all nothing is dropped: for text that is scored.
"""

import argparse
import contextlib
import itertools
import sys
from collections import Counter
from typing import Callable, List

from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a


def flaw(lengths: List[int], longest: int, ratio: float) -> str:
    """Why a pair of so many words is dropped; empty if it is kept."""
    if min(lengths) == 0:
        return "empty"
    if max(lengths) > longest:
        return "too long"
    return "too unequal" if max(lengths) > ratio * min(lengths) else ""


def token_counter() -> Callable[[List[str]], int]:
    """Counts the tokens of a sentence, which is given in words."""
    tokenize = Tokenizer13a()
    return lambda words: len(tokenize(" ".join(words)).split())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("clean")
    parser.add_argument("--languages", nargs=2, required=True)
    parser.add_argument("--longest", type=int, default=250)
    parser.add_argument("--ratio", type=float, default=2.0, help="of the longer to the shorter")
    parser.add_argument("--tokens", action="store_true", help="count tokens, not words")
    parser.add_argument("--keep-all", action="store_true")
    args = parser.parse_args()

    count: Callable[[List[str]], int] = token_counter() if args.tokens else len
    counts: Counter = Counter()
    with contextlib.ExitStack() as files:
        sources, results = (
            [
                files.enter_context(
                    open(
                        f"{name}.{language}", mode, encoding="utf-8", errors="replace", newline="\n"
                    )
                )
                for language in args.languages
            ]
            for name, mode in ((args.text, "r"), (args.clean, "w"))
        )
        for pair in itertools.zip_longest(*sources):
            if None in pair:
                shorter = args.languages[pair.index(None)]
                sys.exit(f"{args.text}.{shorter}: fewer lines than in the other language")
            words = [line.split() for line in pair]
            dropped = flaw([count(side) for side in words], args.longest, args.ratio)
            if dropped and not args.keep_all:
                counts[dropped] += 1
                continue
            counts["kept"] += 1
            for side, result in zip(words, results):
                result.write(" ".join(side) + "\n")
    print(f"{args.clean}: " + ", ".join(f"{n:,} pairs {name}" for name, n in counts.items()))


if __name__ == "__main__":
    main()
