"""Write a parallel corpus of numbers in words: English to another language, by num2words.

Cardinals, ordinals, years and sums of money. A number that is tested, in whatever form, is held out
of the training pairs in every form. Files: FOLDER/{train,valid,test}.{en,LANGUAGE}.
"""

import argparse
import random
from pathlib import Path
from typing import Callable, Dict, List, Set, Tuple

from num2words import num2words

NUMBERS = {"train": 4600, "valid": 60, "test": 120}
YEARS = range(1000, 2100)
#: Forms that num2words does not write in a language.
MISSING = {"cs": {"ordinal"}}


def money(number: int, language: str) -> str:
    """A sum in euros and cents; the cents follow from the number, the same in each language."""
    return num2words(number + (number * 37 % 100) / 100, lang=language, to="currency")


FORMS: Dict[str, Callable[[int, str], str]] = {
    "cardinal": lambda number, language: num2words(number, lang=language),
    "ordinal": lambda number, language: num2words(number, lang=language, to="ordinal"),
    "year": lambda number, language: num2words(number, lang=language, to="year"),
    "money": money,
}


def pairs(numbers: List[int], language: str) -> List[Tuple[str, str]]:
    """Each number in each form, in English and in `language`."""
    forms = [form for form in FORMS if form not in MISSING.get(language, ())]
    return [
        (FORMS[form](number, "en"), FORMS[form](number, language))
        for number in numbers
        for form in forms
        if form != "year" or number in YEARS
    ]


def draw(generator: random.Random, count: int, digits: int) -> List[int]:
    """So many different numbers, in random order; each number of digits is drawn equally often."""
    drawn: Set[int] = set()
    while len(drawn) < count:
        drawn.add(generator.randrange(10 ** generator.randint(1, digits)))
    numbers = sorted(drawn)
    generator.shuffle(numbers)
    return numbers


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", default="fr", choices=("fr", "de", "cs"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--digits", type=int, default=9, choices=range(4, 10), help="of the largest numbers"
    )
    args = parser.parse_args()

    generator = random.Random(args.seed)
    numbers = draw(generator, sum(NUMBERS.values()), args.digits)
    args.folder.mkdir(parents=True, exist_ok=True)
    for split, count in NUMBERS.items():
        part, numbers = numbers[:count], numbers[count:]
        sides = zip(*pairs(part, args.language))
        for language, lines in zip(("en", args.language), sides):
            text = "".join(f"{line}\n" for line in lines)
            (args.folder / f"{split}.{language}").write_text(text, encoding="utf-8")
        print(f"{split}: {len(lines)} pairs")


if __name__ == "__main__":
    main()
