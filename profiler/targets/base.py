"""The interface of a target: what it is given, what it returns, and what it says about itself.

A target turns a policy into the files of one system. An *artifact* enforces one layer (a seccomp profile, an AppArmor
profile). A *launcher* starts workloads and names artifacts (``docker run`` options, an OCI config.json). A target never
sees a trace, writes no file itself, and never imports another target.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

from profiler.errors import InputError
from profiler.policy.evidence import Coverage
from profiler.policy.model import Policy
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.template import BUILT_IN, Templates

T = TypeVar("T")

SECTIONS = (
    "syscalls",
    "arguments",
    "refused",
    "capabilities",
    "no_new_privs",
    "files",
    "transitions",
    "sockets",
    "signals",
    "inspections",
    "mounts",
)
"""Sections of a policy that a target can express. ``arguments``: the argument rules of syscalls; ``refused``: the
syscalls that are answered with an error of their own; ``transitions``: which program executes which."""


@dataclass(frozen=True)
class File:
    """A file to write. ``needs``: names of files that must be next to it, or it does not work."""

    name: str
    data: bytes
    executable: bool = False
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loss:
    """Something in the policy that a file does not express.

    ``item`` is empty when the whole section is meant. ``effect``: ``wider``, the file allows more than the policy;
    ``refused``, it refuses what the policy allows.
    """

    section: str
    item: str
    why: str
    effect: Literal["wider", "refused"] = "wider"


@dataclass(frozen=True)
class Step:
    """A line about a file's use, for people; a ``note`` is a fact about the result. ``text`` is plain text and may hold
    ``written(NAME)``."""

    kind: Literal["load", "use", "undo", "note"]
    text: str

    def line(self, paths: Mapping[str, str]) -> str:
        """Return the text with the path of each file, quoted for a shell. ``paths``: name of a file to its path."""
        return re.sub("\0([^\0]*)\0", lambda found: shell(paths[found[1]]), self.text)

    def renamed(self, name: Callable[[str], str]) -> str:
        """Return the text with other names of files."""
        return re.sub("\0([^\0]*)\0", lambda found: written(name(found[1])), self.text)


@dataclass(frozen=True)
class Output:
    """What a target made. ``called``: what launchers name an artifact by; default: the name of its first file."""

    files: tuple[File, ...]
    losses: tuple[Loss, ...] = ()
    usage: tuple[Step, ...] = ()
    called: str | None = None


@dataclass(frozen=True)
class Artifact:
    """A rendered artifact, as a launcher sees it: what it is called, and the content and the name of its first file."""

    called: str
    data: bytes
    file: str


@dataclass(frozen=True)
class Existing:
    """A user's file, which a target rewrites. ``name`` is for messages."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Request:
    """What a target is asked for. ``settings`` holds the values that were given, by name (read one with
    ``Setting.of``); ``artifacts`` the artifacts that a launcher can name."""

    policy: Policy
    settings: Mapping[str, object] = field(default_factory=dict)
    existing: Existing | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    templates: Templates = BUILT_IN
    coverage: Coverage | None = None
    """In how many recordings each syscall was seen, where the target ``counts`` and the recordings are known."""
    name_start: str = ""
    """What a name that an artifact makes must begin with, for a launcher that is rendered too."""

    def template(self, name: str, **values: object) -> bytes:
        """Fill in a template."""
        return self.templates.render(name, **values)


class OneOf:
    """A parser that accepts these words alone."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, text: str) -> str:
        """Return the word. Raises InputError for another one."""
        if text not in self.words:
            raise InputError(f"{printable(text)!r} is not one of {', '.join(self.words)}")
        return text


YES_OR_NO = OneOf("yes", "no")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """An option of one target, given as ``-O target.name=value``. ``parse`` raises InputError for a value that cannot
    be used. A setting with a bool as its default may be given without a value, which means yes."""

    name: str
    help: str
    metavar: str
    default: T
    parse: Callable[[str], T]

    def of(self, request: Request) -> T:
        """Return the value that was given, or the default."""
        return cast(T, request.settings.get(self.name, self.default))

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it accepts, empty when it accepts others too."""
        if isinstance(self.default, bool):
            return YES_OR_NO.words
        return self.parse.words if isinstance(self.parse, OneOf) else ()


@dataclass(frozen=True)
class Launches:
    """What makes a target a launcher. ``engines``: those that it can replace, as a recording names them. ``names``:
    artifacts that it names when they are rendered too. ``requires``: those of them that are always rendered for it.
    ``name_start``: what the names of the profiles that it names must begin with."""

    engines: frozenset[str]
    names: frozenset[str]
    requires: frozenset[str] = frozenset()
    name_start: str = ""


class Target(Protocol):
    """One system. To add one: a class in a module of its own, its template, and a line in
    profiler/targets/catalogue.py."""

    name: str
    summary: str
    """One line that names its files and who reads them."""
    says: frozenset[str]
    """The SECTIONS that its own files can express."""
    settings: tuple[Setting[Any], ...] = ()
    rewrites: str | None = None
    """The kind of file that it can rewrite, with its article; None when there is none."""
    launches: Launches | None = None
    """None for an artifact."""
    counts: bool = False
    """Whether its files say in how many recordings a syscall was seen."""

    def prefix(self, request: Request) -> str:
        """Return what the names of artifacts' files begin with for this launcher, such as ``web.``: where the files of
        several policies may lie next to its own. Raises InputError."""
        return ""

    def render(self, request: Request) -> Output:
        """Return the files. The same request gives the same bytes. Raises InputError for what cannot be rendered."""
        ...


def written(name: str) -> str:
    """Stand for the path of a file of the same output in the text of a :class:`Step`: where the file is written is
    known only afterwards. No path or argument can hold a NUL."""
    return f"\0{name}\0"


def absolute(text: str) -> str:
    """Parse an absolute path. One with ``..`` names another file in the presence of links, and no security module
    knows a path by it."""
    if not text.startswith("/") or text.startswith("//") or posixpath.normpath(text) != text:
        raise InputError(f"{printable(text)!r}: write an absolute path, without '.', '..' and '//', such as /srv/app")
    return text


def yes_or_no(text: str) -> bool:
    """Parse a setting that is on or off."""
    return YES_OR_NO(text) == "yes"
