"""All flags with their defaults, one per line, so that a new or changed one shows in the diff.

To change the list deliberately: python tests/frozen_flags.py > tests/frozen_flags.txt
"""

import argparse
from pathlib import Path
from unittest import mock

from fairseq_revdarts.cli import derive, flags, plot, profile

FILE = Path(__file__).with_suffix(".txt")
COMMANDS = {
    "revdarts-derive": derive,
    "revdarts-plot": plot,
    "revdarts-profile": profile,
    "fairseq_revdarts.cli.flags": flags,
}


class ReadyToParseError(Exception):
    """Raised with the parser, instead of parsing."""


def parser_of(command):
    """The parser with which a command reads its command line."""

    def stop(parser, *_):
        raise ReadyToParseError(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            command.main([])
        except ReadyToParseError as ready:
            return ready.args[0]


def line(owner, name, default, choices):
    return " | ".join([owner, name, default, *([" ".join(choices)] if choices else [])])


def all_lines():
    """Owner, flag, default, and choices if there are any."""
    for flag in flags.all_flags():
        defaults = [flag.default, *(f"{name}: {value}" for name, value in flag.named.items())]
        yield line(flag.owner, flag.name, "; ".join(defaults), flag.choices)
    for name, command in COMMANDS.items():
        for action in parser_of(command)._actions:
            if action.default != argparse.SUPPRESS:  # --help
                words = ", ".join(action.option_strings) or f"{action.metavar} {action.nargs}"
                yield line(name, words, flags.shown(action.default), action.choices)


if __name__ == "__main__":
    print("\n".join(all_lines()))
