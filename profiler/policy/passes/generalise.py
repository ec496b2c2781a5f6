"""Names that will be others next time become classes; directories with many like uses become one rule. Nothing else
widens a path.

Which names and which directories depends on where they are (profiler/policy/tiers.yaml) and on what was seen: whether
the workload made the name and took it away again, whether it had siblings of the same shape, whether merged recordings
differ in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from profiler.policy.model import Options, Policy
from profiler.policy.names import Seen, choose, readings
from profiler.policy.patterns import CLASSES, Class, Literal, dumps, is_literal, literal, matches
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
        self.spreading = self._spreading()
        self.chosen = choose(
            {path: (node.parent, readings(node.name, self._seen(node))) for path, node in self.nodes.items()},
            lambda path: self.nodes[path].runs < runs,
        )

    def _seen(self, node: _Node) -> Seen:
        return Seen(tier_of(node.parent)[0], node.made, node.gone)

    def _spreading(self) -> frozenset[tuple[str, int]]:
        """Return the directories that hold others to spread files, each with the length of the others' names."""
        found = set()
        for path in self.nodes:
            names = path.split("/")
            for level in range(_spread(names)):
                directory = names[: -1 - level]
                found.add(("/".join(directory[:-1]), len(directory[-1])))
        return frozenset(found)

    def pattern(self, path: str) -> str:
        """The pattern of the last component of a path."""
        node = self.nodes[path]
        if path in self.fixed:
            return literal(node.name)
        pattern = self._classed(path, node)
        return literal(node.name) if _opens(pattern, self.closed.get(node.parent, ())) else pattern

    def _classed(self, path: str, node: _Node) -> str:
        tier, entry = tier_of(node.parent)
        if is_library_place(node.parent) and not node.written and (found := _LIBRARY.match(node.name)):
            return dumps([Literal(found["name"]), Class("version")])
        if (node.parent, len(node.name)) in self.spreading and _FAN.fullmatch(node.name):
            return dumps([Class(f"hex:{len(node.name)}")])
        pattern = self.chosen.get(path, literal(node.name))
        if entry and tier not in BY_DIRECTORY and _RANDOM.match(pattern):
            return literal(node.name)  # six letters are /etc/passwd and /etc/shadow as well
        return pattern


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
