"""Why something is allowed: each kind of item, with its reasons, pass, evidence and risk; and what is said of one that
is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.policy.making import call, check, touching, trace, uses
from unit.policy.test_merge import policies

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy
from profiler.policy.reasons import Reason, said
from profiler.review.explain import Explainer, Explanation
from profiler.trace.merge import merge as merge_traces
from profiler.trace.model import Exec, Signal, Socket, Trace

ZERO = frozenset({0})
CHAIN = ("cap_capable", "ns_capable", "setattr_prepare", "chown_common")

RECORDING = replace(
    touching(
        *uses("/etc/passwd", "read"),
        *(use for number in range(12) for use in uses(f"/var/lib/app/{number}x", "read write create")),
        sockets=[Socket("inet", "stream", 6, "bind", 80, None, {"ok": 1}, ZERO, 0.5, 0.75)],
        signals=[Signal("TERM", "workload", {"ok": 2}, ZERO)],
        execs=[Exec(0, None, 1), Exec(1, 0, 3)],
        syscalls=[
            call("openat", errors={"ENOENT": 2}),
            call("socket", [(2, 1, 6)]),
            call("chown"),
            call("ptrace", [(16,)]),
            call("unshare", [(0x10000000,)]),
            call("statx", ok=0, errors={"ENOSYS": 1}),
        ],
    ),
    capabilities=(
        check("CAP_CHOWN", syscalls={"chown": 1}, chains=(CHAIN,)),
        check("CAP_SYS_ADMIN", decisive=False),
        check("CAP_SYS_PTRACE"),
    ),
)


def explainer(recording: Trace = RECORDING) -> Explainer:
    return Explainer(derive(recording, Options(runtime="none")), recording, "app.trace.json")


def one(item: str) -> Explanation:
    (found,) = explainer().explain(item)
    return found


def fact(found: Explanation, label: str) -> list[str]:
    return [text for name, text in found.facts if name == label]


def test_syscall() -> None:
    found = one("openat")
    assert (found.verdict, found.where) == ("allowed", "syscalls.observed.openat")
    assert fact(found, "because") == ["observed (app)"]
    assert fact(found, "made by") == ["observed"]
    assert fact(found, "calls") == ["10, first 0s, last 1s after the start"]
    assert fact(found, "programs") == ["app: 10 calls"]
    assert fact(found, "results") == ["ok 1, ENOENT 2 (watched until the first success of each program)"]
    assert found.risk is not None
    assert found.risk.level == "low"


def test_arguments_are_named() -> None:
    found = one("syscall:socket")
    assert fact(found, "made by") == ["observed, arguments"]
    assert fact(found, "allowed")[-1] == "domain AF_INET, type SOCK_STREAM, protocol IPPROTO_TCP"
    assert fact(found, "arguments") == ["domain AF_INET, type SOCK_STREAM, protocol IPPROTO_TCP (app)"]


def test_what_stands_in_failed_or_is_refused() -> None:
    found = one("open")
    assert fact(found, "made by") == ["equivalents"]
    assert fact(found, "stands for") == ["openat"]
    found = one("statx")
    assert fact(found, "made by") == ["observed, failed_probes"]
    assert fact(found, "because") == ["observed (app)", "never seen to succeed (ENOSYS)"]
    found = one("clone3")
    assert (found.verdict, found.where, fact(found, "answer")) == ("refused", "refused.clone3", ["ENOSYS"])


def test_what_it_opens() -> None:
    (text,) = fact(one("unshare"), "holes")
    assert int(text.split()[0]) > 0
    assert "could not be reached without it: CVE-" in text
    assert fact(one("openat"), "holes") == ["none of the listed holes needs only this"]
    risk = one("ptrace").risk
    assert risk is not None
    assert risk.level == "high"


def test_capability() -> None:
    """A word may be a syscall and a capability: both are explained."""
    call_of, capability = explainer().explain("chown")
    assert (call_of.kind, capability.kind, capability.item) == ("syscall", "capability", "CAP_CHOWN")
    assert explainer().explain("CAP_CHOWN") == explainer().explain("capability:chown") == [capability]
    assert fact(capability, "chain") == ["cap_capable < ns_capable < setattr_prepare < chown_common"]
    assert fact(capability, "check")[0].startswith("needed: granted 1 time in chown, by app, initial user namespace")
    (admin,) = explainer().explain("sys_admin")
    assert admin.verdict == "not allowed"
    assert fact(admin, "outcome") == ["checked: not granted"]


def test_path() -> None:
    found = one("/etc/passwd")
    assert found.where == "files./etc/passwd"
    assert fact(found, "use") == ["read: ok 1, by app, first 0s, last 1s after the start, owner other"]
    found = one("/var/lib/app/3x")
    assert found.where == "files./var/lib/app/{digits}x"
    assert fact(found, "made by") == ["generalise"]
    assert len(fact(found, "use")) == 3
    assert one("/var/lib/app/99x").allowed
    assert one("/var/lib/app/{digits}x").allowed
    assert explainer().explain("/etc/shadow") == []
    assert explainer().suggestions("/etc/shadow")[0] == "/etc/passwd (read)"


def test_program_socket_signal() -> None:
    found = one("exec:/bin/sh")
    assert fact(found, "rule") == ["/bin/sh by /usr/sbin/app"]
    assert fact(found, "executed") == ["3 times by /usr/sbin/app"]
    for word in ("inet", "AF_INET", "socket:inet"):
        found = one(word)
        assert found.where == "network[0], syscalls.observed.socket"
        assert fact(found, "ports") == ["bind 80"]
        assert fact(found, "use") == ["bind port 80: ok 1, first 0.5s, last 0.8s after the start"]
    for word in ("SIGTERM", "TERM"):
        assert fact(one(word), "sent") == ["to workload: ok 2"]


def test_a_socket_that_was_given_is_no_edit() -> None:
    given = Socket("unix", "stream", 0, "inherit", None, None, {"ok": 1}, frozenset({0}), 0.5, 0.5)
    policy = derive(touching(sockets=[given]), Options(runtime="none"))
    (row,) = Explainer(policy, None, "policy.yaml").explain("socket:unix")
    assert fact(row, "made by") == ["network"]


def test_what_is_not_there() -> None:
    assert explainer().explain("opennat") == []
    assert explainer().suggestions("opennat") == ["openat", "open"]
    assert explainer().suggestions("CAP_CHWN")[0] in ("chown", "CAP_CHOWN")
    with pytest.raises(InputError, match="unknown ABI 'mips'"):
        explainer().explain("syscall:mips:open")


def test_seen_but_not_in_the_policy() -> None:
    """A reviewer took it out; the trace still tells of it."""
    policy = derive(RECORDING, Options(runtime="none", equivalents=False))
    policy = replace(policy, syscalls=tuple(row for row in policy.syscalls if row.name != "ptrace"), files=())
    found = Explainer(policy, RECORDING, "policy.yaml")
    (row,) = found.explain("ptrace")
    assert row.verdict == "not allowed"
    assert fact(row, "programs") == ["app: 10 calls"]
    (row,) = found.explain("/etc/passwd")
    assert row.verdict == "not allowed"


def test_reasons_by_hand_and_runs() -> None:
    """Who made an entry follows from the kinds of its reasons, whatever a program is called; runs are the trace's."""
    policy = derive(trace(call("read")), Options(runtime="none", equivalents=False))
    because = (Reason("denied", ("user: ok",)), said("user", "observed (app)"))
    policy = replace(policy, syscalls=(replace(policy.syscalls[0], because=because),))
    recordings = merge_traces([trace(call("read")), trace(call("write"))])
    (row,) = Explainer(policy, recordings, "policy.yaml").explain("read")
    assert fact(row, "because") == ['was denied ("user: ok")', '"observed (app)"']
    assert fact(row, "made by") == ["refine, by hand"]
    assert fact(row, "seen in") == ["1 of 2 runs"]
    (row,) = Explainer(replace(policy, syscalls=(replace(policy.syscalls[0], because=()),)), None, "x").explain("read")
    assert fact(row, "because") == ["no reason is given"]


def test_names_cannot_pass_for_evidence() -> None:
    """Wherever explain names a program, a name that is not a plain word stands in quotation marks."""
    hostile = "web: 900 calls, db"
    recording = trace(call("read"))
    recording = replace(recording, programs=(replace(recording.programs[0], path=f"/srv/{hostile}"),))
    (row,) = Explainer(derive(recording, Options(runtime="none")), recording, "x").explain("read")
    for label in ("programs", "because"):
        assert all(f'"{hostile}"' in text for text in fact(row, label))


def test_what_became_of_a_path() -> None:
    recording = touching(*uses("/etc/shadow", "read", results="EACCES"), *uses("/etc/none", "read", results="ENOENT"))
    found = Explainer(derive(recording, Options(runtime="none")), recording, "x")
    for path, outcome in (("/etc/shadow", "refused"), ("/etc/none", "missing")):
        (row,) = found.explain(path)
        assert (row.verdict, fact(row, "outcome")) == ("not allowed", [f"{outcome}: not granted"])


def test_all_is_sorted_by_risk() -> None:
    rows = explainer().all()
    ranks = [row.change.risk.rank for row in rows if row.change.risk]
    assert ranks == sorted(ranks, reverse=True)
    assert rows[0].change.name in ("CAP_SYS_PTRACE", "ptrace", "unshare")
    assert {row.change.subject for row in rows} >= {"syscall", "capability", "path", "network", "signal"}
    assert all(row.runs == "1 of 1" for row in rows if row.change.subject in ("capability", "path", "network"))
    assert {row.runs for row in rows if row.change.subject == "syscall"} == {"1 of 1", ""}, "equivalents were not seen"


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(policies(), st.data())
def test_everything_that_is_allowed_can_be_explained(policy: Policy, data: st.DataObject) -> None:
    found = Explainer(policy, None, "policy.yaml")
    items = [row.name for row in policy.syscalls if row.abi == policy.abis[0]]
    items += [row.name for row in policy.capabilities]
    items += [f"path:{row.pattern}" for row in policy.files]
    items += [f"exec:{row.program}" for row in policy.transitions]
    items += [f"socket:{row.family}" for row in policy.sockets] + [f"signal:{row.signal}" for row in policy.signals]
    for item in data.draw(st.lists(st.sampled_from(items), max_size=6, unique=True)) if items else ():
        explained = found.explain(item)
        assert any(row.allowed for row in explained), item
        # Nothing was written by hand here: every reason is known for that of a pass.
        assert not [text for row in explained for text in fact(row, "made by") if "by hand" in text], item


def test_patterns_that_hold_what_cannot_be_printed() -> None:
    rule = FileRule("/tmp/\\x1b\\{a\\}", ("read",), because=(said("user", "x"),))
    policy = replace(derive(touching(), Options(runtime="none")), has_files=True, files=(rule,))
    found = Explainer(policy, None, "policy.yaml")
    assert found.explain("/tmp/\x1b{a}")[0].allowed
    assert found.explain(rule.pattern)[0].allowed
