"""Learn a joint sentencepiece model on raw parallel text and split all of it into pieces.

Reads RAW/{train,valid,test}.LANGUAGE and writes PIECES/{train,valid,test}.LANGUAGE,
PIECES/sentencepiece.model.
"""

import argparse
from pathlib import Path

import sentencepiece


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
    sentencepiece.SentencePieceTrainer.train(
        input=[str(args.raw / f"train.{language}") for language in args.languages],
        model_prefix=str(model),
        vocab_size=args.vocabulary,
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")
    for split in ("train", "valid", "test"):
        for language in args.languages:
            lines = (args.raw / f"{split}.{language}").read_text(encoding="utf-8").splitlines()
            pieces = processor.encode(lines, out_type=str)
            text = "".join(" ".join(line) + "\n" for line in pieces)
            (args.pieces / f"{split}.{language}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
