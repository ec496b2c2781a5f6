"""What is recorded of files, sockets, signals, other processes and mounts: each tracer against a table written by hand,
against the other tracer, and against strace."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from system.harness import TIMEOUT, Profgen, environment, finish, own_network
from system.operations import witness
from system.operations.build import VARIANTS, operations, prepare
from system.operations.evidence import differences, seen, told_afterwards
from system.operations.runs import Recorded, Runs
from system.operations.table import EXPECTED, Evidence, Places

from profiler.trace.model import File, Inspection, Mount, Signal, Socket, Trace
from profiler.trace.store import read_trace

TRACERS = ("ptrace", "ebpf")
_DYNAMIC = (
    "nothing",
    "read",
    "execve",
    "script",
    "memfd_execute",
    "map_library",
    "replace_file",
    "unix_path",
    "threads",
)
_I386 = (
    "append_create",
    "replace_file",
    "list",
    "fcntl_lock",
    "fchown",
    "ftruncate",
    "execve",
    "map_library",
    "chmod",
    "signal_child",
    "socketcall",
)


def recorded(runs: Runs, operation: str, tracer: str, variant: str = "ops") -> Recorded:
    if not runs.possible(operation):
        pytest.skip("needs root")
    return runs.get(operation, tracer, variant)


def as_expected(recording: Recorded, want: Evidence, tracer: str = "ptrace") -> None:
    have = recording.evidence
    if tracer == "ebpf":
        have, want = told_afterwards(have), told_afterwards(want)
    lines = differences(have, want)
    assert not lines, "\n" + "\n".join(lines)


def test_table_has_every_operation(runs: Runs) -> None:
    assert {each.name for each in operations(runs.programs / "ops")} == set(EXPECTED)


@pytest.fixture(scope="module")
def profgen() -> Profgen:
    """profgen in a network of its own: some workloads use fixed ports."""
    return Profgen(prefix=own_network())


@pytest.mark.parametrize("operation", EXPECTED)
def test_operation(operation: str, tracer: str, runs: Runs) -> None:
    """All evidence of the static program is that of the table: no row is missing and none is too many."""
    recording = recorded(runs, operation, tracer)
    want = recording.places.expected(EXPECTED[operation])
    if want.refused is not None and tracer == "ptrace":
        assert recording.status == 1, recording.stderr
        want = want.refused
    else:
        assert recording.status == (125 if want.losses else 0), recording.stderr
    as_expected(recording, want, tracer)


def test_no_files(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """``--no-files``: none of it, and the trace does not claim to have watched."""
    recording = profgen.record(
        tracer, ["sh", "-c", "ls / > list; kill -0 $$"], cwd=tmp_path, options=["-q", "--no-files"]
    )
    trace = read_trace(recording.path)
    assert not trace.has_files
    assert not any((trace.files, trace.sockets, trace.signals, trace.inspections, trace.mounts))
    assert profgen.record(tracer, ["true"], cwd=tmp_path, options=["-q"]).trace["meta"]["features"].count("files") == 1


@pytest.mark.parametrize("operation", [name for name, evidence in EXPECTED.items() if evidence.refused is None])
def test_tracers_agree(operation: str, ebpf: str, runs: Runs) -> None:
    """Whatever the table says: both tracers hold the same."""
    as_expected(recorded(runs, operation, ebpf), recorded(runs, operation, "ptrace").evidence, ebpf)


@pytest.mark.parametrize("variant", ["ops-dynamic"])
@pytest.mark.parametrize("operation", _DYNAMIC)
def test_dynamic(operation: str, variant: str, tracer: str, runs: Runs) -> None:
    """With a loader and a C library: below the directory the same as the static program; the loader and the library are
    mapped."""
    recording = recorded(runs, operation, tracer, variant)
    places = recording.places
    want, have = places.expected(EXPECTED[operation]), recording.evidence
    own = (places.directory, places.program, "memfd:")
    if tracer == "ebpf":
        have, want = told_afterwards(have), told_afterwards(want)
    assert {use for use in have.files if use.path.startswith(own)} == {
        use for use in want.files if use.path.startswith(own)
    }
    assert (have.sockets, have.signals, have.execs, have.losses) == (
        want.sockets,
        want.signals,
        want.execs,
        want.losses,
    )
    loader = os.path.realpath(_interpreter(Path(places.program)))
    for name in (loader, os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6")):
        by = {use.by for use in have.files if use.path == name and use.access == "map" and use.result == "ok"}
        executing = {places.program, *(program for program, _ in want.execs)}
        assert by == executing, (name, by)
        assert {use.access for use in have.files if use.path == name} == {"map", "read"}


def test_overlayfs(tracer: str, as_root: None, runs: Runs, tmp_path: Path) -> None:
    """What is mapped from overlayfs, as containers have it, goes by the path that was used, not by the layer's: a file
    that is made executable after it was mapped, and the program's loader."""
    program = runs.programs / "ops-dynamic"
    loader = Path(os.path.realpath(_interpreter(program)))
    layer, directory = tmp_path / "layer", tmp_path / "files"
    prepare(program, "protect_mapping", layer)
    directory.mkdir()
    mounts = []
    for name, lower, place in (("loader", loader.parent, loader.parent), ("files", layer, directory)):
        upper, work = tmp_path / f"{name}.upper", tmp_path / f"{name}.work"
        upper.mkdir()
        work.mkdir()
        mounts.append(f"mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {place}")
    inside = Profgen(prefix=["unshare", "--mount", "sh", "-ec", f'{"; ".join(mounts)}; exec "$0" "$@"'])
    recording = inside.record(tracer, [str(program), "protect_mapping", str(directory)], cwd=tmp_path, options=["-q"])
    assert recording.status == 0, recording.stderr
    places = Places(str(directory), str(program))
    have = seen(read_trace(recording.path), places)
    want = places.expected(EXPECTED["protect_mapping"])
    assert {use for use in have.files if use.path.startswith(places.directory)} == {
        use for use in want.files if use.path.startswith(places.directory)
    }
    mapped = {use.path for use in have.files if use.access == "map"}
    assert mapped == {str(directory / "child"), str(program), str(loader), str(loader.parent / "libc.so.6")}
    assert {use.state for use in have.files} == {"linked"}


def _interpreter(program: Path) -> str:
    """PT_INTERP of a 64-bit ELF file."""
    image = program.read_bytes()
    start, size = int.from_bytes(image[32:40], "little"), int.from_bytes(image[54:56], "little")
    for index in range(int.from_bytes(image[56:58], "little")):
        header = image[start + index * size :][:size]
        if int.from_bytes(header[:4], "little") == 3:  # PT_INTERP: p_offset is at 8, p_filesz at 32
            offset, length = int.from_bytes(header[8:16], "little"), int.from_bytes(header[32:40], "little")
            return os.fsdecode(image[offset : offset + length].rstrip(b"\0"))
    raise AssertionError(f"{program} has no interpreter")


@pytest.mark.parametrize("variant", ["ops32"])
@pytest.mark.parametrize("operation", _I386)
def test_i386(operation: str, variant: str, tracer: str, runs: Runs) -> None:
    if variant not in VARIANTS:
        pytest.skip("not x86-64")
    recording = recorded(runs, operation, tracer, variant)
    assert recording.status == 0, recording.stderr
    as_expected(recording, recording.places.expected(EXPECTED[operation]), tracer)


@pytest.mark.parametrize(
    "operation", ["replace_file", "list", "execve", "unix_path", "odd_names", "link_proc", "denied", "proc_outside"]
)
def test_ordinary_user(operation: str, runs: Runs, ordinary: Profgen, nobodys_dir: Path) -> None:
    """ptrace without any right: the same evidence."""
    program, directory = runs.programs / "ops", nobodys_dir / "work"
    subprocess.run([*ordinary.prefix, program, "prepare", operation, directory], check=True, timeout=TIMEOUT)
    recording = ordinary.record("ptrace", [str(program), operation, str(directory)], cwd=nobodys_dir, options=["-q"])
    places = Places(str(directory), str(program))
    assert recording.status == 0, recording.stderr
    # whose the program is is another matter than whose the directory is
    outside = {
        use for use in seen(read_trace(recording.path), places).files if not use.path.startswith(places.directory)
    }
    want = places.expected(EXPECTED[operation])
    assert {(use.path, use.access, use.result) for use in outside} == {
        (use.path, use.access, use.result) for use in want.files if not use.path.startswith(places.directory)
    }
    have = seen(read_trace(recording.path), places)
    assert {use for use in have.files if use not in outside} == {
        use for use in want.files if use.path.startswith(places.directory)
    }
    assert (have.sockets, have.signals, have.execs, have.losses) == (
        want.sockets,
        want.signals,
        want.execs,
        want.losses,
    )


def test_inherited_sockets(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """A socket among the streams is a row, though it is only written to: AppArmor asks for it at each write. A file
    gives nothing."""
    command = ["sh", "-c", "echo said; cat /dev/null"]
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "log", "ab") as log:
        started = profgen.start(
            "record", "--tracer", tracer, "-o", "out.json", "--", *command, cwd=tmp_path, stdout=theirs, stderr=log
        )
        finish(started)
        assert ours.recv(100) == b"said\n"
    trace = read_trace(tmp_path / "out.json")
    (row,) = trace.sockets
    assert (row.family, row.type, row.protocol, row.operation, row.results) == (
        "unix",
        "stream",
        0,
        "inherit",
        {"ok": 1},
    )
    assert row.programs == {program.program for program in trace.execs if program.by is None}
    assert str(tmp_path / "log") not in {file.path for file in trace.files}
    assert "the workload inherited a unix stream socket" in (tmp_path / "log").read_text()
    assert profgen("generate", "out.json", "-o", "made", cwd=tmp_path).returncode == 0
    assert "because: {inherited: [dash]}" in (tmp_path / "made/policy.yaml").read_text()


def test_many_messages(profgen: Profgen, tmp_path: Path) -> None:
    """ptrace has the address of each message of a sendmmsg, however many there are."""
    (tmp_path / "many.c").write_text(
        "#define _GNU_SOURCE\n#include <arpa/inet.h>\n#include <sys/socket.h>\n"
        "int main(void) {\n"
        '  static struct mmsghdr messages[1024]; static struct sockaddr_in to[1024]; struct iovec vector = {"x", 1};\n'
        "  for (int i = 0; i < 1024; i++) {\n"
        "   to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(23500 + i), .sin_addr.s_addr "
        "= htonl(INADDR_LOOPBACK)};\n"
        "    messages[i].msg_hdr = (struct msghdr){.msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = "
        "&vector, .msg_iovlen = 1};\n"
        "  }\n"
        "  return sendmmsg(socket(AF_INET, SOCK_DGRAM, 0), messages, 2000, 0) == 1024 ? 0 : 1;\n"
        "}\n"
    )
    subprocess.run(["gcc", "-o", tmp_path / "many", tmp_path / "many.c"], check=True, timeout=60)
    recording = profgen.record("ptrace", [str(tmp_path / "many")], cwd=tmp_path, options=["-q"])
    assert recording.status == 0, recording.stderr
    ports = {row.port for row in read_trace(recording.path).sockets if row.operation == "send"}
    assert ports == set(range(23500, 23500 + 1024))


NGINX = """
events {{}}
pid {cwd}/nginx.pid;
error_log {cwd}/error.log;
http {{
  access_log {cwd}/access.log;
  client_body_temp_path {cwd}/t1; proxy_temp_path {cwd}/t2; fastcgi_temp_path {cwd}/t3; uwsgi_temp_path {cwd}/t4;
  scgi_temp_path {cwd}/t5;
  server {{ listen 127.0.0.1:23461; root {cwd}/www; }}
}}
"""
_REQUEST = (
    r"exec 3<>/dev/tcp/127.0.0.1/23461; printf 'GET /page HTTP/1.0\r\n\r\n' >&3; while read -r line <&3; "
    r"do :; done; exec 3>&-"
)

REAL: dict[str, tuple[str, ...]] = {
    "ls": ("ls", "-lR", "/etc/apt", "/etc/nowhere"),
    "shell": (
        "sh",
        "-c",
        "echo x > a; cat a >> b; mkdir c; mv b c/d; rm a; ln -s c/d e; cat e; chmod 600 c/d; ls c | wc -l; rm "
        "-r c e; [ -e a ]",
    ),
    "find": ("find", "/etc/apt", "/usr/share/doc/bash", "-newer", "/etc/passwd"),
    "tar": ("sh", "-c", "tar czf a.tgz -C /etc passwd group && tar xzf a.tgz && rm a.tgz passwd group"),
    "python": (
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        "import json, os, socket, subprocess, tempfile\n"
        "with tempfile.TemporaryDirectory(dir='.') as d: open(d + '/x', 'w').close(); os.replace(d + '/x', d + '/y')\n"
        "subprocess.run(['true']); subprocess.run('exit 4', shell=True); os.listdir('.')\n"
        "a, b = socket.socketpair(); s = socket.create_server(('127.0.0.1', 23462)); c = "
        "socket.create_connection(('127.0.0.1', 23462))\n",
    ),
    "gcc": ("sh", "-c", "echo 'int main(void) { return 0; }' > x.c && gcc -o x x.c && ./x; rm x x.c"),
    "nginx": (
        "bash",
        "-c",
        f"nginx -c $PWD/conf -e $PWD/error.log && {_REQUEST}; kill $(cat nginx.pid)",
    ),
}
_RANDOM = (
    (r"/tmp[a-z0-9_]{8}(?=/|$)", "/tmp{random}"),
    (r"/cc[A-Za-z0-9]{6}(?=\.|$)", "/cc{random}"),
    (r"/sh-thd\.\w+$", "/sh-thd.{random}"),
)
_OPENS = ("read", "write", "append", "create", "truncate")


def general(path: str) -> str:
    """A path with what is random in it as words."""
    path = Places("/nowhere", "").general(path)
    for pattern, word in _RANDOM:
        path = re.sub(pattern, word, path)
    return path


def real_directory(cwd: Path) -> Path:
    """A working directory as all REAL programs want it; emptied first: a second run must find what the first found."""
    shutil.rmtree(cwd, ignore_errors=True)
    (cwd / "www").mkdir(parents=True)
    cwd.chmod(0o755)
    (cwd / "www/page").write_text("page")
    (cwd / "conf").write_text(NGINX.format(cwd=cwd))
    return cwd


def need(name: str) -> None:
    if name == "nginx" and os.geteuid() != 0:
        pytest.skip("nginx is started as root")
    if shutil.which(REAL[name][0]) is None or (name in ("nginx", "gcc") and shutil.which(name) is None):
        pytest.skip(f"{name} is not installed")


def real(name: str, tracer: str, profgen: Profgen, public_dir: Path) -> Trace:
    """A trace of one of REAL, always made in the same directory."""
    need(name)
    cwd = real_directory(public_dir / "real")
    recording = profgen.record(tracer, REAL[name], cwd=cwd, options=["-q"], env={"LC_ALL": "C", "PWD": str(cwd)})
    assert recording.path.exists(), recording.stderr
    trace = read_trace(recording.path)
    assert trace.meta.complete, recording.stderr
    return trace


@pytest.mark.parametrize("name", REAL)
def test_strace_agrees(name: str, tracer: str, profgen: Profgen, public_dir: Path, tmp_path: Path) -> None:
    """Every path that strace shows as used is in the trace, used in that way and with that result; and no other is."""
    need(name)
    cwd = real_directory(public_dir / "real")
    shown, _ = witness.used(
        REAL[name],
        before=own_network(),
        cwd=cwd,
        env=environment(LC_ALL="C", PWD=str(cwd)),
        log=tmp_path / "log",
        timeout=TIMEOUT,
    )
    shown = frozenset((general(path), access, result) for path, access, result in shown)
    trace = real(name, tracer, profgen, public_dir)
    watched = {access for _, access, _ in shown}
    recorded = {
        (general(row.path), "opened" if row.access in _OPENS else row.access, result)
        for row in trace.files
        for result in row.results
        if row.access in _OPENS or row.access in watched
    }
    executed = {general(row.path) for row in trace.files if row.access in ("execute", "map")}
    truncated = {general(row.path) for row in trace.files if row.access == "truncate"}
    missing = {row for row in shown - recorded if not (row[1] == "truncate" and row[0] in truncated)}
    assert not missing, sorted(missing)
    # The kernel itself reads what is executed and the loader. strace does not show an open that truncates as ftruncate.
    extra = {row for row in recorded - shown if not (row[1:] == ("opened", "ok") and row[0] in executed)}
    assert not extra, sorted(extra)


Rows = dict[str, frozenset[tuple[object, ...]]]


def rows(trace: Trace, afterwards: bool = False) -> Rows:
    """All evidence of a trace by section, without numbers and random names, times and counts. ``afterwards``: as
    told_afterwards()."""
    programs = [general(program.path) for program in trace.programs]

    def names(row: File | Socket | Signal | Inspection | Mount) -> frozenset[str]:
        return frozenset(programs[index] for index in row.programs)

    def looks(row: File, result: str) -> tuple[str, str, frozenset[str], frozenset[str]]:
        """kind, state, owner and programs, as far as they can be told: failures may stand in rows of several kinds"""
        gone = afterwards and row.access in ("remove", "owner")
        if result != "ok":
            return "unknown", "linked", frozenset(), frozenset()
        return (
            "unknown" if gone and row.kind != "directory" else row.kind,
            row.state,
            frozenset() if gone else row.owner,
            names(row),
        )

    def port(row: Socket) -> int | None:
        return row.port if row.port is None or row.port < 32768 else -1  # chosen by the kernel

    def outcomes(row: Socket) -> dict[str, int]:
        repeated = row.operation in (
            "send",
            "receive",
            "getoption",
            "setoption",
            "name",
        )  # ptrace: watched until one succeeded
        return {"ok": 1} if repeated and "ok" in row.results else dict(row.results)

    def split(each: Iterable[tuple[Mapping[str, int], tuple[object, ...]]]) -> frozenset[tuple[object, ...]]:
        return frozenset((*members, result) for results, members in each for result in results)

    return {
        "files": frozenset(
            (
                general(row.path),
                row.access,
                *looks(row, result),
                row.existing and general(row.existing),
                row.whose,
                result,
            )
            for row in trace.files
            for result in row.results
        ),
        "sockets": split(
            (outcomes(row), (row.family, row.type, row.protocol, row.operation, port(row), row.address, names(row)))
            for row in trace.sockets
        ),
        "signals": split((row.results, (*row.key, names(row))) for row in trace.signals),
        "inspections": split((row.results, (*row.key, names(row))) for row in trace.inspections),
        "mounts": split((row.results, (*row.key, names(row))) for row in trace.mounts),
        "execs": frozenset(
            (programs[row.program], row.by if row.by is None else programs[row.by], row.count) for row in trace.execs
        ),
    }


def same(one: Rows, other: Rows) -> None:
    for section, have in one.items():
        assert have == other[section], (
            section,
            sorted(have - other[section], key=str),
            sorted(other[section] - have, key=str),
        )


@pytest.mark.parametrize("name", REAL)
def test_two_recordings(name: str, tracer: str, profgen: Profgen, public_dir: Path) -> None:
    """The same application twice: the same evidence."""
    same(rows(real(name, tracer, profgen, public_dir)), rows(real(name, tracer, profgen, public_dir)))


@pytest.mark.parametrize("name", REAL)
def test_tracers_agree_on_real_programs(name: str, ebpf: str, profgen: Profgen, public_dir: Path) -> None:
    same(rows(real(name, ebpf, profgen, public_dir), True), rows(real(name, "ptrace", profgen, public_dir), True))


@pytest.mark.parametrize(("count", "together"), [(300, False), (50, True)], ids=["300 in turn", "50 at once"])
def test_short_lived(
    count: int, together: bool, tracer: str, runs: Runs, profgen: Profgen, public_dir: Path, tmp_path: Path
) -> None:
    """Processes that live for a millisecond: each has all its evidence, nothing is lost."""
    program, base = runs.programs / "ops", public_dir / "short"
    shutil.rmtree(base, ignore_errors=True)
    for number in range(count):
        (base / str(number)).mkdir(parents=True)
        (base / str(number) / "file").write_text("x")
    loop = 'i=0; while [ $i -lt "$3" ]; do "$1" read "$2/$i" END i=$((i+1)); done; wait'.replace(
        "END", "&" if together else ";"
    )
    recording = profgen.record(
        tracer, ["sh", "-c", loop, "sh", str(program), str(base), str(count)], cwd=tmp_path, options=["-q"]
    )
    assert recording.status == 0, recording.stderr
    trace = read_trace(recording.path)
    assert trace.meta.complete
    index = next(index for index, each in enumerate(trace.programs) if each.path == str(program))
    found = {row.path: (row.access, row.results) for row in trace.files if row.path.startswith(f"{base}/")}
    assert found == {f"{base}/{number}/file": ("read", {"ok": 1}) for number in range(count)}
    counted = {row.access: row.results for row in trace.files if row.path == str(program)}
    assert counted == {"execute": {"ok": count}, "map": {"ok": count}, "read": {"ok": count}}
    links = [row for row in trace.files if row.access == "readlink" and row.programs == {index}]
    assert sum(row.results["ok"] for row in links) == count, "each process reads its own /proc/self/exe"
    assert all(row.whose == "self" for row in links)


SAME_AGAIN = """
import os, sys
base, mounts = sys.argv[1], len(sys.argv) > 2
import mmap
for number in range(100, 150):  # without a hash of their names
    held = os.memfd_create(f"memory{number}")
    os.ftruncate(held, 4096)
    for _ in range(2):
        mmap.mmap(held, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    os.close(held)
os.chdir(base)
def read(path, times=3):
    for _ in range(times):
        os.close(os.open(path, os.O_RDONLY))
def make(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
for number in range(200):  # the kernel gives the entries' memory away again, for the same name in another directory
    os.mkdir(f"d{number}")
    make(f"d{number}/file")
    read(f"d{number}/file")
    os.unlink(f"d{number}/file")
    os.rmdir(f"d{number}")
far = "/".join(f"level{number}" for number in range(40))
os.makedirs(f"up/{far}")
make(f"up/{far}/file")
read(f"up/{far}/file")
os.rename("up", "down")
read(f"down/{far}/file")
os.makedirs("one/inner")
make("one/inner/file")
held = os.open("one/inner", os.O_PATH)
read("one/inner/file")
os.rename("one", "two")
os.close(os.open("file", os.O_RDONLY, dir_fd=held))
read("two/inner/file")
os.rename("two/inner/file", "two/inner/other")
read("two/inner/other")
os.link("two/inner/other", "two/inner/linked")
read("two/inner/linked")
gone = os.open("two/inner/linked", os.O_RDONLY)
os.unlink("two/inner/linked")
for _ in range(3):
    os.close(os.open(f"/proc/self/fd/{gone}", os.O_RDONLY))
os.chmod("two/inner/other", 0o600)
read("two/inner/other")
if mounts:
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    os.mkdir("here"); os.mkdir("there"); os.mkdir("from"); make("from/file")
    assert libc.unshare(0x20000) == 0
    assert libc.mount(None, b"/", None, 0x44000, None) == 0
    assert libc.mount(b"from", b"here", None, 0x1000, None) == 0
    read("here/file")
    assert libc.mount(b"here", b"there", None, 0x2000, None) == 0
    read("there/file")
    assert libc.umount2(b"there", 2) == 0
    assert libc.mount(b"from", b"here", None, 0x1000, None) == 0
    read("here/file", 2)
"""


def test_another_path_of_the_same_entries(tracer: str, profgen: Profgen, public_dir: Path, tmp_path: Path) -> None:
    """Entries are made anew, renamed, linked and moved with their mounts between two opens: each path has what was done
    under it."""
    mounts = os.geteuid() == 0
    base = public_dir / "again"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    command = ["/usr/bin/python3", "-IS", "-c", SAME_AGAIN, str(base), *(["mounts"] if mounts else [])]
    recording = profgen.record(tracer, command, cwd=tmp_path, options=["-q"])
    assert recording.status == 0, recording.stderr
    reads: dict[tuple[str, str], int] = {}
    files = read_trace(recording.path).files
    mapped = {
        row.path.rpartition("memfd:")[2]: row.results["ok"]
        for row in files
        if row.access == "map" and "memfd:" in row.path
    }
    assert mapped == {f"memory{number}": 2 for number in range(100, 150)}
    for row in files:
        if row.access == "read" and row.path.startswith(f"{base}/"):
            at = (row.path.removeprefix(f"{base}/"), row.state)
            reads[at] = reads.get(at, 0) + row.results["ok"]
    wanted = {(f"d{number}/file", "linked"): 3 for number in range(200)}
    wanted |= {
        ("one/inner/file", "linked"): 3,
        ("two/inner/file", "linked"): 4,
        ("two/inner/other", "linked"): 6,
        ("two/inner/linked", "linked"): 4,
    }
    wanted |= {("two/inner/linked", "deleted"): 3}
    far = "/".join(f"level{number}" for number in range(40))
    wanted |= {(f"{top}/{far}/file", "linked"): 3 for top in ("up", "down")}
    if mounts:
        wanted |= {("here/file", "linked"): 5, ("there/file", "linked"): 3}
    assert reads == wanted


EXECUTED_AGAIN = """
mkdir one first second
cp /usr/bin/true one/binary
printf '#!/bin/sh\\n' >first/script
cp first/script second/script
chmod 755 first/script second/script
cp first/script one/script
one/binary; (cd one && ./script)
mv one two
two/binary; (cd two && ./script)
ln -s first current
current/script
ln -sfn second current
current/script
mv two/binary two/other
exec 9<two/other
rm two/other
/proc/self/fd/9
"""


def test_another_path_of_the_same_program(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """What is executed is renamed, a directory above it is, or a link on the way to it leads elsewhere: each path was
    executed."""
    base = tmp_path / "base"
    base.mkdir()
    recording = profgen.record(
        tracer, ["/bin/sh", "-c", f"cd {base}{EXECUTED_AGAIN}"], cwd=tmp_path, options=["-q", "--allow-loss"]
    )
    assert recording.status == 0, recording.stderr
    trace = read_trace(recording.path)
    executed = {
        (row.path.removeprefix(f"{base}/"), row.state)
        for row in trace.files
        if row.access == "execute" and row.path.startswith(f"{base}/")
    }
    linked = {"one/binary", "one/script", "two/binary", "two/script", "first/script", "second/script"}
    # eBPF looks for a script when it reads of it: that it may have come too late is a loss.
    late = (
        set() if tracer == "ptrace" or trace.meta.complete else {("one/script", "linked"), ("first/script", "linked")}
    )
    assert executed | late == {(path, "linked") for path in linked} | {("two/other", "deleted")}, (
        trace.meta.losses,
        executed,
    )
    assert set(trace.meta.losses) <= {"paths"}
