"""The text of policy.yaml with additions, where what people wrote into it stays."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from profiler.errors import InputError
from profiler.policy.document import dumps, loads
from profiler.policy.model import Policy


class _Lines(difflib.SequenceMatcher[str]):
    """What two texts have in common: first the lines that each has once (patience diff), then, between those, what
    difflib finds.

    Nearly every entry has such a line. difflib alone takes the square of their number.
    """

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        super().__init__(None, before, after)
        self._before, self._after = before, after

    def get_matching_blocks(self) -> list[difflib.Match]:
        found: list[difflib.Match] = []
        for here, there, size in self._runs():
            last = found[-1] if found else None
            if last and (last.a + last.size, last.b + last.size) == (here, there):
                found[-1] = difflib.Match(last.a, last.b, last.size + size)
            elif size:
                found.append(difflib.Match(here, there, size))
        return [*found, difflib.Match(len(self._before), len(self._after), 0)]

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        low = high = 0
        for here, there in (*_in_order(self._before, self._after), (len(self._before), len(self._after))):
            if low < here and high < there:
                for block in difflib.SequenceMatcher(
                    None, self._before[low:here], self._after[high:there]
                ).get_matching_blocks():
                    yield low + block.a, high + block.b, block.size
            yield here, there, int(here < len(self._before))
            low, high = here + 1, there + 1


def _in_order(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Places of lines that both have once: the most of them that come in the same order in both (longest increasing
    subsequence)."""
    once = Counter(before), Counter(after)
    places = {line: index for index, line in enumerate(after) if once[1][line] == 1}
    pairs = [(index, places[line]) for index, line in enumerate(before) if once[0][line] == 1 and line in places]
    ends: list[int] = []  # for each length, the least place at which a sequence of that length ends, and the pair there
    ending: list[int] = []
    above: list[int | None] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        above.append(ending[length - 1] if length else None)
        ends[length : length + 1] = [place]
        ending[length : length + 1] = [number]
    found = []
    at = ending[-1] if ending else None
    while at is not None:
        found.append(pairs[at])
        at = above[at]
    return found[::-1]


def rewritten(text: str, old: Policy, new: Policy) -> str | None:
    """``text``, which says ``old``, changed to say ``new``: comments and the rest of the lines as they were.

    None when that cannot be done: the lines around a change are not as profgen writes them. Whatever is given back was
    read again and says ``new`` and nothing else.
    """
    before, after = dumps(old), dumps(new)
    if text == before:
        return after
    merged = _merged(before.splitlines(keepends=True), text.splitlines(keepends=True), after.splitlines(keepends=True))
    if merged is None:
        return None
    result = "".join(merged)
    try:
        same = dumps(loads(result.encode("utf-8"), "the changed policy")) == after
    except InputError:
        return None
    return result if same and all(line in result for line in _comments(text)) else None


def has_comments(text: str, policy: Policy) -> bool:
    """Whether the text has comments of its own, beyond those that profgen writes. When in doubt it has."""
    ours = set(_comments(dumps(policy)))
    return any(line not in ours for line in _comments(text))


def _comments(text: str) -> list[str]:
    """Lines with what may be a comment; ``#`` within quotes is taken for one too."""
    return [line for line in text.splitlines() if line.lstrip().startswith("#") or " #" in line or "\t#" in line]


def _merged(base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[str] | None:
    """``ours`` with the changes from ``base`` to ``theirs``; None where a changed place is not the same in ``ours``."""
    places: dict[int, int] = {}  # line of base to the same line of ours
    for block in _Lines(base, ours).get_matching_blocks():
        places.update((block.a + index, block.b + index) for index in range(block.size))
    edits: list[tuple[int, int, Sequence[str]]] = []  # begin and end in ours, and what comes there
    for tag, low, high, first, last in _Lines(base, theirs).get_opcodes():
        if tag == "equal":
            continue
        wanted = [places.get(line) for line in range(low, high)]
        if high > low:
            begin = wanted[0]
            if begin is None or wanted != list(range(begin, begin + high - low)):
                return None
            edits.append((begin, begin + high - low, theirs[first:last]))
        elif low == len(base):
            edits.append((len(ours), len(ours), theirs[first:last]))
        elif low and (above := places.get(low - 1)) is not None:
            edits.append((above + 1, above + 1, theirs[first:last]))
        elif (below := places.get(low)) is not None:
            edits.append((below, below, theirs[first:last]))
        else:
            return None
    result: list[str] = []
    at = 0
    for begin, end, lines in edits:
        if begin < at:
            return None
        result += [*ours[at:begin], *lines]
        at = end
    return [*result, *ours[at:]]


def lines_for(old: Policy, new: Policy) -> list[str]:
    """The lines of policy.yaml that ``new`` has and ``old`` has not, each below the keys it belongs to; reasons are
    left out."""
    before, after = (
        [line for line in dumps(policy).splitlines() if not line.lstrip().startswith("#")] for policy in (old, new)
    )
    wanted: set[int] = set()
    for tag, _, _, first, last in _Lines(before, after).get_opcodes():
        if tag in ("insert", "replace"):
            wanted |= {index for index in range(first, last) if after[index].strip()}
    inside = None  # the indentation of reasons that are being left out
    for index, line in enumerate(after):
        depth = len(line) - len(line.lstrip())
        if line.lstrip().startswith("because:"):
            inside = depth
        elif inside is None or depth <= inside:
            inside = None
            continue
        wanted.discard(index)
    for index in sorted(wanted):
        depth = len(after[index]) - len(after[index].lstrip())
        for above in range(index - 1, -1, -1):
            line = after[above]
            if line.strip() and len(line) - len(line.lstrip()) < depth and line.rstrip().endswith(":"):
                wanted.add(above)
                depth = len(line) - len(line.lstrip())
    return [after[index] for index in sorted(wanted)]


def unified(name: str, before: str, after: str) -> str:
    """The change as patch(1) and ``git apply`` take it. ``name``: printable, the policy's path."""
    old, new = (name, name) if name.startswith("/") else (f"a/{name}", f"b/{name}")
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm="")
    return "".join(f"{line}\n" for line in lines)
