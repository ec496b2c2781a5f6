"""Names that will be others next time become classes; directories with many like uses become one rule. Nothing else
widens a path.

Which names and which directories depends on where they are (profiler/policy/tiers.yaml) and on what was seen: whether
the workload made the name and took it away again, whether it had siblings of the same shape, whether merged recordings
differ in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from profiler.policy.model import Options, Policy
from profiler.policy.patterns import CLASSES, Class, Literal, Token, dumps, is_literal, literal, matches
from profiler.policy.places import destinations
from profiler.policy.tiers import BY_DIRECTORY, is_library_place, never_widened, prefixes, tier_of
from profiler.policy.touched import MAKING, Touched, rules, touched
from profiler.trace.model import Trace

SIBLINGS = 3
"""Names of one directory that differ in one part only, before that part becomes a class; two are enough below /proc and
/sys."""

LISTED = 3
"""Files read in a directory whose entries were listed, or used in some recordings only, before a rule for the directory
comes."""

SUBDIRECTORIES = 3
"""Directories with like uses before one rule covers everything below the one that holds them."""

EXTENSIONS = 2
"""Extensions behind a random part (collect2 of gcc makes ccXXXXXX.cdtor.c)."""

DIGITS = 4
"""Digits in a row that are taken for a number of its own, without siblings."""

# Names by class.

_UUID = re.compile(rf"(?<![0-9A-Za-z]){CLASSES['uuid'].regex}(?![0-9A-Za-z])")
_DATE = re.compile(rf"(?<![0-9]){CLASSES['date'].regex}(?![0-9])")
_HEX = re.compile(rf"(?<![0-9A-Za-z]){CLASSES['hex'].regex}(?![0-9A-Za-z])")
_NUMBER = re.compile("(?<![0-9])[0-9]{1,20}(?![0-9])")
_LIBRARY = re.compile(rf"(?P<name>.+\.so\.){CLASSES['version'].regex}\Z", re.DOTALL)
_READING = frozenset({"read", "map", "execute", "lock", "readlink"})

_TOOL = re.compile(
    r"(?P<before>tmp)(?P<random>[a-z0-9_]{8})(?P<after>(?:\..*)?)\Z|(?P<dot>tmp\.)(?P<ten>[A-Za-z0-9]{10})\Z", re.DOTALL
)
"""What Python's tempfile and mktemp(1) make when they are given no name."""
_SEMAPHORE = re.compile(r"sem\.[A-Za-z0-9]{6}\Z")
"""What sem_open(3) makes, links to the semaphore's own name and takes away again (glibc,
sysdeps/pthread/sem_open.c)."""
_RUN = re.compile(r"[A-Za-z0-9_]+\Z")
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}\Z")
_PYTHON = re.compile("[a-z0-9_]{8}")
_COUNTED = re.compile("[0-9]+(?:_[a-z]+)?")


def _looks_random(text: str) -> bool:
    """Letters with digits, or capitals within: so do all but about 2 of 100 names of mkstemp(3); words do not."""
    letters, digits = bool(re.search("[A-Za-z]", text)), bool(re.search("[0-9]", text))
    return (letters and digits) or bool(re.search("[a-z]", text) and re.search("[A-Z]", text[1:]))


def _random_length(run: str, passing: bool) -> int:
    """Return the number of characters at the end of a name that may be random, or 0.

    The name has letters, digits and underscores. Only Python's random names have underscores; they have no capitals.
    A number is not random, nor is a number with a word behind it (PostgreSQL's 16384_fsm).
    """
    if _COUNTED.fullmatch(run):
        return 0
    for length in (8, 10, 6):
        part = run[-length:]
        if len(run) < length or (len(run) > length and run[-length - 1] != "_") or ("_" in part and length != 8):
            continue
        if _looks_random(part) or (passing and _PYTHON.fullmatch(part)):
            return length
    # Nothing stands between: a digit or underscore before the last six can be no prefix's end when the last eight may
    # be Python's.
    if len(run) > 8 and _PYTHON.fullmatch(run[-8:]) and re.search("[0-9_]", run[-8:-6]):
        return 8
    return 6 if len(run) > 6 and "_" not in run[-6:] and _looks_random(run[-6:]) else 0


def _random_part(name: str, passing: bool = False) -> tuple[str, str, str] | None:
    """What stands before and after the part of a name that mkstemp(3), mkstemps(3) or the like may have made, and that
    part.

    ``passing``: the name was made and taken away again in a temporary directory, so that Python's eight lower-case
    letters without a digit (6 of 100 of its names), and the C library's semaphores, are taken for what they are.
    """
    if passing and _SEMAPHORE.match(name):
        return ("sem.", name[4:], "")
    found = _TOOL.match(name)
    if found:
        return (found["before"] or found["dot"], found["random"] or found["ten"], found["after"] or "")
    ends = [len(name)]
    while len(ends) <= EXTENSIONS and (extension := _EXTENSION.search(name[: ends[-1]])):
        ends.append(extension.start())
    for end in ends:
        run = _RUN.search(name[:end])
        length = _random_length(run[0], passing) if run else 0
        if length:
            return (name[: end - length], name[end - length : end], name[end:])
    return None


def _split(
    tokens: Iterable[Token], regex: re.Pattern[str], name: str, fits: Callable[[str], bool] = lambda text: True
) -> list[Token]:
    """The tokens with each match in a literal as a class of its own."""
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
    return made


def _is_hash(text: str) -> bool:
    """Return whether hexadecimal text is a hash: in one case, with a letter and a digit, or with more digits than a
    number has (PostgreSQL's log files)."""
    if text.isdigit():
        return len(text) > 20
    return bool(re.search("[0-9]", text)) and (text == text.lower() or text == text.upper())


@dataclass(frozen=True)
class _Node:
    """A name in a directory, with what was seen of it."""

    parent: str
    name: str
    made: bool
    gone: bool
    written: bool
    runs: int


class _Names:
    """Classes for the components of all paths."""

    def __init__(self, paths: Mapping[str, Touched], runs: int, places: Collection[str]) -> None:
        self.runs = runs
        self.fixed = frozenset(prefix for place in places for prefix in prefixes(place))
        """Names that variables stand for (profiler/policy/passes/variables.py)."""
        self.closed: dict[str, list[str]] = {}
        """By directory, the names in it that no class may fit."""
        for parent, _, name in (path.rpartition("/") for path in never_widened()):
            self.closed.setdefault(parent, []).append(name)
        self.nodes: dict[str, _Node] = {}
        seen: Counter[str] = Counter()
        for path, row in paths.items():
            for prefix in prefixes(path):
                seen[prefix] = max(seen[prefix], row.runs)
        for path, in_runs in seen.items():
            parent, _, name = path.rpartition("/")
            found = paths.get(path)
            made, gone = (found.made, found.gone) if found else (False, False)
            written = found is not None and not found.granted <= _READING
            self.nodes[path] = _Node(parent, name, made, gone, written, in_runs)
        self.numbered: Counter[tuple[str, str]] = Counter()
        self.shaped: dict[tuple[str, str, int, str], list[str]] = {}
        for path, node in self.nodes.items():
            if any(char.isdigit() for char in node.name):
                self.numbered[node.parent, _NUMBER.sub("#", node.name)] += 1
            part = _random_part(node.name)
            if part:
                self.shaped.setdefault((node.parent, part[0], len(part[1]), part[2]), []).append(path)

    def _is_random(self, node: _Node, part: tuple[str, str, str], tier: str) -> bool:
        if node.made and (node.gone or tier == "temporary"):
            return True
        siblings = self.shaped[node.parent, part[0], len(part[1]), part[2]]
        differing = sum(self.nodes[path].runs < self.runs for path in siblings)
        return tier in ("data", "temporary") and (
            len(siblings) >= SIBLINGS or (node.runs < self.runs and differing > 1)
        )

    def pattern(self, path: str) -> str:
        """The pattern of the last component of a path."""
        node = self.nodes[path]
        if path in self.fixed:
            return literal(node.name)
        pattern = self._classed(node)
        return literal(node.name) if _opens(pattern, self.closed.get(node.parent, ())) else pattern

    def _classed(self, node: _Node) -> str:
        tier, entry = tier_of(node.parent)
        changing = node.made or tier in ("data", "temporary")
        if is_library_place(node.parent) and not node.written and (found := _LIBRARY.match(node.name)):
            return dumps([Literal(found["name"]), Class("version")])
        tokens: list[Token] = [Literal(node.name)]
        tokens = _split(tokens, _UUID, "uuid")
        tokens = _split(tokens, _HEX, "hex", _is_hash)
        if changing:
            tokens = _split(tokens, _DATE, "date")
        whole = len(tokens) == 1
        part = _random_part(node.name, node.made and node.gone and tier == "temporary") if whole else None
        if part and self._is_random(node, part, tier):
            if entry and tier not in BY_DIRECTORY and not part[0]:
                return literal(node.name)  # six letters are /etc/passwd and /etc/shadow as well
            tokens = [Literal(part[0]), Class("random"), Literal(part[2])]
            return dumps(tokens)
        siblings = self.numbered[node.parent, _NUMBER.sub("#", node.name)]
        if (changing and siblings >= SIBLINGS) or (node.made and node.gone) or (tier == "kernel" and siblings > 1):
            tokens = _split(tokens, _NUMBER, "digits")
        elif changing:
            tokens = _split(tokens, _NUMBER, "digits", lambda text: len(text) >= DIGITS)
        return dumps(tokens)


def _home(pattern: str, row: Touched) -> str:
    """With ``{home}`` for the home directory, when the files are the user's own (or nothing is granted)."""
    if row.outcome == "needed" and not row.own:
        return pattern
    found = re.match(r"(?:/root|/home/[^/]+)(?=/|\Z)", pattern)
    return "{home}" + pattern[found.end() :] if found else pattern


def _named(paths: Mapping[str, Touched], runs: int, places: Collection[str]) -> dict[str, str]:
    """Path to pattern, with classes for parts of names."""
    names = _Names(paths, runs, places)
    parts: dict[str, str] = {}
    made = {}
    for path, row in paths.items():
        if not path.startswith("/"):
            made[path] = row.base
            continue
        above = prefixes(path)[::-1]
        for prefix in above:
            if prefix not in parts:
                parts[prefix] = names.pattern(prefix)
        base = row.base.split("/")[1:]
        whole = [own if not is_literal(own) else parts[prefix] for own, prefix in zip(base, above, strict=False)]
        pattern = "/" + "/".join(whole)
        made[path] = pattern if any(prefix in places for prefix in above) else _home(pattern, row)
    return made


def _opens(pattern: str, names: Collection[str]) -> bool:
    """Whether a pattern with classes fits one of these names or paths."""
    return bool(names) and not is_literal(pattern) and any(matches(pattern, name) for name in names)


# Directories.

_NEVER = frozenset({"execute", "map", "chroot"})
"""Accesses that no directory rule gives."""
_LOOKING = frozenset({"read", "list", "lock", "readlink"})
"""Accesses that change nothing."""
_CODE = frozenset({"execute", "map"})


@dataclass
class _Leaf:
    """A pattern that may go up into that of a directory. ``directory``: it is one itself."""

    access: frozenset[str]
    own: bool
    directory: bool
    made: bool
    some_runs: bool
    weight: int = 1
    """Distinct patterns in it."""


@dataclass
class _Directory:
    """A directory as patterns name it."""

    leaves: dict[str, _Leaf] = field(default_factory=dict)
    subdirectories: set[str] = field(default_factory=set)


def _leaves(
    paths: Mapping[str, Touched], patterns: Mapping[str, str], runs: int, roots: Collection[str]
) -> tuple[dict[str, _Leaf], set[str]]:
    """The patterns that may go up, and all directories that were listed. ``roots``: patterns that may not."""
    groups: dict[str, list[Touched]] = {}
    for path, row in paths.items():
        if row.outcome == "needed":
            groups.setdefault(patterns[path], []).append(row)
    leaves, listed = {}, set()
    for pattern, rows in groups.items():
        access = frozenset(word for row in rows for word in row.granted)
        if "list" in access:
            listed.add(pattern)
        kinds = {kind for row in rows for kind in row.kinds}
        if not pattern.startswith("/") or pattern in roots or access & _NEVER or kinds & {"char", "block"}:
            continue
        leaves[pattern] = _Leaf(
            access=access,
            own=all(row.own for row in rows),
            directory=kinds == {"directory"},
            made=any(row.made for row in rows),
            some_runs=max(row.runs for row in rows) < runs,
        )
    return leaves, listed


Group = tuple[frozenset[str], bool]
"""Access, and whether all files are the user's own."""


def _covers(group: Group, leaf: _Leaf) -> bool:
    """Whether a rule with the group's access and owner allows all that the leaf does. Reading a directory is listing
    it."""
    access, own = group
    extra = {"list"} if "read" in access else set()
    return leaf.access <= access | extra and (leaf.own or not own)


def _may_hold(directory: str, own: bool) -> bool:
    """Whether a directory rule may stand in this directory."""
    tier, entry = tier_of(directory)
    if tier not in BY_DIRECTORY or (directory == entry and not (tier == "temporary" and own)):
        return False
    return not _opens(f"{directory}/{{name}}", never_widened())


def _groups(leaves: Iterable[_Leaf]) -> list[tuple[Group, list[_Leaf]]]:
    """Leaves with the same access and owner, the largest group first."""
    found: dict[Group, list[_Leaf]] = {}
    for leaf in leaves:
        found.setdefault((leaf.access, leaf.own), []).append(leaf)
    return sorted(
        found.items(), key=lambda item: (-sum(leaf.weight for leaf in item[1]), sorted(item[0][0]), item[0][1])
    )


def _merged(group: Group, leaves: Sequence[_Leaf]) -> _Leaf:
    return _Leaf(
        access=frozenset(word for leaf in leaves for word in leaf.access) | group[0],
        own=group[1],
        directory=all(leaf.directory for leaf in leaves),
        made=any(leaf.made for leaf in leaves),
        some_runs=all(leaf.some_runs for leaf in leaves),
        weight=sum(leaf.weight for leaf in leaves),
    )


class _Widening:
    """Directory rules, from the deepest directory up."""

    def __init__(
        self, leaves: dict[str, _Leaf], listed: set[str], threshold: int, places: Collection[str], code: Collection[str]
    ) -> None:
        self.code = code
        """Programs and libraries that the workload did not write: no rule that writes takes them in."""
        self.threshold, self.listed, self.roots = threshold, listed, frozenset(map(literal, places))
        """``roots``: of mounts; no rule for what is above one stands for what is below it."""
        self.closed = never_widened().union(places)
        """What no rule for all below a directory may open."""
        self.members = {pattern: [pattern] for pattern in leaves}
        """Pattern to those it stands for."""
        self.reasons: dict[str, str] = {}
        self.directories: dict[str, _Directory] = {}
        for pattern, leaf in leaves.items():
            self._directory(pattern.rpartition("/")[0]).leaves[pattern] = leaf

    def _directory(self, name: str) -> _Directory:
        found = self.directories.get(name)
        if found is None:
            found = self.directories[name] = _Directory()
            if name and name not in self.roots:
                self._directory(name.rpartition("/")[0]).subdirectories.add(name)
        return found

    def targets(self) -> dict[str, str]:
        """Pattern of names to the pattern of its rule."""
        for name in sorted(self.directories, key=lambda name: (-name.count("/"), name)):
            self._names(name)
            self._tree(name)
        return {inner: pattern for pattern, inners in self.members.items() for inner in inners}

    def _replace(self, old: Sequence[tuple[str, str]], pattern: str, group: Group, reason: str) -> None:
        """One leaf, ``pattern``, for the old ones: (directory, pattern) each."""
        leaves, members = [], []
        for directory, name in old:
            leaves.append(self.directories[directory].leaves.pop(name))
            members += self.members.pop(name)
            self.reasons.pop(name, None)
        self.members[pattern] = members
        self.reasons[pattern] = reason
        self.directories[pattern.rpartition("/")[0]].leaves[pattern] = _merged(group, leaves)

    def _writes_code(self, pattern: str, access: frozenset[str]) -> bool:
        return not access <= _LOOKING and _opens(pattern, self.code)

    def _why(self, name: str, access: frozenset[str], leaves: Sequence[_Leaf]) -> str | None:
        """Why a rule may stand for these names of one directory; None when it may not."""
        if len(leaves) >= self.threshold:
            return f"{self.threshold} or more names of this directory were used alike"
        if name in self.listed and access <= _LOOKING and len(leaves) >= LISTED:
            return f"this directory was listed, and {LISTED} or more of its names were read"
        if sum(leaf.some_runs for leaf in leaves) >= LISTED:
            return "the names of this directory differ between recordings"
        return None

    def _names(self, name: str) -> None:
        leaves = self.directories[name].leaves
        makes = any(leaf.made for leaf in leaves.values())
        for group, alike in _groups(leaves.values()):
            access, own = group
            reason = self._why(name, access, alike)
            if reason is None or not _may_hold(name, own) or not (makes or access <= _LOOKING):
                continue
            if self._writes_code(f"{name}/{{name}}", access):
                continue
            directory = all(leaf.directory for leaf in alike)
            covered = [
                (name, pattern)
                for pattern, leaf in leaves.items()
                if (leaf.access, leaf.own) == group or (_covers(group, leaf) and (directory or not leaf.directory))
            ]
            self._replace(covered, f"{name}/{{name}}", group, reason)
            return

    def _below(self, name: str) -> list[str]:
        """The directory and all below it."""
        found = [name]
        for inner in found:
            found += sorted(self.directories[inner].subdirectories)
        return found

    def _tree(self, name: str) -> None:
        if (
            len(self.directories[name].subdirectories) < SUBDIRECTORIES
            or not _may_hold(name, True)
            or name == tier_of(name)[1]
        ):
            return
        if _opens(f"{name}/{{tree}}", self.closed):
            return
        leaves = {
            (inner, pattern): leaf
            for inner in self._below(name)
            for pattern, leaf in self.directories[inner].leaves.items()
        }
        for group, _ in _groups(leaves.values()):
            access, _own = group
            covered = [key for key, leaf in leaves.items() if _covers(group, leaf)]
            branches = {inner[len(name) + 1 :].split("/")[0] for inner, _ in covered if inner != name}
            weight = sum(leaves[key].weight for key in covered)
            if (
                len(branches) < SUBDIRECTORIES
                or weight < 2 * self.threshold
                or not (access <= _LOOKING or access & MAKING)
            ):
                continue
            if self._writes_code(f"{name}/{{tree}}", access):
                continue
            reason = (
                f"{2 * self.threshold} or more names in {SUBDIRECTORIES} or more directories below this one were used "
                "alike"
            )
            self._replace(covered, f"{name}/{{tree}}", group, reason)
            return


def generalise(policy: Policy, trace: Trace, options: Options) -> Policy:
    """As the pass ``files``, with patterns. Raises InputError for a path that no file can have."""
    if not trace.has_files:
        return policy
    paths = touched(trace)
    runs = trace.meta.runs
    places = destinations(trace)
    roots = frozenset(map(literal, places))
    named = _named(paths, runs, places)
    code = [path for path, row in paths.items() if row.granted & _CODE and row.granted <= _READING]
    widening = _Widening(*_leaves(paths, named, runs, roots), options.generalise_threshold, places, code)
    targets = widening.targets()
    patterns = {
        path: targets.get(pattern, pattern) if paths[path].outcome == "needed" else pattern
        for path, pattern in named.items()
    }
    return replace(policy, has_files=True, files=rules(paths, patterns, widening.reasons))
