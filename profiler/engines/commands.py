"""Command lines of engines: which of them start containers, and how to start one in two steps, so that watching can
begin in between.

Which options take a value is read from the engine's own ``--help``: a list here would be outdated by each release.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

CLIENTS = ("docker", "podman", "nerdctl")
"""Engines with Docker's ``run``, ``create``, ``start`` and ``inspect``."""

COMPOSERS = {"docker-compose": "docker", "podman-compose": "podman"}
"""Programs that start the services of a compose file, and the engine that each uses."""

_NOT_OF_CREATE = frozenset({"--detach", "--detach-keys", "--sig-proxy"})
"""Options of ``run`` that ``create`` lacks: they concern the start."""

_OPTION = re.compile(
    r"^ {1,8}(?:-(?P<short>\w), )? *--(?P<long>[a-z][a-z0-9-]*)(?: (?! "
    r")(?P<value>\S.*?))??(?P<optional>\[=[^]]*\])?(?: {2,}|$)"
)


@dataclass(frozen=True)
class Grammar:
    """Options of one command: long names with a value, long names without one, and the long name of each short one."""

    valued: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    shorts: Mapping[str, str] = field(default_factory=dict)


def grammar(help_text: str) -> Grammar:
    """Return the options in the text that ``--help`` prints (spf13/pflag: ``  -e, --env list   Set environment
    variables``)."""
    valued: set[str] = set()
    flags: set[str] = set()
    shorts = {}
    for line in help_text.splitlines():
        if found := _OPTION.match(line):
            name = f"--{found['long']}"
            # ``--pull string[="always"]`` takes a value only after an equals sign.
            (valued if found["value"] and not found["optional"] else flags).add(name)
            if found["short"]:
                shorts[found["short"]] = name
    return Grammar(frozenset(valued), frozenset(flags), shorts)


@dataclass(frozen=True)
class Option:
    """An option on a command line: its words, its long name, and its value."""

    words: tuple[str, ...]
    name: str
    value: str | None

    @property
    def on(self) -> bool:
        """Whether a flag is set; ``--detach=false`` is not."""
        return self.value is None or self.value.lower() not in ("false", "0", "f")


def options(words: Sequence[str], known: Grammar) -> tuple[list[Option], list[str]]:
    """Return the options at the start of ``words``, and the rest. An unknown long option takes a value, as hidden
    options of engines do."""
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
    """Return the short options in one word (``-itd``, ``-eA=1``, ``-e A=1``) and the number of words they take: the
    value of the last is the rest of its word or the next word."""
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
    """A ``run`` of an engine. ``client``: the words before ``run``. ``options``: those that ``create`` has too.
    ``image_and_command``: the words after the options."""

    engine: str
    client: tuple[str, ...]
    options: tuple[str, ...]
    image_and_command: tuple[str, ...]
    detached: bool = False
    interactive: bool = False


@dataclass(frozen=True)
class Compose:
    """An ``up`` of a compose file. ``project``: the words before ``up``, which choose the project."""

    engine: str
    words: tuple[str, ...]
    project: tuple[str, ...]


@dataclass(frozen=True)
class Other:
    """Another command of an engine, which does not start a container in the foreground."""

    engine: str
    verb: str


Help = Callable[[Sequence[str]], str]
"""Returns what a command prints."""


def is_client(argv: Sequence[str]) -> bool:
    """Return whether a command line is for an engine's client or for compose."""
    return bool(argv) and os.path.basename(argv[0]) in {*CLIENTS, *COMPOSERS}


def recognise(argv: Sequence[str], help_of: Help) -> Run | Compose | Other | None:
    """Return what a command line asks an engine to do; None for a program that is not an engine's client."""
    if not is_client(argv):
        return None
    program = os.path.basename(argv[0])
    if program in COMPOSERS:
        return _compose(COMPOSERS[program], argv[:1], argv[1:], help_of)
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
    """Return the Run for parsed options."""
    return Run(
        engine,
        tuple(client),
        tuple(word for option in given if option.name not in _NOT_OF_CREATE for word in option.words),
        tuple(image_and_command),
        detached=_last(given, "--detach"),
        interactive=_last(given, "--interactive"),
    )


def _last(given: Sequence[Option], name: str) -> bool:
    """Return whether a flag is set: its last occurrence counts (pflag)."""
    states = [option.on for option in given if option.name == name]
    return bool(states) and states[-1]


def _compose(engine: str, client: Sequence[str], words: Sequence[str], help_of: Help) -> Compose | Other:
    given, rest = options(words, grammar(help_of([*client, "--help"])))
    before = (*client, *(word for option in given for word in option.words))
    if rest[:1] != ["up"]:
        return Other(engine, " ".join(["compose", *rest[:1]]))
    return Compose(engine, (*client, *words), before)
