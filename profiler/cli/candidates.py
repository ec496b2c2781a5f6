"""Candidates for values on the command line: files of the right kind, names, and what runs on this machine.

Each source gets the word as far as it is typed, and the arguments before it. Programs that do not answer in time are
not waited for, and what fails gives no candidates: a shell must not show a message while somebody types.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import click

from profiler.errors import ProfgenError

SECONDS = 0.7
"""How long other programs may take to answer."""

_HEAD_BYTES = 4096
_ENTRIES_MAX = 4000
"""Entries of a directory that are looked at."""

_MARKS = {"trace": b'"profgen.trace/', "policy": b"profgen.policy/"}
"""What the head of a file of this kind holds."""
_SUFFIXES = {"trace": (".json",), "policy": (".yaml", ".yml"), "document": (".json", ".yaml", ".yml")}


@dataclass(frozen=True)
class Candidate:
    """A word that can be typed. ``sort``: "open" when more of the same word follows; "command" for a command line of
    its own, which begins at the word with the number ``value``."""

    value: str
    help: str = ""
    sort: Literal["word", "open", "file", "directory", "command"] = "word"

    def behind(self, start: str) -> Candidate:
        """Return it with ``start`` in front."""
        return dataclasses.replace(self, value=start + self.value)


Source = Callable[[str, Sequence[str]], Iterable[Candidate]]


def values(parameter: click.Parameter, word: str, arguments: Sequence[str]) -> list[Candidate]:
    """Return the candidates for a value of an option or argument that begins with ``word``."""
    if isinstance(parameter.type, click.Choice):
        found: Iterable[Candidate] = (Candidate(str(choice)) for choice in parameter.type.choices)
    else:
        found = _from_sources(parameter, word, arguments)
    return [each for each in found if each.value.startswith(word)]


def _from_sources(parameter: click.Parameter, word: str, arguments: Sequence[str]) -> Iterator[Candidate]:
    if parameter.name in _BY_NAME:
        yield from _BY_NAME[parameter.name](word, arguments)
        return
    words = re.sub(r"\[OPTION\.\.\.\]|\.\.\.|[\[\] ]", "", parameter.metavar or "").split("|")
    kinds = {kind for each in words for kind in _KINDS.get(each, ())}
    if kinds:
        yield from paths(word, frozenset() if parameter.name in _WRITTEN else frozenset(kinds))
    for each in words:
        if each in _BY_METAVAR:
            yield from _BY_METAVAR[each](word, arguments)
        elif each not in _KINDS and each.islower():  # FILE|journal
            yield Candidate(each)


def workload(words: int) -> Candidate:
    """Return the candidate that leaves a command line after this many words to the shell itself."""
    return Candidate(str(words), sort="command")


def further_options(command: click.Command) -> Iterator[tuple[str, str]]:
    """Return the options that a command takes besides its parameters: ``--apparmor-name`` stands for a setting."""
    if any(parameter.name == "settings" for parameter in command.params):
        from profiler.targets.catalogue import TARGETS

        for target in TARGETS:
            for setting in target.settings:
                yield f"--{target.name}-{setting.name}", setting.help


def paths(word: str, kinds: frozenset[str]) -> list[Candidate]:
    """Return the files of these kinds (keys of _SUFFIXES) that a word can become, and directories; all files when
    there is none of these kinds, or no kind is given. Names with control characters are left out."""
    folder, start = os.path.split(word)
    lead = word[: len(word) - len(start)]
    files: list[Candidate] = []
    others: list[Candidate] = []
    directories: list[Candidate] = []
    try:
        entries = os.scandir(os.path.expanduser(folder) or ".")
    except OSError:
        return []
    with entries:
        for _, entry in zip(range(_ENTRIES_MAX), entries, strict=False):
            name = entry.name
            if not name.startswith(start) or (name[0] == "." and not start) or not name.isprintable():
                continue
            if entry.is_dir():
                directories.append(Candidate(f"{lead}{name}/", sort="directory"))
            elif "directory" in kinds and len(kinds) == 1:
                continue
            else:
                into = files if any(_is_a(entry, kind) for kind in kinds) else others
                into.append(Candidate(lead + name, sort="file"))
    return sorted([*(files or ([] if directories and kinds else others)), *directories], key=lambda each: each.value)


def _is_a(entry: os.DirEntry[str], kind: str) -> bool:
    """Return whether a file is of a kind, by its suffix and its head."""
    if kind not in _SUFFIXES or not entry.name.endswith(_SUFFIXES[kind]) or not entry.is_file():
        return False
    if kind not in _MARKS:
        return True
    try:
        with open(os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return _MARKS[kind] in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _containers(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    yield from _asked(["ps", "--format", "{{.Names}}\t{{.Image}}"])


def _images(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    for each in _asked(["images", "--format", "{{.Repository}}:{{.Tag}}\t{{.Size}}"]):
        if "<none>" not in each.value:
            yield each


def _asked(words: Sequence[str]) -> Iterator[Candidate]:
    """Ask every engine at the same time; each line of an answer is a name and its help."""
    from profiler.engines.engine import installed

    waiting, until = [], time.monotonic() + SECONDS
    for engine in installed():
        try:
            waiting.append((engine.name, engine.inquire(words)))
        except ProfgenError:
            continue
    while waiting and time.monotonic() < until:
        for name, inquiry in list(waiting):
            answer = inquiry.answer()
            if answer is not None:
                waiting.remove((name, inquiry))
                yield from (_row(line, name) for line in answer.splitlines() if line)
        time.sleep(0.005)
    for _, inquiry in waiting:
        inquiry.drop()


def _row(line: str, what: str) -> Candidate:
    value, _, help = line.partition("\t")
    return Candidate(value, f"{help} ({what})" if help else what)


def _units(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler import run

    words = ["systemctl", "list-units", "--plain", "--no-legend", "--no-pager", "--full", "--type=service,scope,slice"]
    try:
        text = run.ask(words, seconds=SECONDS, ends_with_us=True).text
    except ProfgenError:
        return
    for line in text.splitlines():
        name, *rest = line.split(None, 4)
        yield Candidate(name, rest[-1] if len(rest) == 4 else "")


def _pids(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and name.startswith(word)):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                argv = file.read(200).split(b"\0")
        except OSError:
            continue
        if argv[0]:  # threads of the kernel have none
            yield Candidate(str(pid), os.fsdecode(b" ".join(argv)).strip())


def _users(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            name, *rest = line.split(":")
            if len(rest) > 3:
                yield Candidate(name, rest[3])


def _cgroups(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.engines.cgroups import mounted

    found: dict[str, Candidate] = {}
    for hierarchy in mounted():
        for each in paths(hierarchy.mount + (word or "/"), frozenset({"directory"})):
            value = each.value[len(hierarchy.mount) :]
            found[value] = Candidate(value, sort="directory")
    yield from found.values()


def _targets(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.targets.catalogue import TARGETS

    yield from _joined(word, [(target.name, target.summary) for target in TARGETS])


def _settings(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.targets.catalogue import TARGETS

    for target in TARGETS:
        for setting in target.settings:
            name = f"{target.name}.{setting.name}"
            words = setting.words
            if isinstance(setting.default, bool):
                yield Candidate(name, setting.help)
            if word.startswith(f"{name}="):
                yield from (Candidate(f"{name}={each}") for each in words)
            elif not isinstance(setting.default, bool):
                yield Candidate(f"{name}=", setting.help, "open")


def _limits(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.tracers.ebpf.limits import DEFAULT_LIMITS

    yield from (Candidate(f"{name}=", f"default: {size}", "open") for name, size in DEFAULT_LIMITS.items())


def _runtimes(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.cli.derive_options import RUNTIMES

    yield from (Candidate(name) for name in RUNTIMES)


def _yardsticks(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.review.yardsticks import YARDSTICKS

    yield from (Candidate(name) for name in YARDSTICKS)
    yield from paths(word, frozenset({"document"}))


def _reports(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.cli.results import FORMATS

    name, colon, path = word.partition(":")
    if colon and name in FORMATS:
        yield from (each.behind(f"{name}:") for each in paths(path, frozenset()))
        return
    yield from (Candidate(f"{each}:", sort="open") for each in FORMATS)
    yield from paths(word, frozenset())


def _capabilities(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    from profiler.kernel.capabilities import CAPABILITIES

    yield from _joined(
        word, [*((each, "") for each in ("docker", "all", "none")), *((each, "") for each in CAPABILITIES)]
    )


def _rights(word: str, _: Sequence[str]) -> Iterator[Candidate]:
    """Capabilities, and syscalls of this machine."""
    from profiler.kernel.abi import native_abi
    from profiler.kernel.capabilities import CAPABILITIES
    from profiler.kernel.syscalls import names_of

    yield from (Candidate(name) for name in (*CAPABILITIES, *sorted(names_of(native_abi()))))


def _joined(word: str, rows: Iterable[tuple[str, str]]) -> Iterator[Candidate]:
    """Candidates for a list with commas: those that it does not have yet, behind those that it has."""
    before, comma, _ = word.rpartition(",")
    given = before.split(",")
    return (Candidate(name, help).behind(before + comma) for name, help in rows if name not in given)


def _items(word: str, arguments: Sequence[str]) -> Iterator[Candidate]:
    """Entries of the policy, or of the trace, that the first argument names."""
    from profiler.policy import document
    from profiler.policy.derive import derive
    from profiler.policy.directory import policy_path
    from profiler.policy.model import Options
    from profiler.trace.store import is_trace, loads, read_limited

    path = policy_path(os.path.expanduser(arguments[0]))
    data = read_limited(path)
    policy = derive(loads(data, path), Options()) if is_trace(data) else document.loads(data, path)
    native = policy.abis[0]
    yield from (
        Candidate(row.name if row.abi == native else f"{row.abi}:{row.name}", "syscall") for row in policy.syscalls
    )
    yield from (Candidate(row.name, "capability") for row in policy.capabilities)
    yield from (Candidate(name, "socket") for name in sorted({row.family for row in policy.sockets}))
    yield from (Candidate(f"SIG{name}", "signal") for name in sorted({row.signal for row in policy.signals}))
    yield from (Candidate(row.pattern, ", ".join(row.access)) for row in policy.files if row.pattern.isprintable())
    programs = sorted({row.program for row in policy.transitions if row.program.isprintable()})
    yield from (Candidate(f"exec:{name}", "program") for name in programs)


_WRITTEN = ("output", "into")
"""Parameters that name a file of any kind."""

_KINDS: dict[str, tuple[str, ...]] = {
    "TRACE": ("trace",),
    "POLICY": ("policy",),
    "policy.yaml": ("policy",),
    "FILE": ("document",),
    "OLD": ("document",),
    "NEW": ("document",),
    "DIR": ("directory",),
    "DIRECTORY": ("directory",),
    "PATH": ("any",),
}
"""Metavar to the kinds of files that it means."""

_BY_METAVAR: dict[str, Source] = {
    "CONTAINER": _containers,
    "IMAGE": _images,
    "UNIT": _units,
    "PID": _pids,
    "USER": _users,
    "TARGET": _targets,
    "ITEM": _items,
}

_BY_NAME: dict[str | None, Source] = {
    "container": _containers,
    "cgroup": _cgroups,
    "settings": _settings,
    "limits": _limits,
    "runtime": _runtimes,
    "compare": _yardsticks,
    "reports": _reports,
    "capabilities": _capabilities,
    "allow_dangerous": _rights,
}
"""Parameters with a metavar that says too little."""
