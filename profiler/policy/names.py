"""Which parts of a name will be others at the next start.

A part is a whole token: a run of letters and digits between separators, or what a letter and a digit separate where
makers write it so (``up2815723342``). Its class follows from what the token is made of, so one sample gives the same
class as five. What one name leaves open, its siblings decide: :func:`choose` takes the pattern that most names of a
directory share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, TypeVar

from profiler.kernel.data import load
from profiler.policy.chance import CAMEL, CERTAIN, LIKELY, RANDOM, looks_random, oddness
from profiler.policy.patterns import CLASSES, LENGTH_MAX, Class, Literal, Token, dumps, parse, sort_of

SIBLINGS = 3
"""Names of one directory that differ in one part only, before that part becomes a class without other evidence; two are
enough below /proc and /sys, and for names that merged recordings do not share."""

DIGITS = 4
"""Digits in a row that are taken for a number of its own, without siblings."""

ID = 14
"""Characters from which a random token is an identifier, with a length that its maker gave it. A shorter one may be a
64-bit number in base 36 or 62, the length of which varies."""

EVIDENT = 1

SHORT = "random:7-13"
"""A random token that may be a number, the length of which varies."""

NUMBER_16 = "hex:1-16"
"""A hexadecimal number of any length."""


@dataclass(frozen=True)
class Seen:
    """What is known of a name. ``made``: by the workload; ``gone``: it had been taken away when the recording ended;
    ``tier``: of its directory."""

    tier: str
    made: bool = False
    gone: bool = False

    @property
    def changing(self) -> bool:
        """Whether names of this kind change from start to start."""
        return self.made or self.tier in ("data", "temporary")

    @property
    def passing(self) -> bool:
        """Whether the name did not outlast the recording."""
        return self.made and self.gone


class Reading(NamedTuple):
    """A pattern for a name. ``needs``: how many names of the directory have to share it; 0: it is chosen only where it
    is another name's reading that is not 0."""

    pattern: str
    needs: int


class _Part(NamedTuple):
    """A class for a part of a literal text, and how many names have to share it."""

    start: int
    end: int
    name: str
    needs: int


_UUID = re.compile(rf"(?<![0-9A-Za-z]){CLASSES['uuid'].regex}(?![0-9A-Za-z])")
_DATE = re.compile(rf"(?<![0-9]){CLASSES['date'].regex}(?![0-9])")
_HASH = re.compile(rf"(?<![0-9A-Za-z]){CLASSES['hex'].regex}(?![0-9A-Za-z])")
_FORMED = re.compile("[0-9A-Fa-f]{16}|[0-9A-Fa-f]{8}-|(?:19|20)[0-9][0-9]")
"""What hashes, UUIDs and dates have; few names do."""
_TOKEN = re.compile("[A-Za-z0-9]+")
_NUMBER = re.compile("[0-9]+")
_HEX = re.compile("[0-9a-f]{1,16}|[0-9A-F]{1,16}")
_MIXED = re.compile("[0-9].*[A-Fa-f]")
"""What tells a hexadecimal number from a word with a number."""
_HEX_AFTER_WORD = re.compile("(?P<word>[A-Za-z]*[g-zG-Z])(?P<hex>(?P<letters>[a-f]*)[0-9a-f]{4,16})")
_AFTER_WORD = re.compile("(?P<before>.*?[A-Za-z])(?P<hash>[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})")
"""A hash right behind letters: systemd's temporary files (src/basic/tmpfile-util.c: tempfn_random)."""
_BEFORE = re.compile("([a-z]{3,}|[0-9]{4,})[-_.]")
_SEPARATED = re.compile("[A-Za-z0-9_-]{16,64}(?=\\.|\\Z)")
_UNDERSCORES = re.compile("(?:.*[^A-Za-z0-9_]|.*_|)(?P<part>[a-z0-9_]{8}|[A-Za-z0-9_]{10})(?=\\.|\\Z)", re.DOTALL)
"""Python's random names (8) and those of Perl's File::Temp (10) have underscores."""


def _is_hash(text: str) -> bool:
    """Return whether hexadecimal text is a hash: in one case, with a letter and a digit, or with more digits than a
    number has (PostgreSQL's log files)."""
    if text.isdigit():
        return len(text) > 20
    return bool(re.search("[0-9]", text)) and (text == text.lower() or text == text.upper())


# --- formats of known makers


@dataclass(frozen=True)
class _Format:
    regex: re.Pattern[str]
    plain: str
    """The regular expression without its groups."""
    tokens: tuple[str, ...]
    """Classes and literal texts in the order of the groups; ``text`` stands for what a group found."""
    always: bool
    gone: bool
    odd: bool
    unlike: re.Pattern[str] | None


_LITERAL = {"text": ".+", "rest": r"(?:\..*)?", "mail": r"[^,:]+(?:[,:].*)?"}


@cache
def _formats() -> tuple[_Format, ...]:
    found = []
    for row in load("names.yaml", __file__)["formats"]:
        tokens = re.findall(r"\{[^}]+\}|[^{]+", row["format"])
        bodies = []
        for token in tokens:
            sort = sort_of(token[1:-1]) if token[0] == "{" else None
            bodies.append(re.escape(token) if token[0] != "{" else sort.regex if sort else _LITERAL[token[1:-1]])
        found.append(
            _Format(
                re.compile("".join(f"({body})" for body in bodies), re.DOTALL),
                "".join(bodies),
                tuple(token[1:-1] if token[0] == "{" and sort_of(token[1:-1]) else "" for token in tokens),
                row.get("always", False),
                row.get("gone", False),
                row.get("odd", False),
                re.compile(row["unlike"]) if "unlike" in row else None,
            )
        )
    return tuple(found)


@cache
def _any_format() -> re.Pattern[str]:
    """Return one expression for all formats: few names have any."""
    return re.compile("|".join(f"(?:{row.plain})" for row in _formats()), re.DOTALL)


def _of_maker(name: str, seen: Seen) -> Reading | None:
    if not _any_format().fullmatch(name):
        return None
    for row in _formats():
        if not (row.always or (seen.passing if row.gone else seen.changing)) or not (
            found := row.regex.fullmatch(name)
        ):
            continue
        tokens: list[Token] = []
        random = [text for text, sort in zip(found.groups(), row.tokens, strict=True) if sort.startswith("random")]
        if row.odd and not any(looks_random(text, LIKELY) for text in random):
            continue
        if row.unlike and any(map(row.unlike.fullmatch, random)):
            continue
        for text, sort in zip(found.groups(), row.tokens, strict=True):
            tokens += [Class(sort)] if sort else _fixed([Literal(text)], seen) if text else []
        if row.tokens[0] == "digits" and row.regex.pattern.endswith(f"({_LITERAL['mail']})"):
            tokens = list(_with_numbers(tokens))
        return Reading(dumps(tokens), EVIDENT if row.always or seen.made else SIBLINGS)
    return None


def _with_numbers(tokens: Iterable[Token]) -> Iterator[Token]:
    """Make numbers behind = of literal text classes: sizes in names of mails."""
    for token in tokens:
        yield from _split([token], re.compile("(?<==)[0-9]+"), "digits")


# --- any name


def _split(
    tokens: Iterable[Token], regex: re.Pattern[str], name: str, fits: Callable[[str], bool] = lambda text: True
) -> list[Token]:
    """Return the tokens with each match in a literal as a class of its own."""
    made: list[Token] = []
    for token in tokens:
        if not isinstance(token, Literal):
            made.append(token)
            continue
        at = 0
        for found in regex.finditer(token.text):
            if fits(found[0]):
                made += [Literal(token.text[at : found.start()]), Class(name)]
                at = found.end()
        made.append(Literal(token.text[at:]))
    return [token for token in made if token != Literal("")]


def _fixed(tokens: list[Token], seen: Seen) -> list[Token]:
    """Make classes of what has one form everywhere."""
    if not any(_FORMED.search(token.text) for token in tokens if isinstance(token, Literal)):
        return tokens
    tokens = _split(tokens, _UUID, "uuid")
    # 16 digits may be a number of 64 bits, which may have fewer.
    tokens = _split(tokens, _HASH, "hex", lambda text: _is_hash(text) and not (seen.changing and len(text) == 16))
    return _split(tokens, _DATE, "date") if seen.changing else tokens


def _around(length: int) -> str:
    """Return the lengths of an identifier: one that is a number has fewer digits when it happens to be small."""
    return f"{length - 2}-{length + 1}"


def _random_class(text: str) -> str:
    """Return the class of a token that is random as a whole."""
    if len(text) >= ID:
        if re.fullmatch("[0-9a-f]+|[0-9A-F]+", text):
            return f"hex:{len(text)}"
        alphabet = "lower" if text == text.lower() else "upper" if text == text.upper() else "base64"
        return f"{alphabet}:{_around(len(text))}"
    if len(text) in (6, 8) or (len(text) == 10 and text not in (text.lower(), text.upper())):
        return f"random:{len(text)}"
    return SHORT


_TOKENS_MAX = _NAMES_MAX = 1 << 14
"""How many are remembered: words and names come again and again."""


class _Reader:
    """Reads the literal parts of names of which the same is known."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.share = LIKELY if seen.made and (seen.gone or seen.tier == "temporary") else RANDOM
        self.numbers = (
            (EVIDENT if seen.passing else SIBLINGS) if seen.changing else SIBLINGS - 1 if seen.tier == "kernel" else 0
        )
        """How many names have to share a short number; 0: numbers are never classes."""
        self.short = EVIDENT if seen.made else SIBLINGS
        self._known: dict[tuple[str, bool, bool], tuple[_Part, ...]] = {}
        """What tokens are, each by its text, whether it begins the text and whether it is all of it; from its start."""

    def parts(self, text: str) -> list[_Part]:
        """Return the parts of a literal text that are new at each start, from the left, as far as it tells itself."""
        if not self.seen.changing:
            return self._numbers(text) if self.numbers else []
        found = _separated(text) if "-" in text or "_" in text else None
        if found and _is_base64(found[0]):
            return [
                *self._numbers(text[: found.start()]),
                _part(found, f"base64:{_around(len(found[0]))}", EVIDENT),
            ]
        found = _UNDERSCORES.match(text) if self.seen.made and "_" in text else None
        if found and "_" in found["part"] and self._looks_random(found["part"].replace("_", "")):
            return [_part(found, f"random:{len(found['part'])}", self.short, "part")]
        parts = [part for token in _TOKEN.finditer(text) for part in self._token(token)]
        lengths = {part.end - part.start for part in parts if part.name == NUMBER_16}
        return self._all_hex(text, lengths) if lengths else parts

    def _looks_random(self, text: str, alone: bool = False) -> bool:
        """Return whether a token is random. ``alone``: nothing stands before it; makers seldom leave that out."""
        camel = text.isalpha() and len(text) > 6 and text[1:] != text[1:].lower()
        return looks_random(text, CAMEL if camel else CERTAIN if alone else self.share)

    def _all_hex(self, text: str, lengths: set[int]) -> list[_Part]:
        """Return the parts of a text with a hexadecimal number: the other numbers in it are taken for hexadecimal ones,
        and so is what has a digit or the same length."""
        parts = []
        for token in _TOKEN.finditer(text):
            if _HEX.fullmatch(token[0]) and (re.search("[0-9]", token[0]) or len(token[0]) in lengths):
                needs = EVIDENT if len(token[0]) >= DIGITS or self.numbers == EVIDENT else self.numbers
                parts.append(_part(token, NUMBER_16, needs))
            else:
                parts += self._token(token)
        return parts

    def _token(self, token: re.Match[str]) -> Iterable[_Part]:
        text, start = token[0], token.start()
        if text.isdigit():
            return self._numbers(text, start)
        key = text, not start, text == token.string
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _TOKENS_MAX:
                self._known.clear()
            known = self._known[key] = tuple(
                part._replace(start=part.start - start, end=part.end - start) for part in self._read(token)
            )
        return [part._replace(start=part.start + start, end=part.end + start) for part in known] if start else known

    def _read(self, token: re.Match[str]) -> list[_Part]:
        text = token[0]
        if (found := _AFTER_WORD.fullmatch(text)) and _is_hash(found["hash"]):
            return [_Part(token.start() + found.start("hash"), token.end(), "hex", EVIDENT)]
        if _HEX.fullmatch(text) and (_MIXED.search(text) or re.fullmatch("[A-Fa-f]{1,3}[0-9]{5,7}", text)):
            long = len(text) >= 8 or (self.seen.made and len(text) >= DIGITS)
            return [_part(token, NUMBER_16, EVIDENT if long else self.numbers)]
        if ID <= len(text) < LENGTH_MAX and looks_random(text, CAMEL if text.isalpha() else CERTAIN):
            return [_part(token, _random_class(text), EVIDENT)]
        part = (
            self._hex_after_word(token, clear=True) or self._random(token) or self._hex_after_word(token, clear=False)
        )
        return [part] if part else self._numbers(text, token.start())

    def _hex_after_word(self, token: re.Match[str], clear: bool) -> _Part | None:
        """Return a hexadecimal number right behind a word. ``clear``: only if the word or the number is clear."""
        found = _HEX_AFTER_WORD.fullmatch(token[0])
        if not found or not _MIXED.search(found["hex"]):
            return None
        word = found["word"] + found["letters"]
        long = len(word) > 4 and _is_word(word) and len(found["hex"]) not in (8, 16)
        # Six random letters and digits are seldom hexadecimal digits only.
        if clear and not (long or (len(found["word"]) > 2 and len(found["hex"]) >= 6)):
            return None
        start = token.start() + (found.end("letters") if long else found.start("hex"))
        return _Part(start, token.end(), NUMBER_16, self.short)

    def _numbers(self, text: str, start: int = 0) -> list[_Part]:
        """Return the numbers of a token, or of another text that begins at ``start``."""
        parts = []
        for found in _NUMBER.finditer(text):
            if len(found[0]) <= 20:
                name = NUMBER_16 if len(found[0]) in (8, 16) and found[0].startswith("00") else "digits"
                needs = EVIDENT if self.seen.changing and len(found[0]) >= DIGITS else self.numbers
                parts.append(_Part(start + found.start(), start + found.end(), name, needs))
        return parts

    def _random(self, token: re.Match[str]) -> _Part | None:
        """Return the random part of a token of letters and digits: its end, behind a word, or all of it. None if it is
        words, with numbers or without."""
        text = token[0]
        if len(text) < 6:
            return None
        found = re.fullmatch("([A-Za-z]+)[0-9]+", text)
        if found and not self._looks_random(found[1]):
            return None
        alone = text == token.string
        for length, least in ((6, 3), (8, 3 if alone else 4)):
            word, tail = text[:-length], text[-length:]
            # A tail of mkstemp(3) without a capital is rare; one of Python's has none.
            of_maker = (tail == tail.lower()) == (length == 8) and len(text) != 10
            if of_maker and len(word) >= least and _is_word(word) and self._looks_random(tail):
                return _Part(token.end() - length, token.end(), f"random:{length}", self.short)
        strange = len(text) == 6 and self.seen.made and re.search("[a-z0-9].*[A-Z]|[A-Z]{2}.*[a-z]", text)
        if len(text) < ID and (strange or self._looks_random(text, not token.start())):
            name = _random_class(text)
            if alone and name == SHORT:
                # Nothing else limits what the rule fits.
                name = "random:10" if len(text) == 10 else f"random:{_around(len(text))}"
            return _part(token, name, self.short)
        return None


@cache
def _reader(seen: Seen) -> _Reader:
    return _Reader(seen)


def _part(found: re.Match[str], name: str, needs: int, group: str | int = 0) -> _Part:
    return _Part(found.start(group), found.end(group), name, needs)


def _separated(text: str) -> re.Match[str] | None:
    """Return the part of a text, behind words and numbers, that may be an identifier with hyphens or underscores."""
    at = 0
    while (before := _BEFORE.match(text, at)) and (before[1].isdigit() or _is_word(before[1])):
        at = before.end()
    return _SEPARATED.match(text, at)


@lru_cache(maxsize=_TOKENS_MAX)
def _is_word(text: str) -> bool:
    return re.fullmatch("[A-Z]?[a-z]+", text) is not None and not oddness(text)


def _is_base64(text: str) -> bool:
    """Return whether text with hyphens or underscores is random as a whole (nanoid, token_urlsafe of Python)."""
    words = re.split("[-_]", text)
    return (
        len(words) > 1
        and text not in (text.lower(), text.upper())
        and looks_random(text)
        and not any(
            (len(word) >= 4 and _is_word(word)) or (len(word) >= 8 and not looks_random(word)) for word in words
        )
    )


def _pattern(fixed: Iterable[Token], parts: Mapping[int, list[_Part]], most: int) -> str:
    """Return the pattern with those parts as classes that need no more than so many names. ``parts``: by the place of
    their literal text."""
    made: list[Token] = []
    for index, token in enumerate(fixed):
        at = 0
        for part in parts.get(index, ()):
            if isinstance(token, Literal) and 0 < part.needs <= most:
                made += [Literal(token.text[at : part.start]), Class(part.name)]
                at = part.end
        made.append(Literal(token.text[at:]) if isinstance(token, Literal) else token)
    return dumps(made)


def readings(name: str, seen: Seen) -> tuple[Reading, ...]:
    """Return the patterns that a name may have, the most general first. Without one it is literal."""
    clear, vague = clear_readings(name, seen)
    return (*clear, *weak_readings(name, clear)) if vague else clear


@lru_cache(maxsize=_NAMES_MAX)
def clear_readings(name: str, seen: Seen) -> tuple[tuple[Reading, ...], bool]:
    """Return the patterns that the name itself tells, the most general first, and whether its siblings may tell more
    (:func:`weak_readings`)."""
    if not seen.changing and not _NUMBER.search(name):
        return (), False
    known = _of_maker(name, seen)
    if known is not None:
        return (known,), False
    fixed = _fixed([Literal(name)], seen)
    vague = seen.changing and len(fixed) == 1
    reader = _reader(seen)
    parts = {index: reader.parts(token.text) for index, token in enumerate(fixed) if isinstance(token, Literal)}
    made: dict[str, int] = {}
    for most in sorted({part.needs for several in parts.values() for part in several} - {0}, reverse=True):
        made.setdefault(_pattern(fixed, parts, most), most)
    if len(parts) < len(fixed):
        made.setdefault(_pattern(fixed, {}, 0), EVIDENT)
    return tuple(Reading(pattern, needs) for pattern, needs in made.items()), vague


Around = tuple[str, str, str]
"""A pattern with one class: the text before it, its name, the text behind it."""


def around(pattern: str) -> Around | None:
    """Return the parts of a pattern with one class; None for any other."""
    before = after = sort = ""
    for token in parse(pattern):
        if isinstance(token, Class) and not sort:
            sort = token.name
        elif not isinstance(token, Literal):
            return None
        elif sort:
            after = token.text
        else:
            before = token.text
    return (before, sort, after) if sort else None


def weak_readings(
    name: str, clear: Iterable[Reading], siblings: Collection[Around] | None = None
) -> tuple[Reading, ...]:
    """Return patterns that a name has only where siblings have them clearly: a random name may happen to be a word or a
    number. ``clear``: what the name itself tells. ``siblings``: what others tell clearly, None for anything."""
    wanted = [parts for parts in _weak(name) if siblings is None or parts in siblings]
    if not wanted:
        return ()
    known = {reading.pattern for reading in clear}
    patterns = [dumps([Literal(before), Class(sort), Literal(after)]) for before, sort, after in wanted]
    return tuple(Reading(pattern, 0) for pattern in patterns if pattern not in known)


@lru_cache(maxsize=_NAMES_MAX)
def _weak(name: str) -> tuple[Around, ...]:
    return tuple(dict.fromkeys(_vague(name)))


def _vague(name: str) -> Iterator[Around]:
    def parts(found: re.Match[str], sort: str, group: str | int = 0, skip: int = 0) -> Around:
        return name[: found.start(group) + skip], sort, name[found.end(group) :]

    for found in _TOKEN.finditer(name):
        text = found[0]
        if _HEX.fullmatch(text):
            yield parts(found, NUMBER_16)
        if behind := _HEX_AFTER_WORD.fullmatch(text):
            yield parts(found, NUMBER_16, skip=behind.start("hex"))
        if not text.isdigit():
            yield from (
                parts(found, f"random:{length}", skip=len(text) - length)
                for length in (6, 8, 10)
                if len(text) >= length
            )
            if 7 <= len(text) < LENGTH_MAX:
                yield parts(found, _random_class(text))
    whole = _separated(name)
    if whole and not whole[0].islower():
        yield parts(whole, f"base64:{_around(len(whole[0]))}")
    underscored = _UNDERSCORES.match(name) if "_" in name else None
    if underscored and "_" in underscored["part"]:
        yield parts(underscored, f"random:{len(underscored['part'])}", "part")


Key = TypeVar("Key", bound=Hashable)


def choose(found: Mapping[Key, tuple[Hashable, Iterable[Reading]]], in_some: Callable[[Key], bool]) -> dict[Key, str]:
    """Return the pattern of each name that has one.

    ``found``: the directory of each name and its readings; ``in_some``: whether only some of the merged recordings have
    the name.
    """
    votes: Counter[tuple[Hashable, str]] = Counter()
    strong: Counter[tuple[Hashable, str]] = Counter()
    differing: Counter[tuple[Hashable, str]] = Counter()
    needs: dict[tuple[Hashable, str], int] = {}
    for key, (place, several) in found.items():
        some = in_some(key)
        for reading in several:
            vote = (place, reading.pattern)
            votes[vote] += 1
            differing[vote] += some
            if reading.needs:
                strong[vote] += 1
                needs[vote] = min(needs.get(vote, reading.needs), reading.needs)

    def shared(vote: tuple[Hashable, str]) -> bool:
        need = needs.get(vote, 0)
        if need <= EVIDENT:
            return need == EVIDENT
        return strong[vote] > 1 and (votes[vote] >= need or differing[vote] > 1)

    chosen: dict[Key, str] = {}
    for key, (place, several) in found.items():
        possible = [reading.pattern for reading in several if shared((place, reading.pattern))]
        if possible:
            chosen[key] = max(possible, key=lambda pattern: votes[place, pattern])
    return chosen
