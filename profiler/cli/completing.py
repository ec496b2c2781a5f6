"""Which candidates a shell offers for the last word of a command line of profgen.

The words before it are read as click reads them; the commands themselves say what comes next: by the type of a
parameter (click.Choice), or by its metavar (``TRACE|DIR``), which profiler/cli/candidates.py turns into candidates.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import click

from profiler.cli import candidates
from profiler.cli.candidates import Candidate
from profiler.cli.main import COMMANDS, cli


@dataclass
class _Line:
    """What the words before the last one say. ``pending``: the option whose value comes next. ``ended``: no option can
    follow. ``elsewhere``: the words are those of another program, up to ``--``."""

    arguments: list[str] = field(default_factory=list)
    pending: click.Option | None = None
    ended: bool = False
    elsewhere: bool = False


def unquoted(word: str) -> str:
    """Return a word of a shell without its quotes and backslashes. The last quote need not be closed."""
    lexer = shlex.shlex(word, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return next(lexer, "")
    except ValueError:  # within quotes, or after a backslash
        return lexer.token


def complete(words: Sequence[str]) -> list[Candidate]:
    """Return the candidates for the last of the ``words`` after ``profgen``, which may be empty."""
    *before, word = words or [""]
    at = next((index for index, each in enumerate(before) if not each.startswith("-")), None)
    if at is None:
        rows = _names(cli) if word.startswith("-") else COMMANDS.items()
        return _starting(word, rows)
    command = cli.get_command(click.Context(cli), before[at])
    if command is None:
        return []
    options = {name: each for each in command.params if isinstance(each, click.Option) for name in _spellings(each)}
    line = _read(command, options, before[at + 1 :])
    if line.elsewhere:
        return []
    if line.pending is not None:
        return candidates.values(line.pending, word, line.arguments)
    if not line.ended and word.startswith("-"):
        name, equals, value = word.partition("=")
        if not equals:
            return _starting(word, _names(command))
        found = candidates.values(options[name], value, line.arguments) if name in options else []
        return [each.behind(f"{name}=") for each in found]
    argument, further = _argument(command, len(line.arguments))
    if argument is None:
        return []
    if argument.type is click.UNPROCESSED:
        return [candidates.workload(len(words) - 1 - further)]
    return candidates.values(argument, word, line.arguments)


def _read(command: click.Command, options: dict[str, click.Option], words: Iterable[str]) -> _Line:
    line = _Line()
    interspersed = click.Context(command, **command.context_settings).allow_interspersed_args
    for word in words:
        if line.pending is not None:
            # Behind --image IMAGE come words of the engine.
            line.elsewhere = "..." in (line.pending.metavar or "")
            line.pending = None
        elif line.ended:
            line.arguments.append(word)
        elif word == "--":
            line.ended, line.elsewhere = True, False
        elif line.elsewhere:
            continue
        elif word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            option = options.get(name)
            if option is not None and not equals and not option.is_flag:
                line.pending = option
        else:
            line.arguments.append(word)
            line.ended = not interspersed
    return line


def _argument(command: click.Command, position: int) -> tuple[click.Argument | None, int]:
    """Return the argument that a word at this position is a value of, and how many values it has before."""
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            if parameter.nargs < 0 or position < parameter.nargs:
                return parameter, position
            position -= parameter.nargs
    return None, 0


def _spellings(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _names(command: click.Command) -> Iterable[tuple[str, str]]:
    """Return the options of a command with their help, each by its long name."""
    for parameter in command.get_params(click.Context(command)):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for names in filter(None, (parameter.opts, parameter.secondary_opts)):
                yield max(names, key=len), parameter.help or ""
    yield from candidates.further_options(command)


def _starting(word: str, rows: Iterable[tuple[str, str]]) -> list[Candidate]:
    return [Candidate(name, help) for name, help in rows if name.startswith(word)]
