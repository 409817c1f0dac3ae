"""Take the pairs out of IWSLT'14's files, in lower case, as fairseq's prepare-iwslt14.sh does.

Reads FOLDER/train.tags.de-en.{de,en} and the five test sets, and writes TRAIN.LANGUAGE and
TEST.LANGUAGE, one sentence per line. Of the training text, lines with an address, a number or
keywords of a talk are left out; titles and descriptions stay. The numbers of pairs must be as
expected: so a damaged or another corpus is noticed.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Iterator, List

LANGUAGES = ("de", "en")
LEFT_OUT = ("<url>", "<talkid>", "<keywords>")
TAG = re.compile("</?(title|description)>")
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
SEGMENT = re.compile(r'<seg id="\d+">(.*?)</seg>')
#: All of them together are fairseq's test set, in this order.
TEST_SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")


def lines_of(path: Path) -> List[str]:
    """The lines of a file; ends with an error if it is not there."""
    if not path.exists():
        sys.exit(f"{path}: not there; the archive de-en.tgz of IWSLT'14 has it")
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def training_text(folder: Path, language: str) -> Iterator[str]:
    """The training sentences."""
    for line in lines_of(folder / f"train.tags.de-en.{language}"):
        if not any(tag in line for tag in LEFT_OUT):
            yield TAG.sub("", line)


def test_text(folder: Path, language: str) -> Iterator[str]:
    """The sentences of all test sets."""
    for name in TEST_SETS:
        for line in lines_of(folder / f"IWSLT14.{name}.de-en.{language}.xml"):
            found = SEGMENT.search(line)
            if found:
                yield found[1].replace(APOSTROPHE, "'")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument(
        "--pairs", required=True, help="how many there are of training and of test: 174443,6750"
    )
    args = parser.parse_args()
    expected = map(int, args.pairs.split(","))
    for name, text, pairs in zip((args.train, args.test), (training_text, test_text), expected):
        for language in LANGUAGES:
            lines = [" ".join(line.lower().split()) for line in text(args.folder, language)]
            if len(lines) != pairs:
                sys.exit(
                    f"{args.folder}: {len(lines):,} {language} lines for {name}, not {pairs:,}; "
                    "this is not IWSLT'14 de-en as fairseq takes it, or it is damaged"
                )
            with open(f"{name}.{language}", "w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
        print(f"{name}: {pairs:,} pairs")


if __name__ == "__main__":
    main()
