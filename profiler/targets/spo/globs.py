"""Write path patterns as the Security Profiles Operator accepts them, and find those that overlap.

The operator copies a path into an AppArmor profile without quotes, and refuses the whole profile for any character
outside of ACCEPTED (crd2armor.go, strictPathRegex); the parser would refuse it for a space. So a character that cannot
be written becomes ``?``, one for each byte, and a class becomes ``?`` and ``*``: alternatives and sets need characters
that are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from profiler.policy import patterns
from profiler.quoting.apparmor import APPARMOR_MAX, Inexpressible

ACCEPTED = re.compile(r"/[a-zA-Z0-9_./*?+@{}-]*")
"""The operator's pattern without the space."""
_PLAIN = re.compile(r"[a-zA-Z0-9_./+@-]")
"""Characters that stand for themselves."""
ANY, STAR, TREE = "?", "*", "**"
_NUMBERS = ("@{pid}", "@{tid}")

Tokens = tuple[str, ...]
"""Characters that stand for themselves, ANY, STAR, TREE and variables for numbers."""


@dataclass(frozen=True)
class Glob:
    """A pattern in the operator's form. ``replaced``: it has ``?`` for characters that cannot be written; ``widened``:
    it has wildcards that match more than the class of the policy."""

    tokens: Tokens
    replaced: bool = field(default=False, compare=False)
    widened: bool = field(default=False, compare=False)

    @property
    def text(self) -> str:
        """The pattern as it is written."""
        return "".join(self.tokens)


def globs(pattern: str) -> tuple[Glob, ...]:
    """Return a path pattern in the operator's form: two for a home directory, one otherwise.

    Raises Inexpressible when there is no form for it, InputError when the text is not a pattern.
    """
    parts = patterns.parse(pattern)
    if parts[:1] == (patterns.Class("home"),):
        rest = parts[1:]
        if rest and not (isinstance(first := rest[0], patterns.Literal) and first.text.startswith("/")):
            raise Inexpressible("{home} must be followed by a slash")
        below = (patterns.Literal("/home/"), patterns.Class("name"))
        return _glob((patterns.Literal("/root"), *rest)), _glob((*below, *rest))
    if not pattern.startswith("/"):
        raise Inexpressible("it is not a path below the root")
    return (_glob(parts),)


def directory(glob: Glob) -> Glob:
    """Return the name of a path as a directory, which AppArmor ends with a slash."""
    return glob if glob.tokens == ("/",) else Glob((*glob.tokens, "/"), glob.replaced, glob.widened)


def _glob(parts: tuple[patterns.Token, ...]) -> Glob:
    tokens: list[str] = []
    replaced = widened = False
    for index, part in enumerate(parts):
        if isinstance(part, patterns.Class):
            after = parts[index + 1] if index + 1 < len(parts) else None
            ends = after is None or (isinstance(after, patterns.Literal) and after.text.startswith("/"))
            more, exact = _class(part.name, tokens[-1:] == ["/"], ends)
            widened = widened or not exact
        else:
            text = part.text if isinstance(part, patterns.Literal) else part.name
            if "\0" in text or "//" in text:
                raise Inexpressible("a path has no NUL character, and no two slashes in a row")
            more = tuple(_literal(text))
            replaced = replaced or ANY in more
        tokens += more
    if tokens[:2] == ["/", "."] and tokens[2:3] == ["."]:
        tokens[1], replaced = ANY, True  # the operator takes /..name for a way out of a directory
    found = Glob(_collapsed(tokens), replaced, widened)
    if len(found.text) > APPARMOR_MAX:
        raise Inexpressible(f"longer than AppArmor's parser can read ({APPARMOR_MAX} bytes)")
    return found


def _literal(text: str) -> Iterator[str]:
    for char in text:
        yield from [char] if _PLAIN.fullmatch(char) else [ANY] * len(os.fsencode(char))


def _class(name: str, starts: bool, ends: bool) -> tuple[Tokens, bool]:
    """Return the wildcards for a class, and whether they match the same. ``starts``, ``ends``: it is the first, the
    last thing between two slashes. There the parser makes * and ** match at least one character."""
    if name in ("pid", "tid"):
        return (f"@{{{name}}}",), True
    if name == "name":
        return ((STAR,) if starts and ends else (ANY, STAR)), True
    if name == "tree":
        return ((ANY, TREE), True) if starts and not ends else ((TREE,), starts)
    if name == "uuid":
        return tuple("-".join(ANY * number for number in (8, 4, 4, 4, 12))), False
    if name == "date":
        return (*ANY * 8, STAR), False
    known = patterns.lengths(name)
    least, most = (min(known[1]), max(known[1])) if known else (1, 2)
    return (*ANY * least, *[STAR] * (most > least)), False


def _collapsed(tokens: list[str]) -> Tokens:
    """Return the tokens with one star for several in a row: two of them would be read as one that matches slashes."""
    found: list[str] = []
    for token in tokens:
        if token in (STAR, TREE) and found and found[-1] in (STAR, TREE):
            found[-1] = max(found[-1], token, key=len)
        else:
            found.append(token)
    return tuple(found)


def overlap(one: Glob, other: Glob) -> bool:
    """Return whether some path fits both. Variables for numbers count as ``*``."""
    a, b = (tuple(STAR if token in _NUMBERS else token for token in glob.tokens) for glob in (one, other))
    if not (_agree(a, b) and _agree(a[::-1], b[::-1])):
        return False
    seen, ahead = {(0, 0)}, [(0, 0)]
    while ahead:
        at, to = ahead.pop()
        if (at, to) == (len(a), len(b)):
            return True
        left = a[at] if at < len(a) else ""
        right = b[to] if to < len(b) else ""
        steps = [(at + 1, to)] * (left in (STAR, TREE)) + [(at, to + 1)] * (right in (STAR, TREE))
        if left and right and _meet(left, right):
            steps.append((at + (left not in (STAR, TREE)), to + (right not in (STAR, TREE))))
        for step in steps:
            if step not in seen:
                seen.add(step)
                ahead.append(step)
    return False


def _agree(a: Tokens, b: Tokens) -> bool:
    """Return whether the texts before the first star fit each other."""
    for left, right in zip(a, b, strict=False):
        if left in (STAR, TREE) or right in (STAR, TREE):
            return True
        if not _meet(left, right):
            return False
    return len(a) == len(b) or bool({STAR, TREE} & {*a[len(b) :], *b[len(a) :]})


def _meet(left: str, right: str) -> bool:
    """Return whether two tokens have a character in common."""
    if TREE in (left, right) or left == right:
        return True
    if left in (ANY, STAR):
        return right != "/"
    return right in (ANY, STAR) and left != "/"
