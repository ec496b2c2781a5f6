"""Uses held against a policy, and denials as a trace: a recording is within its own policy, each right that is taken
away is named, and denials amend the policy that they are of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.denials.rights import is_named, without_one
from unit.policy.making import call, check, file, touching, uses
from unit.policy.resources import FILES, LOOKS, MOUNTS, SIGNALS, SOCKETS
from unit.trace.strategies import traces

from profiler.denials.as_trace import trace_of
from profiler.denials.check import Held, Use, joined
from profiler.denials.model import Denial
from profiler.denials.propose import propose
from profiler.errors import InputError
from profiler.policy.covering import Resource, left
from profiler.policy.derive import derive
from profiler.policy.document import lines_for
from profiler.policy.evidence import refused_checks
from profiler.policy.model import (
    Capability,
    FileRule,
    InspectionRule,
    MountRule,
    Options,
    Policy,
    SignalRule,
    SocketRule,
)
from profiler.review.coverage import coverage
from profiler.trace.merge import merge
from profiler.trace.model import (
    FILE_ACCESSES,
    FILES_FEATURE,
    INSPECTIONS,
    SIGNAL_WHOM,
    SOCKET_OPERATIONS,
    WHOM,
    Exec,
    File,
    Inspection,
    Mount,
    Signal,
    Socket,
    Trace,
)
from profiler.trace.store import dumps, loads

APP = "/usr/sbin/app"
BY = frozenset({0})
OPTIONS = Options(runtime="none", equivalents=False)


def recorded() -> Trace:
    """Of a program with evidence of everything that a policy has rules for."""
    touched = touching(
        *uses(APP, "execute map read"),
        *uses("/etc/app.conf", "read"),
        *uses("/var/lib/app/a.db", "read write create", own=True),
        file("/etc/missing", "read", "ENOENT"),
        file("/etc/shadow", "read", "EACCES"),
        execs=[Exec(0, None, 1)],
        syscalls=[call("read"), call("socket", [(2, 1, 0)])],
    )
    return replace(
        touched,
        capabilities=(check("CAP_CHOWN"), check("CAP_KILL", verdict="refused")),
        sockets=(Socket("inet", "stream", 6, "bind", 80, None, {"ok": 1}, BY, 0.0, 0.0),),
        signals=(Signal("TERM", "workload", {"ok": 1}, BY),),
        inspections=(Inspection("read", "workload", {"ok": 1}, BY),),
        mounts=(Mount("bind", "/a", "/b", None, (), {"ok": 1}, BY),),
    )


def policy() -> Policy:
    return derive(recorded(), OPTIONS)


def denials(held: Held, trace: Trace) -> list[Denial]:
    """But for calls without a name, which no profile can allow."""
    return [*(denial for denial in held.calls(trace) if denial.name is not None), *held.uses(trace)]


def test_own_policy() -> None:
    assert denials(Held(policy(), refused_checks(recorded())), recorded()) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("file", {"files": tuple(uses("/etc/other", "read write"))}),
        ("socket", {"sockets": (Socket("inet6", "stream", 6, "bind", 80, None, {"ok": 1}, BY, 0.0, 0.0),)}),
        ("signal", {"signals": (Signal("HUP", "workload", {"ok": 1}, BY),)}),
        ("inspection", {"inspections": (Inspection("trace", "workload", {"ok": 1}, BY),)}),
        ("mount", {"mounts": (Mount("bind", "/a", "/c", None, (), {"ok": 1}, BY),)}),
        ("capability", {"capabilities": (check("CAP_SYS_TIME"),)}),
        ("syscall", {"syscalls": (call("ptrace"),)}),
        ("syscall", {"syscalls": (call("socket", [(2, 1, 0), (16, 3, 0)]),)}),
    ],
)
def test_one_more(name: str, change: dict[str, tuple[object, ...]]) -> None:
    """What the policy does not have is a denial, of the program that did it, and is answered by lines of
    policy.yaml."""
    more = replace(recorded(), **change)
    found = denials(Held(policy(), refused_checks(recorded())), more)
    assert {denial.kind for denial in found} == {name}
    assert {denial.exe for denial in found} == {more.programs[0].path}
    mended = derive(merge([recorded(), trace_of(found, more.meta, refused=True, began=0.0)]), OPTIONS)
    assert denials(Held(mended, refused_checks(recorded())), more) == []
    assert lines_for(policy(), mended)


def files_denied(held: Held, *rows: File) -> list[Denial]:
    return held.uses(touching(*rows))


def test_what_the_kernel_refused_itself_is_not_a_denial() -> None:
    """A use that failed while recording is a denial as soon as it succeeds. A capability that was refused while
    recording and is refused now was not taken away by the policy."""
    held = Held(policy(), refused_checks(recorded()))
    for path in ("/etc/shadow", "/etc/missing"):
        assert files_denied(held, file(path, "read", "EACCES")) == []
        assert [denial.path for denial in files_denied(held, *uses(path, "read"))] == [path]
    for error in ("EEXIST", "ENOENT", "EACCES", "ELOOP", "ENAMETOOLONG"):
        assert files_denied(held, file("/no/such/directory", "make", error)) == []
    assert files_denied(held, file("/run/fifo", "write", "ENXIO")) != [], "security modules are asked before the driver"
    assert list(held.capability(check("CAP_KILL", verdict="refused"))) == []
    assert list(held.capability(check("CAP_KILL", verdict="refused", syscalls={"tgkill": 1}))) != []
    assert list(held.capability(check("CAP_KILL"))) != []
    assert list(held.capability(check("CAP_SYS_ADMIN", decisive=False))) == []


def test_only_what_is_missing() -> None:
    (denial,) = files_denied(Held(policy()), *uses("/etc/app.conf", "read write times"))
    assert denial.access == ("write", "times")


def test_denials_are_not_a_run() -> None:
    """What the denials do not mention stays as it is: nothing appears in fewer runs than before."""
    names = [f"/srv/data/{name}" for name in ("alpha", "beta", "gamma", "delta", "omega")]
    alone = touching(*uses(APP, "execute map read"), *(file(name) for name in names))
    found = files_denied(Held(derive(alone, OPTIONS)), *uses("/etc/other", "read write"))
    both = merge([alone, trace_of(found, alone.meta, refused=False, began=0.0)])
    assert (both.meta.runs, both.meta.tracer) == (1, "ebpf")
    assert {row.runs for row in both.files} == {0, 1}
    before, after = derive(alone, OPTIONS).files, derive(both, OPTIONS).files
    assert [rule for rule in after if rule.pattern != "/etc/other"] == list(before)
    assert coverage([alone, both]).runs == 2
    assert coverage([alone, trace_of(found, alone.meta, refused=False, began=0.0)]).runs == 1


def test_lines() -> None:
    found = files_denied(Held(policy()), *uses("/etc/app.conf", "write"))
    mended = propose(policy(), found, ["/etc/app.conf"]).policy
    assert lines_for(policy(), mended) == [
        "files:",
        "  /etc/app.conf: {access: [read, write], because: {logged: [app]}}",
    ]


def holding(*rules: Resource) -> Held:
    """A policy with these rules and nothing else."""
    sections: dict[type, str] = {
        FileRule: "files",
        SocketRule: "sockets",
        SignalRule: "signals",
        InspectionRule: "inspections",
        MountRule: "mounts",
    }
    names = set(sections.values())
    made = {name: tuple(one for one in rules if sections.get(type(one)) == name) for name in names}
    return Held(replace(policy(), **made))  # type: ignore[arg-type]


def ask(held: Held, use: Resource) -> list[Denial]:
    """The denials of a use with literal patterns, asked for as a recording tells of it."""
    ok = {"ok": 1}
    rows: list[Use] = []
    match use:
        case FileRule():
            rows = [
                file(
                    use.pattern, word, kind=use.kinds[0], own=use.owner, existing=(*use.existing, None)[0],
                    whose=whose, state=state,
                )
                for whose in (use.whose or (None,))
                for state in use.states
                for word in use.access
            ]  # fmt: skip
        case SocketRule():
            ports = [(word, port, None) for word, several in use.ports for port in several]
            places = [(word, None, place) for word, several in use.addresses for place in several]
            plain = [(word, None, None) for word in use.operations]
            key = (use.family, use.type, use.protocol)
            rows = [Socket(*key, *one, ok, BY, 0.0, 0.0) for one in [*ports, *places, *plain]]
        case SignalRule():
            rows = [Signal(use.signal, use.whom, ok, BY)]
        case InspectionRule():
            rows = [Inspection(use.operation, use.whom, ok, BY)]
        case MountRule():
            rows = [Mount(use.operation, use.source, use.target, use.filesystem, use.flags, ok, BY)]
    return joined(denial for row in rows for denial in held.use(row))


@st.composite
def rules_and_uses(draw: st.DrawFn) -> tuple[list[Resource], Resource]:
    """Rules, and a use of one path, of one sort."""
    sort = draw(st.sampled_from([FILES, SOCKETS, SIGNALS, LOOKS, MOUNTS]))
    use = draw(sort)
    if isinstance(use, FileRule):
        use = replace(
            use,
            pattern=draw(st.sampled_from(["/a", "/a/x", "/a/1"])),
            kinds=draw(st.sampled_from([("file",), ("directory",), ("char",)])),
            existing=draw(st.sampled_from([("/a",), ("/b",)])) if "link" in use.access else (),
            states=use.states[:1],
            whose=use.whose[:1],
        )
    if isinstance(use, SocketRule):
        use = replace(use, addresses=tuple((word, ("/a", "/a/1")) for word, _ in use.addresses))
    if isinstance(use, MountRule):
        use = replace(use, source=use.source and "/a", target=use.target and "/b")
    return draw(st.lists(sort, max_size=4)), use


@settings(deadline=None, max_examples=examples(200), suppress_health_check=list(HealthCheck))
@given(rules_and_uses())
def test_a_denial_is_what_no_rule_grants(case: tuple[list[Resource], Resource]) -> None:
    rules, use = case
    found = ask(holding(*rules), use)
    rest = left(rules, use)
    assert (not found) is (rest is None)
    if isinstance(rest, FileRule):
        assert [set(denial.access) for denial in found] == [set(rest.access)]


def test_only_what_apparmor_refused_is_judged_by_its_letters() -> None:
    rule = FileRule("/srv/a", ("mode",), states=("deleted",), whose=("self",))
    held = holding(rule, SignalRule("TERM", "self", ()), SocketRule("inet", "stream", 6, ("create",), ()))
    words = uses("/srv/a", "write remove mode", whose="self", state="deleted")
    assert [denial.access for denial in files_denied(held, *words)] == [("write", "remove")]
    opened = Denial("file", "apparmor", True, path="/srv/a", access=("write", "remove"), mask="wd", profile="app")
    assert held.left(opened) is None
    assert held.left(replace(opened, access=("read",))) is not None
    assert held.left(replace(opened, directory=True)) is not None
    assert list(held.use(Signal("TERM", "workload", {"ok": 1}, BY)))
    assert held.left(Denial("signal", "apparmor", True, signal="TERM", profile="app", peer="app//sh")) is None
    assert list(held.use(Socket("inet", "stream", 6, "connect", 80, None, {"ok": 1}, BY, 0.0, 0.0)))
    connected = Denial("socket", "apparmor", True, family="inet", type="stream", protocol=0, operations=("connect",))
    assert held.left(replace(connected, port=80)) is None
    assert held.left(replace(connected, type="raw")) is not None


def test_a_capability_that_another_covers_is_not_a_denial() -> None:
    held = Held(replace(policy(), capabilities=(Capability("CAP_DAC_OVERRIDE"),)))
    search = check("CAP_DAC_READ_SEARCH", syscalls={"openat": 1})
    assert list(held.capability(search)) == []
    assert list(held.capability(replace(search, syscalls={"open_by_handle_at": 1})))
    assert list(held.capability(check("CAP_CHOWN")))


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(traces())
def test_any_recording_is_within_its_policy(trace: Trace) -> None:
    try:
        made = derive(trace, OPTIONS)
    except InputError:
        return  # no policy can be made of it
    assert denials(Held(made, refused_checks(trace)), trace) == []


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(traces(), traces(), st.booleans())
def test_denials_mend(one: Trace, two: Trace, refused: bool) -> None:
    """The denials of another run, merged with the recording, leave nothing of that run denied; and they are a trace
    that reads back."""
    one, two = (replace(each, meta=replace(each.meta, features=(FILES_FEATURE,), arch="x86_64")) for each in (one, two))
    try:
        found = denials(Held(derive(one, OPTIONS)), two)
        trace = trace_of(found, two.meta, refused=refused, began=0.0)
        mended = derive(merge([one, trace]), OPTIONS)
    except InputError:
        return
    assert loads(dumps(trace).encode(), "x") == trace
    assert denials(Held(mended, refused_checks(recorded())), two) == []


def everything() -> Trace:
    """Of a program that uses every section and every word of a policy, each by a path of its own."""
    words = [word for word in FILE_ACCESSES if word not in ("look", "link", "append", "lock", "list")]
    files = [
        *uses(APP, "execute map read"),
        *(file(f"/srv/{word}", word, own=False) for word in (*words, "append", "lock", "list")),
        *uses("/srv/all", " ".join(words), own=False),
        *(file(f"/srv/kind-{kind}", "make", kind=kind, own=False) for kind in ("directory", "fifo", "symlink", "char")),
        file("/srv/name", "link", existing="/srv/existing"),
        file("/srv/#12", "write", state="deleted"),
        file("memfd:x", "map", state="detached"),
        *(file(f"/proc/{number}/stat", "read", whose=whose) for number, whose in enumerate(WHOM, 100)),
        file("/proc/200/maps", "read", whose="workload"),
        file("/proc/201/mem", "read", whose="outside"),
    ]
    sockets = [
        *(("inet", "stream", 6, word, None, None) for word in SOCKET_OPERATIONS),
        *(("inet", "stream", 6, word, 443, None) for word in ("bind", "connect", "send")),
        *(("unix", "dgram", 0, word, None, place) for word in ("bind", "connect") for place in ("/run/s", "@s")),
    ]
    return replace(
        touching(
            *files,
            execs=[Exec(0, None, 1), Exec(1, 0, 2), Exec(1, 1, 1)],
            syscalls=[
                call("read"),
                call("socket", [(2, 1, 0), (1, 2, 0)]),
                call("unshare", [(0x10000000,), (0x20000,)]),
                call("io_uring_setup"),
            ],
        ),
        capabilities=(check("CAP_CHOWN"), check("CAP_KILL", verdict="refused"), check("CAP_SYS_TIME")),
        sockets=tuple(Socket(*key, {"ok": 1}, BY, 0.0, 0.0) for key in sockets),
        signals=tuple(Signal(name, whom, {"ok": 1}, BY) for name in ("TERM", "0") for whom in SIGNAL_WHOM),
        inspections=tuple(Inspection(word, whom, {"ok": 1}, BY) for word in INSPECTIONS for whom in WHOM),
        mounts=(
            Mount("bind", "/a", "/b", None, (), {"ok": 1}, BY),
            Mount("mount", "tmpfs", "/c", "tmpfs", ("nodev",), {"ok": 1}, BY),
        ),
    )


def test_each_right_that_is_taken_away_is_named() -> None:
    trace = everything()
    whole = derive(trace, replace(OPTIONS, generalise=False))
    held = refused_checks(trace)
    assert denials(Held(whole, held), trace) == [], "nothing is taken away"
    rights = list(without_one(whole))
    assert len(rights) > 150
    for right, less in rights:
        found = denials(Held(less, held), trace)
        assert any(is_named(right, denial) for denial in found), (right, found)
        assert len({denial.kind for denial in found}) == 1, (right, found)
