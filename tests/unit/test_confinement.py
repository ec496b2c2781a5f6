"""A confined process: its capability sets, as root only, since an ordinary user has none to reduce; and Landlock."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from children import in_child
from unit.enforce.runs import everything_but
from unit.targets.policies import file, policy

from profiler import confinement
from profiler.confinement import (
    Landlock,
    Ready,
    forbid_new_privileges,
    landlock_abi,
    permitted,
    ready,
    reduce,
    reduce_bounding,
    restrict,
    shortfalls,
)
from profiler.confinement import Path as Path_
from profiler.kernel.capabilities import number_of
from profiler.kernel.landlock import rights
from profiler.policy.landlock import plan
from profiler.policy.patterns import CLASSES, literal
from profiler.targets.sets import mask_of

POLICY = everything_but(capabilities=("CAP_CHOWN", "CAP_KILL", "CAP_63"))
MASK = 1 << 0 | 1 << 5
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sets(text: str | None = None) -> dict[str, int]:
    """The capability sets of this process, or those of a status file."""
    lines = (text or Path("/proc/self/status").read_text()).splitlines()
    return {line[3:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


def executed() -> dict[str, int]:
    """The sets of a program that this process executes."""
    return sets(subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True, text=True).stdout)


def test_the_mask_has_what_has_a_number() -> None:
    assert mask_of(POLICY) == MASK
    assert mask_of(everything_but()) == 0


def test_permitted() -> None:
    assert permitted() == sets()["Prm"]


@as_root
def test_root_keeps_what_the_policy_needs() -> None:
    def work() -> None:
        before = sets()
        reduce_bounding(MASK)
        assert sets()["Bnd"] == before["Bnd"] & MASK
        assert sets()["Prm"] == before["Prm"], "the sets are reduced after the user has changed"
        reduce(MASK, keep_until_exec=True)
        assert sets()["Prm"] == before["Prm"], "loading a filter may need one"
        reduce(MASK, keep_until_exec=False)
        assert sets()["Prm"] == sets()["Eff"] == MASK
        found = executed()
        assert found["Prm"] == found["Eff"] == found["Bnd"] == MASK

    in_child(work)


@as_root
@pytest.mark.parametrize("keep", [True, False])
def test_another_user_keeps_them_over_execve(keep: bool) -> None:
    """They are in the ambient set, whose members a program without file capabilities gets."""

    def work() -> None:
        reduce_bounding(MASK)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        reduce(MASK, keep_until_exec=keep)
        assert sets()["Amb"] == MASK
        found = executed()
        assert found["Prm"] == found["Eff"] == found["Amb"] == MASK

    in_child(work)


@as_root
def test_what_the_process_does_not_have_is_not_raised() -> None:
    def work() -> None:
        reduce_bounding(0)
        reduce(0, keep_until_exec=False)
        reduce_bounding(MASK)
        reduce(MASK, keep_until_exec=False)
        assert sets()["Prm"] == 0
        assert not permitted() >> (number_of("CAP_SETPCAP") or 0) & 1

    in_child(work)


# --- Landlock, by the kernel

VERSION = CLASSES["version"].regex
FILES = rights("files")
needs_landlock = pytest.mark.skipif(landlock_abi() < 3, reason="needs Landlock of Linux 6.2")
HOSTILE = [b"a\nb", b"it's", b'"', b"\\", b"{name}", b"{version}", b"*?[a]", b"\xff\xfe", b"\xe2\x82\xac", b"#", b" "]


def opened(path: bytes, flags: int = os.O_RDONLY) -> int:
    """0, or the errno of an open."""
    try:
        os.close(os.open(path, flags, 0o600))
    except OSError as error:
        return error.errno
    return 0


def enforced(*paths: Path_, **fields: Any) -> Ready:
    """Restrict this process, and return what became of the rules."""
    made = ready(Landlock(FILES, paths=paths, **fields), VERSION)
    forbid_new_privileges()
    assert made.descriptor is not None
    restrict(made.descriptor)
    return made


@needs_landlock
def test_hostile_names_mean_themselves(tmp_path: Path) -> None:
    """What a policy writes for a name gives rights on this name and on no other."""
    place = os.fsencode(tmp_path)
    for name in (*HOSTILE, b"1.2"):
        (tmp_path / os.fsdecode(name)).touch()
    rules = [Path_(literal(os.fsdecode(place + b"/" + name)), "read_file") for name in HOSTILE[::2]]

    def work() -> None:
        assert not enforced(*rules).missing
        for name in HOSTILE:
            expected = 0 if name in HOSTILE[::2] else errno.EACCES
            assert opened(place + b"/" + name) == expected, name
        assert opened(place + b"/1.2") == errno.EACCES

    in_child(work)


@needs_landlock
def test_places_that_are_looked_up(tmp_path: Path) -> None:
    """{version} is what is there; a place that is not there yet has its rights above; no link is followed."""
    for name in ("libx.so.6", "libx.so.6.1.2", "libx.so.old", "secret"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("secret")
    place, top = os.fsencode(tmp_path), literal(str(tmp_path))
    rules = [
        Path_(f"{top}/libx.so.{{version}}", "read_file"),
        Path_(f"{top}/link", "read_file"),
        Path_(f"{top}/gone", "read_file"),
        Path_(f"{top}/new/deep", "make_dir", above=True),
    ]

    def work() -> None:
        assert enforced(*rules).missing == (f"{top}/link", f"{top}/gone")
        assert opened(place + b"/libx.so.6") == opened(place + b"/libx.so.6.1.2") == 0
        assert opened(place + b"/libx.so.old") == opened(place + b"/secret") == opened(place + b"/link") == errno.EACCES
        os.mkdir(place + b"/new")
        os.mkdir(place + b"/new/deep")
        assert opened(place + b"/new/file", os.O_CREAT | os.O_WRONLY) == errno.EACCES

    in_child(work)


@needs_landlock
def test_what_a_kernel_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ruleset for an older ABI is one that this kernel takes too."""
    everything = Landlock(FILES, rights("network"), rights("scopes"), (Path_("/", "read_file ioctl_dev truncate"),))
    for abi, lacking in ((1, 7), (2, 6), (3, 5), (4, 3), (5, 2), (6, 0)):
        monkeypatch.setattr(confinement, "landlock_abi", lambda abi=abi: abi)
        made = ready(everything, VERSION)
        assert len(made.lacks) == lacking
        assert made.descriptor is not None
        os.close(made.descriptor)
        said = shortfalls(made, no_new_privs=True)
        assert len(said) == (lacking > 0)
        assert all(f"ABI {abi} of Landlock" in text and "signal (Linux 6.12)" in text for text in said)
    monkeypatch.setattr(confinement, "landlock_abi", lambda: 0)
    made = ready(everything, VERSION)
    assert made.descriptor is None
    assert "no Landlock" in shortfalls(made, no_new_privs=True)[0]


@needs_landlock
def test_files_move_where_the_policy_moves_them(tmp_path: Path) -> None:
    """The kernel lets a file into a directory only if it gains no right there."""
    top, place = literal(str(tmp_path)), str(tmp_path)
    for name in ("from", "to", "other"):
        (tmp_path / name).mkdir()
    made = plan(
        policy(
            file(f"{top}/from/new", "write", "create", "rename_from"),
            file(f"{top}/to/{{name}}", "read", "write", "create", "rename_to", "truncate", "remove"),
            file(f"{top}/to/linked", "link", existing=(f"{top}/from/kept",)),
            file(f"{top}/from/kept", "write", "create"),
            file(f"{top}/from/tree", "make", "rename_from", kinds=("directory",)),
            file(f"{top}/to/tree", "rename_to", kinds=("directory",)),
        )
    )

    def work() -> None:
        rules = ready(made.rules, VERSION)
        forbid_new_privileges()
        assert rules.descriptor is not None
        restrict(rules.descriptor)
        for name in ("new", "kept"):
            assert opened(os.fsencode(f"{place}/from/{name}"), os.O_CREAT | os.O_WRONLY) == 0
        os.rename(f"{place}/from/new", f"{place}/to/new")
        os.link(f"{place}/from/kept", f"{place}/to/linked")
        os.mkdir(f"{place}/from/tree")
        os.rename(f"{place}/from/tree", f"{place}/to/tree")
        with pytest.raises(OSError) as refused:
            os.rename(f"{place}/to/new", f"{place}/other/new")
        assert refused.value.errno in (errno.EACCES, errno.EXDEV)

    in_child(work)
