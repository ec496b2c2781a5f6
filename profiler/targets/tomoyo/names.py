r"""How TOMOYO names the files of a policy.

Names are absolute in the mount namespace, those of directories end with a slash. File systems without rename(2) have
names of their own, ``proc:/self/maps`` (tomoyo_realpath_from_path in security/tomoyo/realpath.c of Linux 6.1; tried).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from profiler.policy import patterns
from profiler.policy.patterns import Class, Literal
from profiler.quoting.tomoyo import Inexpressible, Wildcard, tomoyo

FORMS_MAX = 64
"""Words for one pattern; past it, wider ones are written."""

_LOCAL = (
    ("/dev/pts", "devpts:"),
    ("/dev/mqueue", "mqueue:"),
    ("/sys/kernel/security", "securityfs:"),
    ("/sys/kernel/debug", "debugfs:"),
    ("/sys/kernel/tracing", "tracefs:"),
    ("/proc", "proc:"),
)
"""Where file systems without rename(2) are mounted, and what their names begin with."""

_PROCESS = re.compile(r"/proc/(?:\{pid\}|\{tid\}|self|thread-self|[0-9]+)(?=/|$)")
_NAMESPACES = re.compile(r"/proc/(?:\{pid\}|[0-9]+)/(?:task/[^/]+/)?ns/([a-z_]+)$")

_HEX, _DIGIT, _DIGITS, _ANY, _REST = (Wildcard(text) for text in ("\\x", "\\+", "\\$", "\\?", "\\*"))
_BELOW = Wildcard("\\{\\*\\}/")
"""One or more directories; a slash must be before it."""

Parts = tuple[str | Wildcard, ...]

_GROUP: Parts = ("-", *(_HEX,) * 4)
_EXACT: dict[str, tuple[Parts, ...]] = {
    "pid": ((_DIGITS,),),
    "tid": ((_DIGITS,),),
    "digits": ((_DIGITS,),),
    "uuid": ((*(_HEX,) * 8, *_GROUP * 3, "-", *(_HEX,) * 12),),
    "version": tuple((_DIGITS, *(".", _DIGITS) * count) for count in range(4)),
    "name": ((_ANY, _REST),),
    "home": (("/root",), ("/home/", _ANY, _REST)),
}
"""Classes that a pattern of TOMOYO says; digits may be more than the class allows."""
_WIDE = (_ANY, _REST)


def words(pattern: str, kinds: Sequence[str], whose: Sequence[str] = ()) -> tuple[tuple[str, ...], bool]:
    """Return what TOMOYO writes for the paths of a pattern, and whether that is more than the pattern.

    ``kinds``: of the files; a directory has another form. Raises Inexpressible.
    """
    if found := _NAMESPACES.match(pattern):
        return (f"{found[1].removesuffix('_for_children')}:[\\$]",), False
    directory = bool({"directory", "unknown"} & set(kinds))
    other = not kinds or set(kinds) != {"directory"}
    wide = False
    forms: list[Parts] = []
    for start, rest in _places(pattern, whose):
        ends, wider = _alternatives(rest)
        wide = wide or wider
        forms += [(*start, *end) for end in ends]
    if len(forms) > FORMS_MAX:
        raise Inexpressible("too many forms")
    several: list[str] = []
    for form in forms:
        word = tomoyo(form)
        if other and not word.endswith(("/", ":")):
            several.append(word)
        if directory:
            several.append(word if word.endswith("/") else f"{word}/")
    if not several:
        raise Inexpressible("a name that ends like this is one of a directory")
    return tuple(dict.fromkeys(several)), wide


def _places(pattern: str, whose: Sequence[str]) -> Iterator[tuple[Parts, str]]:
    """Yield what a name begins with, and the rest of the pattern."""
    if pattern.lstrip("/").startswith("memfd:"):
        yield ("tmpfs:/",), pattern.lstrip("/")
        return
    if found := _PROCESS.match(pattern):
        if not whose or "self" in whose:
            yield ("proc:/self",), pattern[found.end() :]
        if set(whose) != {"self"}:
            yield ("proc:/", _DIGITS), pattern[found.end() :]
        return
    if not pattern.startswith(("/", "{home}")):
        raise Inexpressible("no path leads to it")
    for place, name in _LOCAL:
        if pattern == place or pattern.startswith(f"{place}/"):
            yield (name,), pattern[len(place) :] or "/"
            return
    yield (), pattern


def _alternatives(pattern: str) -> tuple[tuple[Parts, ...], bool]:
    choices: list[tuple[Parts, ...]] = []
    wide = False
    before: Parts = (_REST, "/")
    for token in patterns.parse(pattern):
        if isinstance(token, Literal):
            choices.append(((token.text,),))
        elif isinstance(token, Class) and token.name == "tree":
            one = () if not before else ((*before, _ANY, _REST),)
            choices.append(((_ANY, _REST), *one, (*before, _BELOW, _ANY, _REST)))
        elif isinstance(token, Class):
            forms, wider = _class(token.name)
            choices.append(forms)
            wide = wide or wider
        before = () if isinstance(token, Literal) and token.text.endswith("/") else (_REST, "/")
    several = tuple(tuple(itertools.chain(*each)) for each in itertools.islice(itertools.product(*choices), 1000))
    if len(several) > FORMS_MAX:
        joined = tuple(part for forms in choices for part in (forms[0] if len(forms) == 1 else _WIDE))
        return (joined,), True
    return several, wide


def _class(name: str) -> tuple[tuple[Parts, ...], bool]:
    if name in _EXACT:
        return _EXACT[name], False
    found = patterns.lengths(name)
    if found is None:
        return (_WIDE,), True
    alphabet, lengths = found
    one = {"hex": _HEX, "digits": _DIGIT}.get(alphabet, _ANY)
    return tuple((one,) * length for length in sorted(lengths)), one is _ANY
