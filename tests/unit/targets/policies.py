"""Policies with files, sockets, signals, inspections and mounts: made by hand, and at random as hostile as traces can
be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from unit.trace.strategies import NAMES

from profiler.policy import patterns
from profiler.policy.model import (
    Capability,
    FileRule,
    InspectionRule,
    MountRule,
    Policy,
    SignalRule,
    SocketRule,
    Transition,
    Variable,
    Workload,
)
from profiler.policy.reasons import Reason
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, SOCKET_OPERATIONS, WHOM

BECAUSE = (Reason("observed", ("app",)),)


def file(pattern: str, *access: str, kinds: tuple[str, ...] = ("file",), **fields: Any) -> FileRule:
    return FileRule(pattern, access, kinds, **fields)


def policy(
    *files: FileRule, argv: tuple[str, ...] = ("/usr/sbin/app", "-d"), runtime: str = "none", **fields: Any
) -> Policy:
    defaults: dict[str, Any] = {"no_new_privs": True, "has_files": True}
    workload = Workload(argv, 0)
    return Policy(workload, ("x86_64",), runtime=runtime, files=files, **{**defaults, **fields})


def transition(program: str, by: str | None) -> Transition:
    return Transition(program, by, BECAUSE)


SIZED = ("hex:2", "hex:1-16", "lower:7-13", "base64:3")
CLASSES = st.sampled_from([*sorted(set(patterns.CLASSES) - {"home", "tree"}), *SIZED]).map(patterns.Class)
LITERALS = NAMES.map(lambda text: text.strip("/")).filter(bool).map(patterns.Literal)
SLASH = st.just(patterns.Literal("/"))


@st.composite
def path_patterns(draw: st.DrawFn) -> str:
    """Patterns of paths, most of them hostile."""
    tokens: list[patterns.Token] = [patterns.Class("home")] if draw(st.integers(0, 9)) == 0 else []
    for _ in range(draw(st.integers(1, 4))):
        tokens.append(patterns.Literal("/"))
        tokens += draw(st.lists(LITERALS | LITERALS | CLASSES, min_size=1, max_size=2))
    # At the end alone, as generalise() has it: with long classes behind it the parser's automaton outgrows any
    # patience.
    tokens += [patterns.Literal("/"), patterns.Class("tree")] if draw(st.integers(0, 9)) == 0 else []
    return patterns.dumps(tokens)


SOME = path_patterns() | st.sampled_from(
    ["/", "/bin/sh", "/usr/sbin/app", "/dev/null", "/proc/{pid}/stat", "{home}", "/etc/passwd"]
)
ADDRESSES = SOME | NAMES.map(lambda name: "@" + patterns.literal(name)) | st.just("")


def subset(words: tuple[str, ...], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from(words), min_size=least, max_size=4).map(
        lambda found: tuple(word for word in words if word in found)
    )


FILES = st.builds(
    FileRule,
    pattern=SOME,
    access=subset(FILE_ACCESSES[:-1], 1),
    kinds=subset(FILE_KINDS, 1),
    because=st.just(BECAUSE),
    owner=st.booleans(),
    programs=st.lists(SOME, max_size=2).map(tuple),
    existing=st.lists(SOME, max_size=2).map(tuple),
    states=st.sampled_from([("linked",), ("deleted",), ("detached",), ("linked", "detached")]),
    whose=subset(WHOM),
)
OPERATIONS = [
    "mount",
    "bind",
    "rbind",
    "move",
    "remount",
    "propagation",
    "umount",
    "pivot_root",
    "move_mount",
    "fsmount",
    "later",
]
MOUNTS = st.builds(
    MountRule,
    operation=st.sampled_from(OPERATIONS),
    source=st.none() | SOME | NAMES.map(patterns.literal),
    target=st.none() | SOME,
    filesystem=st.none() | st.sampled_from(["tmpfs", "fuse.sshfs", "9p"]) | NAMES.map(patterns.literal),
    flags=subset(
        ("bind", "rdonly", "nosuid", "noexec", "remount", "rec", "private", "slave", "relatime", "lazytime", "silent")
    ),
    because=st.just(BECAUSE),
)
SOCKETS = st.builds(
    SocketRule,
    family=st.sampled_from(["unix", "unix", "inet", "inet6", "netlink", "packet", "77", "mctp"]),
    type=st.sampled_from(["stream", "dgram", "seqpacket", "raw", "9"]),
    protocol=st.sampled_from([0, 6, 17]),
    operations=subset(SOCKET_OPERATIONS, 1),
    because=st.just(BECAUSE),
    addresses=st.dictionaries(
        st.sampled_from(["bind", "connect", "send"]), st.lists(ADDRESSES, max_size=2).map(tuple)
    ).map(lambda found: tuple(sorted(found.items()))),
)
SIGNAL_NAMES = st.sampled_from(
    ["TERM", "0", "KILL", "TSTP", "POLL", "RTMIN", "RTMIN+3", "RTMAX-1", "RTMIN+99", "STKFLT", "x\n,"]
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Whole policies for the target apparmor."""
    programs = draw(st.lists(SOME, min_size=1, max_size=4, unique=True))
    chain = [Transition(programs[0], None, BECAUSE)]
    chain += [Transition(program, draw(st.sampled_from(programs)), BECAUSE) for program in programs[1:]]
    mounted = draw(st.lists(NAMES.map(lambda name: f"/{name}/m"), max_size=2, unique=True))
    return policy(
        *draw(st.lists(FILES, max_size=12)),
        *(
            file(patterns.literal(f"{path}/{name}"), "read", "execute")
            for path in mounted
            for name in draw(st.lists(NAMES, max_size=2))
        ),
        variables=(Variable("volume_x", tuple(mounted), BECAUSE),) if mounted else (),
        argv=tuple(draw(st.lists(NAMES, max_size=2))),
        runtime=draw(st.sampled_from(["none", "any", "runc 1.1"])),
        no_new_privs=draw(st.booleans()),
        transitions=tuple(chain) if draw(st.booleans()) else (),
        sockets=tuple(draw(st.lists(SOCKETS, max_size=4))),
        signals=tuple(
            draw(
                st.lists(
                    st.builds(SignalRule, SIGNAL_NAMES, st.sampled_from([*WHOM, "group"]), st.just(BECAUSE)), max_size=4
                )
            )
        ),
        inspections=tuple(
            draw(
                st.lists(
                    st.builds(
                        InspectionRule,
                        st.sampled_from(["read", "trace", "traceme"]),
                        st.sampled_from(WHOM),
                        st.just(BECAUSE),
                    ),
                    max_size=3,
                )
            )
        ),
        mounts=tuple(draw(st.lists(MOUNTS, max_size=4))),
        capabilities=tuple(
            Capability(name, BECAUSE)
            for name in draw(st.sets(st.sampled_from(["CAP_CHOWN", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_63"])))
        ),
        user_namespaces=BECAUSE if draw(st.booleans()) else (),
        io_uring=BECAUSE if draw(st.booleans()) else (),
    )
