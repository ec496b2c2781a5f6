"""Workloads with the server of a file system among their processes, which profgen must neither wait for nor miss."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from executables import write_program
from system.harness import NOBODY, Profgen, Recording, with_argument

HANGS_SECONDS = 180

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

PRIVATE = ("unshare", "--mount", "--propagation", "private")
"""Words that start a command in a mount namespace of its own: other tests look at the machine's mounts."""

Row = tuple[str, str, str, str, tuple[str, ...]]


@pytest.fixture
def place(public_dir: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory with what a server serves (``source``), and where it is mounted (``mnt``)."""
    path = public_dir / "served" / str(abs(hash(request.node.name)))
    source = path / "source"
    (source / "sub/deep").mkdir(parents=True)
    (path / "mnt").mkdir()
    for name in ("file", "sub/file", "sub/deep/file", "stop"):
        (source / name).write_text("text\n")
    (source / "link").symlink_to("sub")
    (source / "sub/up").symlink_to("../file")
    write_program(source / "script", "#!/bin/sh\nread x <sub/deep/file; test -e none\ncat up none; sleep 1\n")
    shutil.copy(os.path.realpath("/bin/cat"), source / "cat")
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def reads(place: Path, last: int = 1) -> str:
    """Return a shell command that reads below the mount in several ways. It ends ``last`` seconds after that: with
    eBPF, names are looked up when the events are read."""
    mnt = place / "mnt"
    return "; ".join(
        (
            f"cat {mnt}/file {mnt}/link/file {mnt}/link/up {mnt}/none {mnt}/link/none {mnt}/link/none/x",
            f"ls -l {mnt}/link/; readlink {mnt}/link; test -e {mnt}/sub/deep/none",
            f"cd {mnt}/link && cat deep/file deep/none; ../cat up; ../script; ../script; sleep {last}",
        )
    )


def rows(recording: Recording, below: Path) -> set[Row]:
    """Return what was done below a directory: path, access, kind, state, results."""
    return {
        (
            row["path"].replace(str(below), ""),
            row["access"],
            row["kind"] if "ok" in row["results"] else "",
            row["state"],
            tuple(sorted(row["results"])),
        )
        for row in recording.trace["files"]
        if row["path"].startswith(str(below))
    }


def bound(place: Path) -> Profgen:
    """Return a profgen to which the source is at the mount point without a server."""
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    return Profgen(prefix=[*PRIVATE, "sh", "-c", script, str(place / "source"), str(place / "mnt")])


def complete(recording: Recording) -> None:
    assert recording.meta["complete"], (recording.meta["losses"], recording.stderr)


def started(torture: Path, place: Path, how: str = "answers", late: int = 0) -> list[str]:
    """Return the words that start a command with a server of its own."""
    return [str(torture / "served"), str(place / "source"), str(place / "mnt"), how, str(late)]


@pytest.mark.parametrize("late", [0, 15])
@pytest.mark.parametrize("namespace", ["same", "own"])
def test_names_below_a_mount(tracer: str, late: int, namespace: str, as_root: None, torture: Path, place: Path) -> None:
    """All that is read through the server has the names that it would have without one."""
    own = ["unshare", "--mount"] if namespace == "own" else []
    command = [*own, *started(torture, place, late=late), "sh", "-c", reads(place, 1 + late // 3)]
    found = Profgen(prefix=PRIVATE).record(tracer, command, cwd=place, timeout=HANGS_SECONDS)
    complete(found)
    assert found.status == 0
    plain = bound(place).record(tracer, ["sh", "-c", reads(place)], cwd=place, timeout=HANGS_SECONDS)
    complete(plain)
    assert rows(found, place / "mnt") == rows(plain, place / "mnt")
    script = f"{place}/mnt/script"
    assert any(path.endswith("/script") for path, _, _ in found.programs), script


@pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs is not installed")
def test_bindfs(tracer: str, as_root: None, place: Path) -> None:
    """Names are made, moved and removed through a server that caches nothing."""
    mnt = place / "mnt"
    script = (
        f"bindfs -f {place}/source {mnt} & server=$!; while ! mountpoint -q {mnt}; do sleep 0.1; done; cd {mnt};"
        "cat file link/up; ls -R . >/dev/null; mkdir -p new/dir; echo x >new/dir/file; mv new/dir/file link/moved;"
        "ln -s sub/moved name; ln sub/moved other; chmod 600 name; rm name sub/moved; rmdir new/dir; ./script; cd /;"
        "sleep 3; kill $server; wait $server; exit 0"  # later questions have no answer, and profgen may be late
    )
    found = Profgen(prefix=PRIVATE).record(tracer, ["sh", "-c", script], cwd=place, timeout=HANGS_SECONDS)
    complete(found)
    done = {(path, access) for path, access, _, _, results in rows(found, mnt) if "ok" in results}
    assert done >= {
        ("/file", "read"),
        ("/new/dir", "make"),
        ("/new/dir/file", "write"),
        ("/new/dir/file", "rename_from"),
        ("/sub/moved", "rename_to"),
        ("/name", "make"),
        ("/other", "link"),
        ("/sub/moved", "mode"),
        ("/name", "remove"),
        ("/sub/moved", "remove"),
        ("/new/dir", "remove"),
        ("/script", "execute"),
    }


@pytest.mark.parametrize("tool", ["record", "verify"])
def test_a_server_that_stops(
    tool: str, tracer: str, as_root: None, profgen: Profgen, torture: Path, place: Path
) -> None:
    """A recording ends when its time is over, though the server was stopped by a look-up and never answers."""
    mark = f"mark-{place.name}"
    work = f"cat {place}/mnt/file; sh -c 'cat {place}/mnt/stop' {mark} & cat {place}/mnt/link/file; wait"
    command = [*started(torture, place, "stops"), "sh", "-c", work, mark]
    if tool == "record":
        found = Profgen(prefix=PRIVATE).record(
            tracer, command, cwd=place, options=["--duration", "3"], timeout=HANGS_SECONDS
        )
        # 0: the server ended first, and so did all that waited for it; then the shell.
        assert found.status in (0, 98, 125, 143), found.stderr
        assert {path for path, *_ in rows(found, place / "mnt")} >= {"/file"}
    elif tracer == "ebpf":
        pytest.skip("verify does not choose a tracer")
    else:
        first = profgen.record(tracer, ["true"], cwd=place)
        assert first.status == 0
        assert profgen("generate", "out.json", "-o", "out", cwd=place).returncode == 0
        args = ("verify", "out/policy.yaml", "--duration", "3", "--mode", "observe")
        Profgen(prefix=PRIVATE)(*args, "--", *command, cwd=place, timeout=HANGS_SECONDS)
    assert not with_argument(mark)


@pytest.mark.skipif(
    shutil.which("squashfuse") is None or shutil.which("mksquashfs") is None, reason="squashfuse is not installed"
)
def test_an_image_that_is_its_own_file_system(tracer: str, as_root: None, place: Path) -> None:
    """As an AppImage does: mount, execute from there, unmount."""
    mnt = place / "mnt"
    subprocess.run(
        ["mksquashfs", place / "source", place / "image", "-quiet", "-no-progress"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    script = (
        f"squashfuse {place}/image {mnt} && cd {mnt}/link && ../cat up deep/file none; ../script; cd /;"
        f"umount {mnt}; exit 0"
    )
    found = Profgen(prefix=PRIVATE).record(tracer, ["sh", "-c", script], cwd=place, timeout=HANGS_SECONDS)
    complete(found)
    assert rows(found, mnt) >= {
        ("/cat", "execute", "file", "linked", ("ok",)),
        ("/cat", "map", "file", "linked", ("ok",)),
        ("/file", "read", "file", "linked", ("ok",)),
        ("/sub/none", "read", "", "linked", ("ENOENT",)),
        ("/script", "execute", "file", "linked", ("ok",)),
    }


USERS = (
    ("root", ("unshare", "-Urm")),
    ("ordinary", ("unshare", "-Urm")),
    ("root", ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=+sys_admin",
     "--ambient-caps=+sys_admin")),
)  # fmt: skip


@pytest.mark.parametrize(("who", "become"), USERS, ids=["root-user_namespace", "ordinary-user_namespace", "root-user"])
def test_a_server_that_answers_its_user_alone(
    who: str, become: tuple[str, ...], ordinary: Profgen, torture: Path, place: Path,
    nobodys_dir: Path, as_root: None,
) -> None:  # fmt: skip
    """A user's own mount, which others, and root too, cannot look into."""
    runner = Profgen(prefix=PRIVATE) if who == "root" else ordinary
    if become[0] == "unshare" and subprocess.run([*become, "true"], capture_output=True, timeout=60).returncode:
        pytest.skip("no user namespaces here")
    shutil.rmtree(place / "mnt")
    (place / "mnt").mkdir()
    os.chown(place / "mnt", NOBODY, NOBODY)
    command = [*become, *started(torture, place, "private"), "sh", "-c", reads(place)]
    found = runner.record("ptrace", command, cwd=nobodys_dir, timeout=HANGS_SECONDS)
    complete(found)
    plain = bound(place).record("ptrace", ["sh", "-c", reads(place)], cwd=place, timeout=HANGS_SECONDS)
    assert rows(found, place / "mnt") == rows(plain, place / "mnt")
