"""Uses held against a policy, and denials as a trace: a recording is within its own policy, and denials mend the one
they are of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.policy.making import call, check, file, touching, uses
from unit.policy.resources import FILES, LOOKS, MOUNTS, SIGNALS, SOCKETS
from unit.trace.strategies import traces

from profiler.denials.as_trace import trace_of
from profiler.denials.check import Held
from profiler.denials.model import Denial
from profiler.denials.propose import propose
from profiler.errors import InputError
from profiler.policy.covering import Resource, left
from profiler.policy.derive import derive
from profiler.policy.document import lines_for
from profiler.policy.evidence import failures
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
from profiler.trace.merge import merge
from profiler.trace.model import FILES_FEATURE, Exec, Inspection, Mount, Signal, Socket, Trace
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
    assert denials(Held(policy(), failures(recorded())), recorded()) == []


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
    found = denials(Held(policy(), failures(recorded())), more)
    assert {denial.kind for denial in found} == {name}
    assert {denial.exe for denial in found} == {more.programs[0].path}
    mended = derive(merge([recorded(), trace_of(found, more.meta, refused=True, began=0.0)]), OPTIONS)
    assert denials(Held(mended, failures(recorded())), more) == []
    assert lines_for(policy(), mended)


def test_what_failed_while_recording() -> None:
    """Before a call is made, it is taken to fail again; one that succeeded is a denial. A capability that was refused
    while recording and is refused now was not taken away by the policy."""
    known = failures(recorded())
    before, held = Held(policy(), known, coarse=True), Held(policy(), known)
    for path in ("/etc/shadow", "/etc/missing"):
        assert before.file(path, ["read"], "file", ["other"]) is None
        assert held.file(path, ["read"], "file", ["other"]) is not None
    assert before.file("/no/such/file", ["read"], "unknown") is None
    assert before.file("/no/such/file", ["write", "create"], "unknown") is not None
    assert held.file("/no/such/file", ["read"], "unknown") is not None
    assert held.capability("CAP_KILL", "refused") is None
    assert held.capability("CAP_KILL", "needed") is not None
    assert held.capability("CAP_SYS_ADMIN", "checked") is None


def test_before_a_call_uses_are_judged_as_apparmor_would() -> None:
    before = Held(policy(), coarse=True)
    assert before.file("/var/lib/app/a.db", ["mode", "remove", "times"], "file", ["self"]) is None
    assert before.file("/etc/app.conf", ["read", "mode"], "file", ["other"]) == replace(
        Held(policy()).file("/etc/app.conf", ["mode"], "file", ["other"]), operation="read"
    )
    made = holding(FileRule("/srv/d", ("make", "remove"), ("directory",)), coarse=True)
    assert made.file("/srv/d", ["make"], "unknown") is None, "what is made is not there yet"
    assert before.socket("inet", "stream", 0, "connect", 443, None) is None
    assert before.socket("inet", "dgram", 0, "connect", 443, None) is not None


def test_only_what_is_missing() -> None:
    denial = Held(policy(), failures(recorded())).file("/etc/app.conf", ["read", "write"], "file", ["other"])
    assert denial is not None
    assert denial.access == ("write",)


def test_lines() -> None:
    found = Held(policy(), failures(recorded())).file("/etc/app.conf", ["write"], "file", ["other"])
    assert found is not None
    mended = propose(policy(), [found], ["/etc/app.conf"]).policy
    assert lines_for(policy(), mended) == [
        "files:",
        "  /etc/app.conf: {access: [read, write], because: {denied: []}}",
    ]


def holding(*rules: Resource, coarse: bool = False) -> Held:
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
    return Held(replace(policy(), **made), coarse)  # type: ignore[arg-type]


def ask(held: Held, use: Resource) -> list[Denial | None]:
    """The denials of a use with literal patterns, asked for as a recording tells of it."""
    match use:
        case FileRule():
            existing = use.existing[0] if use.existing else None
            return [
                held.file(
                    use.pattern, use.access, use.kinds[0], ["self"] if use.owner else ["other"], existing, whose, state
                )
                for whose in (use.whose or (None,))
                for state in use.states
            ]
        case SocketRule():
            rows = [(word, port, None) for word, ports in use.ports for port in ports]
            places = [(word, None, place) for word, several in use.addresses for place in several]
            plain = [(word, None, None) for word in use.operations]
            key = (use.family, use.type, use.protocol)
            return [held.socket(*key, word, port, place) for word, port, place in [*rows, *places, *plain]]
        case SignalRule():
            return [held.signal(use.signal, use.whom)]
        case InspectionRule():
            return [held.inspection(use.operation, use.whom)]
        case MountRule():
            return [held.mount(use.operation, use.source, use.target, use.filesystem, use.flags)]
        case _:
            return []


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


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(rules_and_uses())
def test_a_denial_is_what_no_rule_grants(case: tuple[list[Resource], Resource]) -> None:
    rules, use = case
    found = [denial for denial in ask(holding(*rules), use) if denial is not None]
    rest = left(rules, use)
    assert (not found) is (rest is None)
    if isinstance(rest, FileRule):
        assert {denial.access for denial in found} == {rest.access}


def test_only_what_apparmor_refused_is_judged_by_its_letters() -> None:
    rule = FileRule("/srv/a", ("mode",), states=("deleted",), whose=("self",))
    held = holding(rule, SignalRule("TERM", "self", ()), SocketRule("inet", "stream", 6, ("create",), ()))
    assert held.file("/srv/a", ["write", "remove", "mode"], "file", whose="self", state="deleted") is not None
    opened = Denial("file", "apparmor", True, path="/srv/a", access=("write", "remove"), mask="wd", profile="app")
    assert held.left(opened) is None
    assert held.left(replace(opened, access=("read",))) is not None
    assert held.left(replace(opened, directory=True)) is not None
    assert held.signal("TERM", "workload") is not None
    assert held.left(Denial("signal", "apparmor", True, signal="TERM", profile="app", peer="app//sh")) is None
    assert held.socket("inet", "stream", 6, "connect", 80, None) is not None
    connected = Denial("socket", "apparmor", True, family="inet", type="stream", protocol=0, operations=("connect",))
    assert held.left(replace(connected, port=80)) is None
    assert held.left(replace(connected, type="raw")) is not None


def test_a_capability_that_another_covers_is_not_a_denial() -> None:
    held = Held(replace(policy(), capabilities=(Capability("CAP_DAC_OVERRIDE"),)))
    assert held.capability("CAP_DAC_READ_SEARCH", "needed") is None
    assert held.capability("CAP_CHOWN", "needed") is not None


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(traces())
def test_any_recording_is_within_its_policy(trace: Trace) -> None:
    try:
        made = derive(trace, OPTIONS)
    except InputError:
        return  # no policy can be made of it
    assert denials(Held(made, failures(trace)), trace) == []


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
    assert denials(Held(mended, failures(recorded())), two) == []
