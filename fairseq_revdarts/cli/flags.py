"""`python -m fairseq_revdarts.cli.flags`: all flags that this package adds to fairseq-train.

`fairseq-train --help` cannot show the flags of a plugin. They are read from the configurations that
fairseq-train itself reads, so that the list is never out of date.
"""

import argparse
import re
import shutil
import textwrap
from typing import Dict, List, NamedTuple, Optional, Tuple, Type

from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_INV_REGISTRY

from ..criterions.reversible_search import ReversibleSearchCriterionConfig
from ..models.evolved_transformer.model import EvolvedTransformerConfig
from ..models.revdarts_transformer.config import RevDartsTransformerConfig
from ..search.config import BilevelSearchConfig

#: What has flags, by the flag of fairseq-train that chooses it.
OWNERS: Dict[str, Type[FairseqDataclass]] = {
    "--arch revdarts_transformer": RevDartsTransformerConfig,
    "--task bilevel_search": BilevelSearchConfig,
    "--criterion reversible_search": ReversibleSearchCriterionConfig,
    "--arch evolved_transformer": EvolvedTransformerConfig,
}
INTRODUCTION = (
    "Flags that fairseq_revdarts adds to fairseq-train; theta are the weights, alpha the "
    "architecture parameters. The task also takes all flags of --task translation, and the "
    "criterion all flags of --criterion label_smoothed_cross_entropy. These belong to fairseq, "
    "like all other flags of fairseq-train; fairseq-train --help prints them."
)
INDENT = 26
#: A help text ends like this where the default depends on other flags.
DEFAULT_IN_WORDS = re.compile(r"(.*) \(default: (.*)\)", re.DOTALL)


class Flag(NamedTuple):
    """A flag as users see it.

    Args:
        owner: one of `OWNERS`
        name: with its dashes
        default: the value if the flag is not given; "none" if there is none, "off" for a switch
        help: its meaning, in one sentence
        choices: the values that it takes, if they are fixed
        named: the named architectures with another default, and that default
    """

    owner: str
    name: str
    default: str
    help: str
    choices: Tuple[str, ...]
    named: Dict[str, str]


def all_flags() -> List[Flag]:
    """The flags that this package adds, those of one owner next to each other."""
    return [flag for owner in OWNERS for flag in flags_of(owner)]


def flags_of(owner: str) -> List[Flag]:
    """The flags that `owner` adds to those of the configuration that it extends."""
    config = OWNERS[owner]
    inherited = {action.dest: action for action in _actions(config.__base__)}
    added = [
        action for action in _actions(config) if not _is_same(action, inherited.get(action.dest))
    ]
    return [_flag(owner, action) for action in added]


def named_architectures(owner: str) -> List[str]:
    """The architectures of a model that have other defaults; none for a task or a criterion."""
    name = owner.split()[1]
    return [other for other in ARCH_MODEL_INV_REGISTRY.get(name, []) if other != name]


def shown(default: object) -> str:
    """A default in words."""
    if default is None or default == []:
        return "none"
    return {"False": "off", "True": "on"}.get(str(default), str(default))


def describe(owner: str, width: int) -> str:
    """The flags of `owner` as text, in the form of argparse's help.

    Args:
        owner: one of `OWNERS`
        width: of a line, in characters
    """
    title = " or ".join([owner, *(f"--arch {name}" for name in named_architectures(owner))])
    return "\n".join([title, *(_describe_flag(flag, width) for flag in flags_of(owner))])


def _describe_flag(flag: Flag, width: int) -> str:
    name = f"  {flag.name}" + (f" {{{','.join(flag.choices)}}}" if flag.choices else "")
    defaults = [flag.default, *(f"{value} for {name}" for name, value in flag.named.items())]
    text = _wrap(f"{flag.help} (default: {'; '.join(defaults)})", width - INDENT)
    text = textwrap.indent(text, " " * INDENT)
    return name.ljust(INDENT) + text[INDENT:] if len(name) < INDENT - 1 else f"{name}\n{text}"


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def _actions(config: Type[FairseqDataclass]) -> List[argparse.Action]:
    """What fairseq-train makes of a configuration."""
    parser = argparse.ArgumentParser(add_help=False)
    gen_parser_from_dataclass(parser, config())
    return parser._actions


def _flag(owner: str, action: argparse.Action) -> Flag:
    meaning, default = action.help, shown(action.default)
    in_words = DEFAULT_IN_WORDS.fullmatch(meaning)
    if in_words and action.default is None:
        meaning, default = in_words.groups()
    return Flag(
        owner,
        action.option_strings[0],
        default,
        meaning,
        choices=tuple(action.choices or ()),
        named=_named_defaults(owner, action.dest),
    )


def _is_same(action: argparse.Action, inherited: Optional[argparse.Action]) -> bool:
    return inherited is not None and (action.default, action.help) == (
        inherited.default,
        inherited.help,
    )


def _named_defaults(owner: str, dest: str) -> Dict[str, str]:
    defaults = {}
    for name in named_architectures(owner):
        args = argparse.Namespace()
        ARCH_CONFIG_REGISTRY[name](args)
        if hasattr(args, dest):
            defaults[name] = shown(getattr(args, dest))
    return defaults


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_revdarts.cli.flags",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    width = shutil.get_terminal_size().columns
    print(_wrap(INTRODUCTION, width))
    for owner in OWNERS:
        print(f"\n{describe(owner, width)}")


if __name__ == "__main__":
    main()
