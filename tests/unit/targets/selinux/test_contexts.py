"""file_contexts(5), as libselinux reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.targets.selinux.contexts import read

MAIN = r"""
# a comment
/.*	system_u:object_r:default_t:s0
/etc(/.*)?	system_u:object_r:etc_t:s0
/etc/passwd[-\+]?	--	system_u:object_r:passwd_t:s0
/etc/a\.b	--	system_u:object_r:ab_t:s0
/(lib|opt)/x	system_u:object_r:x_t:s0
/tmp	-d	system_u:object_r:tmp_t:s0
/tmp/.*	<<none>>
/var/run/.*\.pid	--	system_u:object_r:pid_t:s0
/dev/[a-c]d	-b	system_u:object_r:disk_t:s0
/dev/[a-c]d	-c	system_u:object_r:tty_t:s0
/srv/a?b	system_u:object_r:maybe_t:s0
"""
LOCAL = "/etc/own(/.*)?	system_u:object_r:own_t:s0\n"
SUBSTITUTIONS = "/run /var/run\n/usr/lib64 /lib\n"

CASES = {
    ("/", "dir"): "default_t",
    ("/etc", "dir"): "etc_t",
    ("/etc/passwd", "file"): "passwd_t",
    ("/etc/passwd", "dir"): "etc_t",
    ("/etc/passwd+", "file"): "passwd_t",
    ("/etc/a.b", "file"): "ab_t",
    ("/etc/axb", "file"): "etc_t",
    ("/etc/own/x", "file"): "own_t",
    ("/lib/x", "file"): "x_t",
    ("/usr/lib64/x", "file"): "x_t",
    ("/tmp", "dir"): "tmp_t",
    ("/tmp/x", "file"): None,
    ("/run/a.pid", "file"): "pid_t",
    ("/runs", "file"): "default_t",
    ("/dev/bd", "blk_file"): "disk_t",
    ("/dev/bd", "chr_file"): "tty_t",
    ("/srv/b", "file"): "maybe_t",
    ("/srv/ab", "file"): "maybe_t",
    ("/a\nb", "file"): "default_t",
}


@pytest.mark.parametrize(("path", "kind"), CASES)
def test_types(path: str, kind: str) -> None:
    found = read([MAIN, LOCAL], [SUBSTITUTIONS]).find(path, kind)
    assert (found and found.type) == CASES[path, kind]


def test_nothing_known() -> None:
    assert read(["/etc	system_u:object_r:etc_t:s0\n/bad[	u:r:t:s0\n"]).find("/usr", "dir") is None
    assert read(["not a line\n"]).specs == ()


MODES = {"file": "file", "dir": "dir", "lnk_file": "link", "blk_file": "block", "chr_file": "char"}
PATHS = st.text(alphabet="abcdx+.-/", min_size=1, max_size=8).map(lambda text: "/" + text.strip("/"))
TOPS = st.sampled_from(["", "/etc", "/tmp", "/dev", "/lib", "/opt", "/srv", "/run", "/usr/lib64"])


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(TOPS, PATHS).map("".join).filter(lambda path: "//" not in path), min_size=1, max_size=60))
def test_as_libselinux(tmp_path_factory: pytest.TempPathFactory, paths: list[str]) -> None:
    """matchpathcon(8) finds the same types."""
    place = tmp_path_factory.mktemp("contexts") / "file_contexts"
    place.write_text(MAIN)
    Path(f"{place}.local").write_text(LOCAL)
    Path(f"{place}.subs").write_text(SUBSTITUTIONS)
    contexts = read([MAIN, LOCAL], [SUBSTITUTIONS])
    for kind, mode in MODES.items():
        words = ["matchpathcon", "-n", "-m", mode, "-f", place, *paths]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        for path, line in zip(paths, done.stdout.splitlines(), strict=True):
            found = contexts.find(path, kind)
            assert (found and found.type) == (None if line == "<<none>>" else line.split(":")[2]), (path, kind)
