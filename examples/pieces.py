"""Learn a joint sentencepiece model on raw parallel text and split all of it into pieces.

Reads RAW/{train,valid,test}.LANGUAGE and writes PIECES/{train,valid,test}.LANGUAGE,
PIECES/sentencepiece.model.
"""

import argparse
import itertools
import os
from pathlib import Path

import sentencepiece

#: The model is learnt on as many sentences, drawn at random, if there are more.
SAMPLE = 10_000_000
#: Sentences that are split at once.
CHUNK = 100_000


def split_file(
    processor: sentencepiece.SentencePieceProcessor, source: Path, target: Path, threads: int
) -> None:
    """Split the sentences of `source` into pieces."""
    with open(source, encoding="utf-8", newline="\n") as lines, open(
        target, "w", encoding="utf-8"
    ) as pieces:
        while True:
            chunk = [line.rstrip("\n") for line in itertools.islice(lines, CHUNK)]
            if not chunk:
                return
            for line in processor.encode(chunk, out_type=str, num_threads=threads):
                pieces.write(" ".join(line) + "\n")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path)
    parser.add_argument("pieces", type=Path)
    parser.add_argument("--languages", nargs=2, required=True)
    parser.add_argument("--vocabulary", type=int, required=True, help="pieces in the model")
    args = parser.parse_args()

    args.pieces.mkdir(parents=True, exist_ok=True)
    model = args.pieces / "sentencepiece"
    threads = os.cpu_count() or 1
    sentencepiece.SentencePieceTrainer.train(
        input=[str(args.raw / f"train.{language}") for language in args.languages],
        model_prefix=str(model),
        vocab_size=args.vocabulary,
        model_type="bpe",
        character_coverage=1.0,
        input_sentence_size=SAMPLE,
        num_threads=threads,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")
    for split in ("train", "valid", "test"):
        for language in args.languages:
            name = f"{split}.{language}"
            split_file(processor, args.raw / name, args.pieces / name, threads)


if __name__ == "__main__":
    main()
