"""The labels that a file_contexts has for the files that policies name, and what sets them in the virtual machine.

``python -m vm.labels POLICY LABELS`` runs in it: loads the policy, and gives each file of the JSON object LABELS its
label; all other files stay without one.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from profiler.policy import patterns

ALWAYS = ("/tmp", "/var/tmp", "/run", "/dev/shm", "/dev/null", "/dev/urandom")
_MODES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
    stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket",
}  # fmt: skip


def existing(pattern: str) -> Iterator[str]:
    """The files that fit a pattern."""
    path = patterns.path_of(pattern)
    if path is not None:
        yield path
        return
    top = os.path.dirname(patterns.start_of(pattern)) or "/"
    yield top
    if top != "/" and not top.startswith(("/proc", "/sys")):
        for directory, names, files in os.walk(top):
            for name in (*names, *files):
                if patterns.matches(pattern, found := os.path.join(directory, name)):
                    yield found


def with_parents(path: str) -> Iterator[str]:
    """The path and the directories above it."""
    while path != "/":
        yield path
        path = os.path.dirname(path)
    yield "/"


def labels_of(wanted: Iterable[str], contexts: Path) -> dict[str, str]:
    """The labels of every file that fits one of the patterns, of each directory on the way to it, and of the
    directories that systems make at their start. matchpathcon(8) finds them; a file without one has that of its
    directory."""
    paths = {
        each
        for pattern in (*ALWAYS, *wanted)
        if pattern.startswith("/") and not pattern.startswith(("/proc", "/sys"))
        for path in existing(pattern)
        for each in with_parents(path)
        if os.path.lexists(each)
    }
    by_mode: dict[str, list[str]] = {}
    for path in sorted(paths):
        by_mode.setdefault(_MODES[stat.S_IFMT(os.lstat(path).st_mode)], []).append(path)
    labels: dict[str, str] = {}
    for mode, some in by_mode.items():
        words = ["matchpathcon", "-n", "-m", mode, "-f", contexts, *some]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
        labels |= dict(zip(some, done.stdout.splitlines(), strict=True))
    for path in sorted(labels):
        if labels[path] == "<<none>>":
            labels[path] = labels[os.path.dirname(path)]
    return labels


def main() -> None:
    policy, labels = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    load = os.open("/sys/fs/selinux/load", os.O_WRONLY)
    os.write(load, policy.read_bytes())  # a policy is one write
    os.close(load)
    for path, label in labels.items():
        if os.path.lexists(path):
            os.setxattr(path, "security.selinux", label.encode() + b"\0", follow_symlinks=False)


if __name__ == "__main__":
    main()
