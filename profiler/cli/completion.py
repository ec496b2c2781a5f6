"""``profgen completion``: a script that completes profgen's command lines in a shell."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import click

from profiler.cli.terminal import emit

SECONDS = 3.0
"""A shell never waits longer for candidates, whatever a file system does; engines have less time."""

SCRIPTS = {"bash": "profgen.bash", "zsh": "_profgen", "fish": "profgen.fish"}
"""Shell to the name under which it looks for the script; the files are in profiler/cli/shells."""


def script(shell: str) -> bytes:
    """Return the script for a shell."""
    return (Path(__file__).parent / "shells" / SCRIPTS[shell]).read_bytes()


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(SCRIPTS)))
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- WORD...]")
def completion(shell: str, words: tuple[str, ...]) -> None:
    """Print a script that completes profgen's commands, options and their values in a shell.

    Packages install the scripts. With words behind -- it prints the candidates for the last one, as the scripts read
    them: on each line a sort, the candidate, and its help.

    \b
      eval "$(profgen completion bash)"
      profgen completion zsh > ~/.zfunc/_profgen
      profgen completion fish > ~/.config/fish/completions/profgen.fish
    """
    if not words:
        emit(script(shell))
        return
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    # Nothing that fails may print a message between the words that somebody types.
    with contextlib.suppress(Exception):
        emit(_candidates(shell, words))
    signal.setitimer(signal.ITIMER_REAL, 0)


def _candidates(shell: str, words: tuple[str, ...]) -> bytes:
    from profiler.cli.completing import complete, unquoted
    from profiler.quoting.text import printable

    # fish gives words without quotes, except for the one that is being typed.
    raw = words[-1:] if shell == "fish" else words
    plain = [*words[: len(words) - len(raw)], *map(unquoted, raw)]
    rows = dict.fromkeys(each for each in complete(plain) if each.value.isprintable())
    lines = (f"{each.sort}\t{each.value}\t{printable(_first(each.help))}\n" for each in rows)
    return "".join(lines).encode("utf-8", "backslashreplace")


def _first(text: str) -> str:
    """Return the first sentence of a help text."""
    return text.split(".  ")[0].split(". ")[0].removesuffix(".")
