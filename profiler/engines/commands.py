"""Command lines of engines: which of them start containers, and the same in two steps, so that watching can begin in
between.

Which options take a value is asked of the engine itself (its ``--help``): lists of our own would go stale with every
release.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

CLIENTS = ("docker", "podman", "nerdctl")
"""Engines whose ``run``, ``create``, ``start`` and ``inspect`` are Docker's."""

COMPOSERS = {"docker-compose": "docker", "podman-compose": "podman"}
"""Programs that start the services of a compose file, and the engine they use."""

_NOT_OF_CREATE = frozenset({"--detach", "--detach-keys", "--sig-proxy"})
"""Options of ``run`` that ``create`` has not: they are about what comes after."""

_OPTION = re.compile(
    r"^ {1,8}(?:-(?P<short>\w), )? *--(?P<long>[a-z][a-z0-9-]*)(?: (?! "
    r")(?P<value>\S.*?))??(?P<optional>\[=[^]]*\])?(?: {2,}|$)"
)


@dataclass(frozen=True)
class Grammar:
    """Options of one command: long names that take a value, long names that take none, and the long name of each short
    one."""

    valued: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    shorts: Mapping[str, str] = field(default_factory=dict)


def grammar(help_text: str) -> Grammar:
    """From the text that ``--help`` prints (the format of spf13/pflag: ``  -e, --env list   Set environment
    variables``)."""
    valued: set[str] = set()
    flags: set[str] = set()
    shorts = {}
    for line in help_text.splitlines():
        if found := _OPTION.match(line):
            name = f"--{found['long']}"
            # ``--pull string[="always"]`` takes its value with an equals sign only.
            (valued if found["value"] and not found["optional"] else flags).add(name)
            if found["short"]:
                shorts[found["short"]] = name
    return Grammar(frozenset(valued), frozenset(flags), shorts)


@dataclass(frozen=True)
class Option:
    """One option as it was written: its words, its long name, and whether it was switched off (``--detach=false``)."""

    words: tuple[str, ...]
    name: str
    value: str | None

    @property
    def on(self) -> bool:
        """Of a flag: whether it is set."""
        return self.value is None or self.value.lower() not in ("false", "0", "f")


def options(words: Sequence[str], known: Grammar) -> tuple[list[Option], list[str]]:
    """The options that ``words`` begin with, and the rest. An unknown long option takes a value: those that help does
    not list do."""
    found: list[Option] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if equals or name in known.flags:
                found.append(Option((word,), name, value if equals else None))
                at += 1
            else:
                found.append(Option(tuple(words[at : at + 2]), name, words[at + 1] if at + 1 < len(words) else ""))
                at += 2
        elif word.startswith("-") and len(word) > 1:
            cluster, taken = _cluster(words, at, known)
            found += cluster
            at += taken
        else:
            break
    return found, list(words[at:])


def _cluster(words: Sequence[str], at: int, known: Grammar) -> tuple[list[Option], int]:
    """``-itd``, ``-eA=1``, ``-e A=1``: short options in one word, the last may take the rest or the next word as its
    value."""
    word = words[at]
    found: list[Option] = []
    for index, letter in enumerate(word[1:], 1):
        name = known.shorts.get(letter, f"-{letter}")
        rest = word[index + 1 :]
        if name not in known.valued and not rest.startswith("="):
            found.append(Option((f"-{letter}",), name, None))
            continue
        if rest:
            found.append(Option((f"-{letter}{rest}",), name, rest.removeprefix("=")))
            return found, 1
        following = tuple(words[at + 1 : at + 2])
        found.append(Option((f"-{letter}", *following), name, following[0] if following else ""))
        return found, 1 + len(following)
    return found, 1


@dataclass(frozen=True)
class Run:
    """A ``run`` of an engine. ``client``: its words up to ``run``, global options and all. ``options``: those for
    ``create``.

    ``image_and_command``: what follows the options.
    """

    engine: str
    client: tuple[str, ...]
    options: tuple[str, ...]
    image_and_command: tuple[str, ...]
    detached: bool = False
    interactive: bool = False
    terminal: bool = False
    """The container has a terminal of its own, shown on ours."""


@dataclass(frozen=True)
class Compose:
    """An ``up`` of a compose file. ``project``: the words that ask for its configuration, to which options may be
    added."""

    engine: str
    words: tuple[str, ...]
    project: tuple[str, ...]


@dataclass(frozen=True)
class Other:
    """Another command of an engine's: the client does its work through the engine, and no container is the workload."""

    engine: str
    verb: str


Help = Callable[[Sequence[str]], str]
"""The text that these words print."""


def recognise(argv: Sequence[str], help_of: Help) -> Run | Compose | Other | None:
    """What a command line means to an engine; None for a program that is no engine's."""
    program = os.path.basename(argv[0]) if argv else ""
    if program in COMPOSERS:
        return _compose(COMPOSERS[program], argv[:1], argv[1:], help_of)
    if program not in CLIENTS:
        return None
    given, rest = options(argv[1:], grammar(help_of([argv[0], "--help"])))
    client = (argv[0], *(word for option in given for word in option.words))
    if rest[:1] == ["compose"]:
        return _compose(program, (*client, "compose"), rest[1:], help_of)
    if rest[:1] == ["container"]:
        rest = rest[1:]
    if rest[:1] != ["run"]:
        return Other(program, rest[0] if rest else "")
    known = grammar(help_of([argv[0], "run", "--help"]))
    given, image_and_command = options(rest[1:], known)
    return run(program, client, given, image_and_command)


def run(engine: str, client: Sequence[str], given: Sequence[Option], image_and_command: Sequence[str]) -> Run:
    """A Run from options already taken apart."""
    return Run(
        engine,
        tuple(client),
        tuple(word for option in given if option.name not in _NOT_OF_CREATE for word in option.words),
        tuple(image_and_command),
        detached=_last(given, "--detach"),
        interactive=_last(given, "--interactive"),
        terminal=_last(given, "--tty"),
    )


def _last(given: Sequence[Option], name: str) -> bool:
    """Whether a flag is set: the last word on it counts (pflag)."""
    states = [option.on for option in given if option.name == name]
    return bool(states) and states[-1]


def _compose(engine: str, client: Sequence[str], words: Sequence[str], help_of: Help) -> Compose | Other:
    given, rest = options(words, grammar(help_of([*client, "--help"])))
    before = (*client, *(word for option in given for word in option.words))
    if rest[:1] != ["up"]:
        return Other(engine, " ".join(["compose", *rest[:1]]))
    return Compose(engine, (*client, *words), before)
