"""Hypothesis strategies for traces as tracers make them: rows sorted or not, every index valid, names as hostile as
file names can be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from profiler.kernel.abi import ABIS
from profiler.kernel.capabilities import CAPABILITIES
from profiler.trace.merge import CHAINS_MAX
from profiler.trace.model import (
    ARGUMENT_VALUES_MAX,
    FILE_ACCESSES,
    FILE_KINDS,
    FILE_OWNERS,
    FILE_STATES,
    FILES_FEATURE,
    GAINED,
    INSPECTIONS,
    JOINED_FEATURE,
    SIGNAL_WHOM,
    SOCKET_OPERATIONS,
    WHOM,
    Arguments,
    Capability,
    Container,
    ContainerMount,
    Exec,
    File,
    Inspection,
    Meta,
    Mount,
    Pod,
    Program,
    Results,
    Signal,
    Socket,
    Syscall,
    Trace,
)

U64 = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
COUNTS = st.one_of(st.integers(1, 9), st.integers(1, 1 << 62))
"""Several of these add up to less than 2**64."""
SECONDS = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)
NAMES = st.binary(max_size=12).map(lambda raw: raw.replace(b"\0", b"/").decode("utf-8", "surrogateescape"))
"""Any bytes that a file name or an argument can hold."""
PATHS = st.one_of(st.sampled_from(["/bin/sh", "/bin/ls", "/srv/a b.py"]), NAMES.map(lambda name: "/" + name))
HEX64 = st.sampled_from(["0" * 64, "ab" * 32])
WORDS = st.sampled_from(["EPERM", "ENOENT", "EINTR", "EAGAIN", "522"])
FIELDS = [("domain", "type"), ("option",), ("command",), ("a", "b", "c")]


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, ...]:
    keys = draw(st.lists(st.tuples(PATHS, st.none() | st.just("/bin/sh")), min_size=1, max_size=4, unique=True))
    return tuple(
        Program(
            path,
            interpreter,
            draw(st.none() | NAMES),
            draw(st.none() | HEX64),
            draw(st.none() | st.sampled_from(["00" * 20, "cd" * 8])),
            draw(COUNTS | st.just(0)),
        )
        for path, interpreter in keys
    )


def arguments(count: int, fields: tuple[str, ...]) -> st.SearchStrategy[Arguments]:
    few = st.dictionaries(st.tuples(*[U64] * len(fields)), indexes(count), max_size=4)
    # Blocks that overlap or not, so that two traces together pass the bound or stay below it.
    many = st.tuples(st.sampled_from([0, 60, 1000]), st.sampled_from([60, ARGUMENT_VALUES_MAX])).map(
        lambda block: {tuple([block[0] + n] * len(fields)): frozenset({0}) for n in range(block[1])}
    )
    return st.one_of(
        few.map(lambda values: Arguments(fields, values)),
        many.map(lambda values: Arguments(fields, values)),
        st.just(Arguments(fields, {}, overflow=True)),
    )


def indexes(count: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(0, count - 1), min_size=1)


@st.composite
def syscall(draw: st.DrawFn, count: int, abi: str, number: int) -> Syscall:
    calls = draw(st.dictionaries(st.integers(0, count - 1), st.integers(1, 1 << 60), min_size=1))
    first = draw(SECONDS)
    return Syscall(
        abi=abi,
        number=number,
        # Most kernels agree on a name; an older profgen may not have known it.
        name=draw(st.sampled_from([f"call{number}", None])),
        calls=sum(calls.values()),
        results=Results(draw(st.integers(0, 5)), draw(st.dictionaries(WORDS, COUNTS, max_size=3))),
        first=first,
        last=first + draw(st.integers(0, 5)),
        programs=calls,
        arguments=draw(st.none() | st.sampled_from(FIELDS).flatmap(lambda fields: arguments(count, fields))),
        runs=draw(st.integers(1, 3)),
    )


@st.composite
def capability(draw: st.DrawFn, count: int, key: tuple[Any, ...]) -> Capability:
    name, namespace, verdict, audited, decisive, inferred = key
    first = draw(SECONDS)
    chain = st.lists(st.sampled_from(["cap_capable", "ns_capable", "do_mount", "inet_bind"]), max_size=3).map(tuple)
    return Capability(
        capability=name,
        namespace=namespace,
        verdict=verdict,
        audited=audited,
        decisive=decisive,
        inferred=inferred,
        count=draw(COUNTS),
        first=first,
        last=first + draw(st.integers(0, 5)),
        programs=draw(indexes(count)),
        syscalls=draw(
            st.dictionaries(st.sampled_from(["bind", "i386:bind", "openat", "syscall_999"]), COUNTS, max_size=3)
        ),
        chains=tuple(sorted(draw(st.sets(chain, max_size=CHAINS_MAX)))),
        runs=draw(st.integers(1, 3)),
    )


CHECK_KEYS = st.tuples(
    st.sampled_from([*CAPABILITIES[:3], "CAP_63"]),
    st.sampled_from(["initial", "child"]),
    st.sampled_from(["granted", "refused"]),
    st.sampled_from([True, False, None]),
    st.booleans(),
    st.booleans(),
)


# Few values for each member of a key, so that rows of two traces meet.
def file_keys(
    paths: st.SearchStrategy[str], whose: st.SearchStrategy[str | None]
) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(
        paths,
        st.sampled_from(["read", "look", "link"]) | st.sampled_from(FILE_ACCESSES),
        st.sampled_from(["file", "unknown"]) | st.sampled_from(FILE_KINDS),
        st.just("linked") | st.sampled_from(FILE_STATES),
        st.none() | PATHS,
        whose,
    )


# Somebody's are paths below /proc/PID, and those alone.
PROC_PATHS = st.sampled_from(["/proc/7", "/proc/7/maps", "/proc/7/fd/3"])
FILE_KEYS = st.one_of(
    file_keys(PATHS, st.none()), file_keys(PATHS, st.none()), file_keys(PROC_PATHS, st.sampled_from(WHOM))
)
ADDRESSES = st.sampled_from(["/run/a.sock", "@a", ""]) | NAMES.map(lambda name: "@" + name.replace("/", "\0"))
SOCKET_KEYS = st.tuples(
    st.sampled_from(["unix", "inet", "45"]),
    st.sampled_from(["stream", "dgram", "-1"]),
    st.sampled_from([0, 6]) | st.integers(-(1 << 31), (1 << 32) - 1),
    st.sampled_from(["bind", "connect"]) | st.sampled_from(SOCKET_OPERATIONS),
    st.none() | st.sampled_from([0, 80]) | st.integers(0, (1 << 32) - 1),
    st.none() | ADDRESSES,
)
SIGNAL_KEYS = st.tuples(st.sampled_from(["TERM", "RTMIN+3", "0", "999", "-1", "USR1"]), st.sampled_from(SIGNAL_WHOM))
INSPECTION_KEYS = st.tuples(st.sampled_from(INSPECTIONS), st.sampled_from(WHOM))
MOUNT_KEYS = st.tuples(
    st.sampled_from(["mount", "bind", "umount", "open_tree"]),
    st.none() | st.just("") | PATHS,
    st.none() | PATHS,
    st.none() | st.sampled_from(["proc", "fuse.x"]) | NAMES,
    st.sets(st.sampled_from(["rdonly", "nosuid", "0x40000000"])).map(lambda flags: tuple(sorted(flags))),
)
RESULTS = st.dictionaries(st.sampled_from(["ok", "ENOENT", "EACCES", "ERRNO_522"]), COUNTS, min_size=1, max_size=3)


@st.composite
def file(draw: st.DrawFn, count: int, key: tuple[Any, ...]) -> File:
    path, access, kind, state, existing, whose = key
    first = draw(SECONDS)
    owner = draw(st.frozensets(st.sampled_from(FILE_OWNERS)))
    last = first + draw(st.integers(0, 5))
    return File(
        path,
        access,
        kind,
        state,
        draw(RESULTS),
        owner,
        draw(indexes(count)),
        first,
        last,
        existing,
        whose,
        draw(st.integers(1, 3)),
    )


@st.composite
def socket(draw: st.DrawFn, count: int, key: tuple[Any, ...]) -> Socket:
    first = draw(SECONDS)
    return Socket(
        *key, draw(RESULTS), draw(indexes(count)), first, first + draw(st.integers(0, 5)), draw(st.integers(1, 3))
    )


@st.composite
def signal(draw: st.DrawFn, count: int, key: tuple[Any, ...]) -> Signal:
    return Signal(*key, draw(RESULTS), draw(indexes(count)), draw(st.integers(1, 3)))


@st.composite
def inspection(draw: st.DrawFn, count: int, key: tuple[Any, ...]) -> Inspection:
    return Inspection(*key, draw(RESULTS), draw(indexes(count)), draw(st.integers(1, 3)))


@st.composite
def mount(draw: st.DrawFn, count: int, key: tuple[Any, ...]) -> Mount:
    return Mount(*key, draw(RESULTS), draw(indexes(count)), draw(st.integers(1, 3)))


CONTAINER_MOUNTS = st.builds(ContainerMount, st.sampled_from(["bind", "volume", "tmpfs"]), NAMES, PATHS, st.booleans())
PODS = st.builds(Pod, *[st.none() | NAMES] * 4)
CONTAINERS = st.builds(
    Container,
    engine=st.sampled_from(["docker", "podman", None]),
    runtime=st.sampled_from(["runc", "crun", None]),
    id=st.none() | HEX64,
    name=st.none() | NAMES,
    image=st.sampled_from(["redis:7", "nginx", None]),
    digest=st.none() | HEX64.map(lambda text: f"sha256:{text}"),
    entrypoint=st.lists(NAMES, max_size=2).map(tuple),
    command=st.lists(NAMES, max_size=2).map(tuple),
    user=st.sampled_from([None, "", "redis", "33:33"]),
    directory=st.none() | PATHS,
    network=st.sampled_from([None, "host", "none", "bridge"]) | NAMES,
    mounts=st.sets(CONTAINER_MOUNTS, max_size=2).map(lambda found: tuple(sorted(found))),
    ports=st.sets(st.sampled_from(["80/tcp", "53/udp"])).map(lambda found: tuple(sorted(found))),
    capabilities=st.none()
    | st.sets(st.sampled_from(["CAP_CHOWN", "CAP_KILL"])).map(lambda found: tuple(sorted(found))),
    privileged=st.booleans(),
    read_only=st.booleans(),
    no_new_privs=st.booleans(),
    pod=st.none() | PODS,
)


@st.composite
def metas(draw: st.DrawFn, arch: str) -> Meta:
    losses = draw(st.dictionaries(st.sampled_from(["tasks", "programs", "arguments"]), COUNTS, max_size=2))
    return Meta(
        tool=draw(st.sampled_from(["profgen 0.1.0", "profgen 0.2.0"])),
        tracer=draw(st.sampled_from(["ebpf", "ptrace", "ebpf+ptrace"])),
        features=tuple(
            sorted(
                draw(
                    st.sets(
                        st.sampled_from(
                            [
                                "capabilities:tracepoint",
                                "capabilities:inferred",
                                "chains:none",
                                FILES_FEATURE,
                                JOINED_FEATURE,
                            ]
                        )
                    )
                )
            )
        ),
        kernel=draw(st.sampled_from(["6.1.0-18-amd64", "6.18.0"])),
        arch=arch,
        distribution=draw(st.sampled_from([None, "Debian GNU/Linux 12 (bookworm)"])),
        libc=draw(st.sampled_from([None, "glibc 2.36"])),
        argv=tuple(draw(st.lists(NAMES, min_size=1, max_size=3))),
        cwd=draw(PATHS),
        uid=draw(st.sampled_from([0, 1000, 65534])),
        gid=draw(st.sampled_from([0, 1000, 65534])),
        groups=tuple(sorted(draw(st.sets(st.integers(0, 5), max_size=3)))),
        no_new_privs=draw(st.booleans()),
        start=draw(st.sampled_from(["2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"])),
        duration=draw(SECONDS),
        exit_status=draw(st.none() | st.integers(0, 255)),
        complete=not losses,
        losses=losses,
        last_new=draw(SECONDS),
        tasks=draw(COUNTS | st.just(0)),
        runs=draw(st.integers(1, 3)),
        container=draw(st.none() | CONTAINERS),
        watched=draw(st.sampled_from([None, "pid 1", "unit redis.service"])),
    )


@st.composite
def traces(draw: st.DrawFn, arch: str = "x86_64") -> Trace:
    """Complete traces of one architecture. Numbers are small, so that several traces share rows."""
    listed = draw(programs())
    count = len(listed)
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(ABIS)), st.integers(0, 3) | st.just(0xFFFFFFFF)), max_size=5, unique=True
        )
    )
    pairs = draw(
        st.dictionaries(st.tuples(st.integers(0, count - 1), st.none() | st.integers(0, count - 1)), COUNTS, max_size=4)
    )

    def section(row: Any, keys: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(row(count, key)) for key in draw(st.lists(keys, max_size=3, unique=True)))

    return Trace(
        meta=draw(metas(arch)),
        programs=listed,
        syscalls=tuple(draw(syscall(count, abi, number)) for abi, number in keys),
        capabilities=tuple(draw(capability(count, key)) for key in draw(st.lists(CHECK_KEYS, max_size=4, unique=True))),
        execs=tuple(
            Exec(
                program,
                by,
                times,
                entered=draw(st.integers(0, times)) if by is None else 0,
                gained=draw(st.frozensets(st.sampled_from(GAINED))),
            )
            for (program, by), times in pairs.items()
        ),
        files=section(file, FILE_KEYS),
        sockets=section(socket, SOCKET_KEYS),
        signals=section(signal, SIGNAL_KEYS),
        inspections=section(inspection, INSPECTION_KEYS),
        mounts=section(mount, MOUNT_KEYS),
    )
