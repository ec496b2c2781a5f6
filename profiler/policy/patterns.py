r"""Path patterns: how policy.yaml writes one path, or all paths of a kind.

A pattern is literal text with classes in braces: ``/var/lib/app/{uuid}.json``. A ``{``, ``}`` or ``\`` of the path
itself is written ``\{``, ``\}``, ``\\``; unprintable characters, and bytes that are not UTF-8, are written ``\xNN``,
one for each byte. So a pattern is always one line of printable text, and a file name cannot be mistaken for a class.

In policy.yaml, ``{@name}`` at the start of a pattern means a place that the policy names
(profiler/policy/variables.py). Code that compares paths never sees one: it matches no path.

Paths are ``str`` as os.fsdecode returns them: bytes that are not UTF-8 are lone surrogates (PEP 383).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from profiler.errors import InputError
from profiler.quoting.text import printable


@dataclass(frozen=True)
class Sort:
    """A class of texts.

    ``regex`` is in the syntax of :mod:`re`. Every alternative in it has a bounded length, except for ``name`` and
    ``tree``, so that a security module without repetition can express exactly the same. ``words`` describe the class.
    """

    regex: str
    words: str


ALPHABETS = {
    "digits": ("0-9", "digits"),
    "hex": ("0-9A-Fa-f", "hexadecimal digits"),
    "lower": ("0-9a-z", "digits and lower-case letters"),
    "upper": ("0-9A-Z", "digits and capital letters"),
    "random": ("0-9A-Za-z_", "letters, digits and underscores"),
    "base64": ("-0-9A-Za-z_", "letters, digits, hyphens and underscores"),
}
"""The classes that can have a length (``{hex:8}``, ``{lower:7-13}``), each with its characters, as in a bracket
expression, and words for them."""

LENGTH_MAX = 128
"""The largest length of such a class: SHA-512 in hexadecimal digits."""

_HEX_LENGTHS = (16, 24, 32, 38, 40, 56, 64, 96, 128)
_RANDOM_LENGTHS = (6, 8, 10)
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_MONTH, _DAY = "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"


def _either(name: str, lengths: Sequence[int]) -> str:
    return "(?:" + "|".join(f"[{ALPHABETS[name][0]}]{{{length}}}" for length in lengths) + ")"


CLASSES = {
    # At most 2**22: PID_MAX_LIMIT, linux/threads.h; threads are numbered with processes
    "pid": Sort("[1-9][0-9]{0,6}", "any process id"),
    "tid": Sort("[1-9][0-9]{0,6}", "any thread id"),
    # RFC 9562, in either case
    "uuid": Sort("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "any UUID"),
    # 64 bits, MongoDB's ids, MD5, git's object files, SHA-1, and the SHA-2 family
    "hex": Sort(
        _either("hex", _HEX_LENGTHS),
        f"{', '.join(map(str, _HEX_LENGTHS[:-1]))} or {_HEX_LENGTHS[-1]} hexadecimal digits",
    ),
    "digits": Sort("[0-9]{1,20}", "any number of up to 20 digits"),
    # mkstemp(3) and mkdtemp(3) of libc make 6 characters, Python's tempfile 8, mktemp(1) 10
    "random": Sort(_either("random", _RANDOM_LENGTHS), "any 6, 8 or 10 letters, digits and underscores"),
    # The last form is that of kubelet's volumes (pkg/volume/util/atomic_writer.go)
    "date": Sort(
        f"(?:19|20)[0-9][0-9](?:(?:-{_MONTH}-{_DAY}|{_MONTH}{_DAY})(?:[T_ -]?{_HOUR}[:-]?{_SIXTY}(?:[:-]?{_SIXTY})?)?"
        f"|_{_MONTH}_{_DAY}_{_HOUR}_{_SIXTY}_{_SIXTY})",
        "any date as YYYY-MM-DD or YYYYMMDD, with or without a time, or as YYYY_MM_DD_HH_MM_SS",
    ),
    "version": Sort(r"[0-9]{1,8}(?:\.[0-9]{1,8}){0,3}", "any version of up to four numbers"),
    "name": Sort("[^/]+", "any name in this directory"),
    "tree": Sort("(?s:.+)", "everything below this directory"),
    "home": Sort("(?:/root|/home/[^/]+)", "any user's home directory"),
}
"""The classes without a length, by name. ``home`` is allowed only at the start of a pattern."""

_SIZED = re.compile(r"([a-z0-9]+):([1-9][0-9]{0,2})(?:-([1-9][0-9]{0,2}))?\Z")


def sized(name: str) -> tuple[str, int, int] | None:
    """Return (alphabet, least length, largest length) of a class with a length, such as ``hex:8``; None for others."""
    found = _SIZED.match(name)
    if not found or found[1] not in ALPHABETS:
        return None
    least, most = int(found[2]), int(found[3] or found[2])
    written = f"{least}" if least == most else f"{least}-{most}"
    return (found[1], least, most) if least <= most <= LENGTH_MAX and name == f"{found[1]}:{written}" else None


def lengths(name: str) -> tuple[str, frozenset[int]] | None:
    """Return the alphabet of a class and the lengths of its texts; None if more than these decides."""
    if found := sized(name):
        return found[0], frozenset(range(found[1], found[2] + 1))
    known = {"digits": range(1, 21), "hex": _HEX_LENGTHS, "random": _RANDOM_LENGTHS}
    return (name, frozenset(known[name])) if name in known else None


@lru_cache(maxsize=1 << 10)
def sort_of(name: str) -> Sort | None:
    """Return the class with this name, with or without a length; None if there is none."""
    found = sized(name)
    if found is None:
        return CLASSES.get(name)
    alphabet, least, most = found
    characters, words = ALPHABETS[alphabet]
    return Sort(
        f"[{characters}]{{{least},{most}}}", f"{least} {words}" if least == most else f"{least} to {most} {words}"
    )


@dataclass(frozen=True)
class Literal:
    """Text that matches itself."""

    text: str


@dataclass(frozen=True)
class Class:
    """Any text of one class: a name in CLASSES, or one of the ALPHABETS with a length (:func:`sized`)."""

    name: str


@dataclass(frozen=True)
class Place:
    """A variable of the policy (profiler/policy/variables.py), at the start of a pattern."""

    name: str


Token = Literal | Class | Place

VARIABLE = re.compile(r"\{@((?:mount|volume)_[A-Za-z0-9_]{1,60})\}(?=/|\Z)")
"""A variable, where one is allowed. The first word distinguishes it from the classes and from AppArmor's own
variables."""

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([\\{}]))")
_CLASS = re.compile(r"\{([a-z][a-z0-9:-]*)\}")
_PLAIN = re.compile(r"[^\\{}]+")
_ORDINARY = re.compile(r"[ -\[\]-z|~]*")
"""Printable ASCII that stands for itself."""
_CHOICE = f"one of {', '.join(CLASSES)}; with a length up to {LENGTH_MAX} ({{hex:8}}) one of {', '.join(ALPHABETS)}"


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{printable(text)[:200]!r} is not a path: it has a character that does not represent a byte"
        ) from error


def _escaped(char: str) -> str:
    if char in "\\{}":
        return "\\" + char
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def literal(path: str) -> str:
    """Return the pattern that matches only ``path``. Raises InputError for a text that does not represent bytes."""
    if path.isascii() and _ORDINARY.fullmatch(path):
        return path
    path = _bytes(path).decode("utf-8", "surrogateescape")
    if path.isprintable() and not re.search(r"[\\{}]", path):
        return path
    return "".join(map(_escaped, path))


def dumps(tokens: Iterable[Token]) -> str:
    """Return the pattern as text. Raises InputError for an unknown class, or text that does not represent bytes."""
    parts: list[str] = []
    text = ""
    for token in tokens:
        if isinstance(token, Literal):
            text += token.text
            continue
        if isinstance(token, Place):
            parts.append(f"{{@{token.name}}}")
            continue
        if sort_of(token.name) is None:
            raise InputError(f"there is no class {{{printable(token.name)[:40]}}} in a pattern: {_CHOICE}")
        parts += [literal(text), f"{{{token.name}}}"]
        text = ""
    return "".join([*parts, literal(text)])


@lru_cache(maxsize=1 << 14)
def parse(text: str) -> tuple[Token, ...]:
    """Return the parts of a pattern, without adjacent or empty literals.

    Raises InputError with one line that says what is wrong.
    """
    tokens: list[Token] = []
    data = bytearray()

    def fail(what: str) -> InputError:
        return InputError(f"{printable(text)[:200]!r} is not a pattern: {what}")

    def flush() -> None:
        if data:
            tokens.append(Literal(data.decode("utf-8", "surrogateescape")))
            data.clear()

    at = 0
    if found := VARIABLE.match(text):
        tokens.append(Place(found[1]))
        at = found.end()
    while at < len(text):
        if found := _PLAIN.match(text, at):
            data += _bytes(found[0])
        elif text[at] == "\\":
            found = _ESCAPE.match(text, at)
            if not found:
                raise fail(r"after \ only {, }, \ or xNN may follow")
            data += bytes.fromhex(found[1]) if found[1] else found[2].encode()
        else:
            found = _CLASS.match(text, at)
            if not found:
                raise fail(r"a brace of the path itself is written \{ or \}")
            if sort_of(found[1]) is None:
                raise fail(f"there is no class {found[0]}: {_CHOICE}")
            if found[1] == "home" and at:
                raise fail("{home} is allowed only at the start")
            flush()
            tokens.append(Class(found[1]))
        at = found.end()
    flush()
    return tuple(tokens)


def is_literal(text: str) -> bool:
    """Return whether the pattern has no class. Raises InputError."""
    return _ORDINARY.fullmatch(text) is not None or not any(isinstance(token, Class) for token in parse(text))


def start_of(text: str) -> str:
    """Return the text before the first class, with which all paths of the pattern begin. Raises InputError."""
    if _ORDINARY.fullmatch(text):
        return text
    first = next(iter(parse(text)), None)
    return first.text if isinstance(first, Literal) else ""


def end_of(text: str) -> str:
    """Return the text behind the last class, with which all paths of the pattern end. Raises InputError."""
    if _ORDINARY.fullmatch(text):
        return text
    last = next(reversed(parse(text)), None)
    return last.text if isinstance(last, Literal) else ""


def path_of(text: str) -> str | None:
    """Return the one path that a literal pattern matches; None for any other. Raises InputError."""
    tokens = parse(text)
    if not tokens:
        return ""
    first = tokens[0]
    return first.text if len(tokens) == 1 and isinstance(first, Literal) else None


@lru_cache(maxsize=1 << 12)
def _compiled(text: str) -> re.Pattern[str]:
    return re.compile("".join(map(_regex, parse(text))))


def _regex(token: Token) -> str:
    if isinstance(token, Literal):
        return re.escape(token.text)
    sort = sort_of(token.name) if isinstance(token, Class) else None
    return "(?!)" if sort is None else sort.regex


def matches(text: str, path: str) -> bool:
    """Return whether the pattern matches ``path``. Raises InputError."""
    if text == path and _ORDINARY.fullmatch(text):
        return True
    if not path.startswith(start_of(text)):
        return False
    return _compiled(text).fullmatch(_bytes(path).decode("utf-8", "surrogateescape")) is not None


def opens(text: str) -> str:
    """Return in words what the classes of a pattern match; empty for a literal one. Raises InputError."""
    names = dict.fromkeys(token.name for token in parse(text) if isinstance(token, Class))
    return ", ".join(sort.words for name in names if (sort := sort_of(name)))
