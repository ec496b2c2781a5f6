"""Names that will be others next time become classes; directories with many like uses become one rule. Nothing else
widens a path.

Which names and which directories depends on where they are (profiler/policy/tiers.yaml) and on what was seen: whether
the workload made the name and took it away again, whether it had siblings of the same shape, whether merged recordings
differ in it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from profiler.policy.model import Options, Policy
from profiler.policy.names import Reading, Seen, around, choose, clear_readings, weak_readings
from profiler.policy.patterns import CLASSES, Class, Literal, dumps, is_literal, literal, matches, start_of
from profiler.policy.places import destinations
from profiler.policy.tiers import BY_DIRECTORY, is_library_place, never_widened, prefixes, tier_of
from profiler.policy.touched import MAKING, Touched, rules, touched
from profiler.trace.model import Trace

LISTED = 3
"""Files read in a directory whose entries were listed, or used in some recordings only, before a rule for the directory
comes."""

SUBDIRECTORIES = 3
"""Directories with like uses before one rule covers everything below the one that holds them."""

# Names by class.

_LIBRARY = re.compile(rf"(?P<name>.+\.so\.){CLASSES['version'].regex}\Z", re.DOTALL)
_READING = frozenset({"read", "map", "execute", "lock", "readlink"})

_RANDOM = re.compile(r"\{(?:random|lower|upper|base64)\b")
_FAN = re.compile("[0-9a-f]{1,3}|[0-9A-F]{1,3}")
_KEY = re.compile("(?P<key>[0-9a-f]{16,}|[0-9A-F]{16,}|[0-9A-F]{8}|[0-9]{10})(?![0-9A-Za-z])")
"""The start of a name by which a directory is split: a hash, or a number of fixed length (squid's files, nginx's
temporary files)."""
FAN_LEVELS = 3
"""The number of directories by which caches and object stores spread their files."""
_DIGESTS = frozenset({32, 40, 56, 64, 96, 128})


def _spread(names: Sequence[str]) -> int:
    """Return how many of the directories right above a name spread files: they are the start or the end of the name
    (nginx's cache), or complete it to a digest (git's objects). ``names``: the components of a path."""
    found = _KEY.match(names[-1])
    if not found:
        return 0
    key = found["key"]
    for levels in range(min(FAN_LEVELS, len(names) - 1), 0, -1):
        above = names[-1 - levels : -1]
        if not all(map(_FAN.fullmatch, above)):
            continue
        text = "".join(above)
        if (
            key.startswith(text)
            or key.endswith("".join(reversed(above)))
            or len(key) + len(text) in _DIGESTS
            or (len(key) == 8 and [len(name) for name in above] == [2, 2])
        ):
            return levels
    return 0


_seen = cache(Seen)


class _Names:
    """Classes for the components of all paths."""

    def __init__(self, paths: Mapping[str, Touched], runs: int, places: Collection[str]) -> None:
        self._paths = paths
        self.fixed = frozenset(prefix for place in places for prefix in prefixes(place))
        """Names that variables stand for (profiler/policy/passes/variables.py)."""
        self.closed: dict[str, list[str]] = {}
        """By directory, the names in it that no class may fit."""
        for parent, _, name in (path.rpartition("/") for path in never_widened()):
            self.closed.setdefault(parent, []).append(name)
        seen = _in_runs(paths)
        self.spreading = frozenset(place for path in seen for place in _spreading(path))
        clear: dict[str, tuple[str, tuple[Reading, ...], bool]] = {}
        told: dict[str, set[str]] = {}
        for path in seen:
            parent, _, name = path.rpartition("/")
            several, vague = clear_readings(name, self._seen(path, parent))
            if several or vague:
                clear[path] = parent, several, vague
            if several:
                told.setdefault(parent, set()).update(reading.pattern for reading in several)
        # What no name of a directory tells clearly cannot decide there.
        siblings = {parent: frozenset(filter(None, map(around, patterns))) for parent, patterns in told.items()}
        found = {}
        for path, (parent, several, vague) in clear.items():
            if parent in siblings:
                weak = weak_readings(path.rpartition("/")[2], several, siblings[parent]) if vague else ()
                found[path] = parent, (*several, *weak)
        self.chosen = choose(found, lambda path: seen[path] < runs)

    def _seen(self, path: str, parent: str) -> Seen:
        row = self._paths.get(path)
        return _seen(tier_of(parent)[0], row is not None and row.made, row is not None and row.gone)

    def pattern(self, path: str) -> str:
        """Return the pattern of the last component of a path."""
        parent, _, name = path.rpartition("/")
        if path in self.fixed:
            return literal(name)
        pattern = self._classed(path, parent, name)
        return literal(name) if _opens(pattern, self.closed.get(parent, ())) else pattern

    def _classed(self, path: str, parent: str, name: str) -> str:
        if (found := _LIBRARY.match(name)) and is_library_place(parent) and not self._written(path):
            return dumps([Literal(found["name"]), Class("version")])
        if (parent, len(name)) in self.spreading and _FAN.fullmatch(name):
            return dumps([Class(f"hex:{len(name)}")])
        pattern = self.chosen.get(path)
        if pattern is None:
            return literal(name)
        tier, entry = tier_of(parent)
        if entry and tier not in BY_DIRECTORY and _RANDOM.match(pattern):
            return literal(name)  # six letters are /etc/passwd and /etc/shadow as well
        return pattern

    def _written(self, path: str) -> bool:
        row = self._paths.get(path)
        return row is not None and not row.granted <= _READING


def _in_runs(paths: Mapping[str, Touched]) -> dict[str, int]:
    """Return in how many of the merged recordings each path, and each directory above one, was used."""
    found: dict[str, int] = {}
    for path, row in paths.items():
        # A directory was used at least as often as what is below it.
        while path.strip("/") and found.get(path, -1) < row.runs:
            found[path] = row.runs
            path = path.rpartition("/")[0]
    return found


def _spreading(path: str) -> Iterator[tuple[str, int]]:
    """Yield the directories that hold others to spread this file and its like, each with the length of their names."""
    names = path.split("/")
    for level in range(_spread(names)):
        directory = names[: -1 - level]
        yield "/".join(directory[:-1]), len(directory[-1])


def _home(pattern: str, row: Touched) -> str:
    """With ``{home}`` for the home directory, when the files are the user's own (or nothing is granted)."""
    if row.outcome == "needed" and not row.own:
        return pattern
    found = re.match(r"(?:/root|/home/[^/]+)(?=/|\Z)", pattern)
    return "{home}" + pattern[found.end() :] if found else pattern


def _named(paths: Mapping[str, Touched], runs: int, places: Collection[str]) -> dict[str, str]:
    """Return the pattern of each path, with classes for parts of names."""
    names = _Names(paths, runs, places)
    parts: dict[str, str] = {}
    directories: dict[str, str] = {"": ""}
    made = {}

    def part(path: str) -> str:
        found = parts.get(path)
        if found is None:
            found = parts[path] = names.pattern(path)
        return found

    def whole(path: str) -> str:
        """Join the patterns of all components; those of directories are kept."""
        new, at = [path], path.rpartition("/")[0]
        while at not in directories:
            new.append(at)
            at = at.rpartition("/")[0]
        pattern = directories[at]
        while new:
            directories[at] = pattern
            at = new.pop()
            pattern = f"{pattern}/{part(at)}"
        return pattern

    for path, row in paths.items():
        if not path.startswith("/"):
            made[path] = row.base
            continue
        if not path.strip("/"):
            pattern = "/"
        elif is_literal(row.base):
            pattern = whole(path)
        else:
            above, base = prefixes(path)[::-1], row.base.split("/")[1:]
            pattern = "/" + "/".join(
                own if not is_literal(own) else part(prefix) for own, prefix in zip(base, above, strict=False)
            )
        made[path] = pattern if places and any(prefix in places for prefix in prefixes(path)) else _home(pattern, row)
    return made


def _opens(pattern: str, names: Collection[str]) -> bool:
    """Whether a pattern with classes fits one of these names or paths."""
    if not names or is_literal(pattern):
        return False
    start = start_of(pattern)
    return any(name.startswith(start) and matches(pattern, name) for name in names)


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
        self.code = sorted(code)
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
        if access <= _LOOKING:
            return False
        starts = ("/root", "/home/") if pattern.startswith("{home}") else (start_of(pattern),)
        return any(_opens(pattern, self.code[bisect_left(self.code, start) : self._end(start)]) for start in starts)

    def _end(self, start: str) -> int:
        """Return where the programs and libraries end whose paths begin so."""
        return bisect_right(self.code, start, key=lambda path: path[: len(start)])

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
