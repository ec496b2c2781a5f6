"""A reviewed policy and a new recording: what people wrote stays, comments and all, and what is new comes in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from unit.policy.making import call, check, touching, uses
from unit.policy.test_merge import allowed, policies

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.editing import comments, with_comments
from profiler.policy.merge import merge
from profiler.policy.model import Options, Policy
from profiler.policy.reasons import Reason, said
from profiler.policy.threeway import three_way
from profiler.review.diff import compare
from profiler.review.rights import of_policy
from profiler.trace.model import Program

RELAXED = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def generated(*extra: Any, files: str = "read", sockets: Any = ((2, 1, 6),), calls: int = 10, **members: Any) -> Policy:
    """What is made of a recording."""
    rows = [
        call("read", calls=calls),
        call("openat", calls=calls),
        call("ptrace", [(0,)]),
        call("socket", sockets),
        *extra,
    ]
    recording = touching(*uses("/etc/app.conf", files), *uses("/srv/page", "read"), syscalls=rows)
    recording = replace(recording, capabilities=(check("CAP_CHOWN"), check("CAP_KILL")))
    return replace(derive(recording, Options(runtime="none", equivalents=False)), **members)


def edited(policy: Policy, *changes: tuple[str, str]) -> tuple[str, Policy]:
    text = dumps(policy)
    for old, new in changes:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    return text, loads(text.encode(), "edited")


def entry(text: str, start: str) -> str:
    """The lines of an entry, which start so."""
    lines = text.splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if line.startswith(start))
    indent = len(start) - len(start.lstrip())
    end = next(index for index in range(at + 1, len(lines)) if len(lines[index]) - len(lines[index].lstrip()) <= indent)
    return "".join(lines[at:end])


@RELAXED
@given(policies(), policies())
def test_what_one_side_did_not_change(base: Policy, new: Policy) -> None:
    """The other side is taken as it is."""
    if not new.has_files:
        new = replace(new, has_files=base.has_files)
    if not base.has_files:
        base = replace(base, has_files=new.has_files)
    for ours, theirs in ((base, new), (new, base)):
        merged = three_way(base, ours, theirs)
        assert merged.conflicts == ()
        assert allowed(merged.policy) == allowed(new)
    assert allowed(three_way(base, new, new).policy) == allowed(new)


@RELAXED
@given(policies(), policies(), policies())
def test_nothing_that_neither_allows(base: Policy, ours: Policy, theirs: Policy) -> None:
    """Whatever the three are: the result can be read, and allows nothing that is in none of the two."""
    made = three_way(base, ours, theirs).policy
    assert dumps(loads(dumps(made).encode(), "made")) == dumps(made)
    either = merge([ours, theirs])
    if made.has_files and not either.has_files:
        made = replace(made, has_files=False)
    either = replace(either, no_new_privs=made.no_new_privs)
    found = compare(of_policy(either, "either"), of_policy(made, "made")).changes
    assert [row for row in found if row.gains] == []


def test_a_new_release() -> None:
    """The everyday use: base was generated, reviewed and edited; the next recording saw more, and the same with other
    counts."""
    base = generated()
    text = dumps(base)
    changes = (
        (entry(text, "    ptrace:"), ""),  # taken out
        ("  observed:\n", "  observed:\n    getpid:\n"),
        (
            "    read: {because: {observed: [app]}}\n",
            "    read: {because: [{observed: [app]}, asked the team]}\n",
        ),
        ("  CAP_CHOWN: {", "  # only until the next release\n  CAP_CHOWN: {"),
        (entry(text, "  CAP_KILL:"), ""),
        ("type: SOCK_STREAM, protocol: IPPROTO_IP}\n", "type: SOCK_STREAM, protocol: IPPROTO_IP}  # TCP only\n"),
        ("  /etc/app.conf: {access: [read]", "  /etc/app.conf: {access: [read, lock]"),
    )
    ours_text, ours = edited(base, *changes)
    theirs = generated(call("bind"), files="read write", sockets=[(2, 1, 6), (10, 1, 6)], calls=7000)
    result = three_way(base, ours, theirs)
    assert result.conflicts == ()
    names = {row.name: row for row in result.policy.syscalls}
    assert set(names) == {"getpid", "read", "openat", "socket", "bind"}
    assert names["read"].because == (Reason("observed", ("app",)), said("user", "asked the team"))
    assert names["getpid"].because == ()
    assert len(names["socket"].rules) == 4
    assert [row.name for row in result.policy.capabilities] == ["CAP_CHOWN"]
    assert {row.pattern: row.access for row in result.policy.files}["/etc/app.conf"] == ("read", "write", "lock")
    merged = with_comments(result.policy, comments(ours_text))
    assert "  # only until the next release\n  CAP_CHOWN: {" in merged
    assert "protocol: IPPROTO_IP}  # TCP only\n" in merged
    assert loads(merged.encode(), "merged") == loads(dumps(result.policy).encode(), "plain")


def conflicts(base: Policy, ours: Policy, theirs: Policy) -> list[str]:
    return [f"{row.where}: {row.what}" for row in three_way(base, ours, theirs).conflicts]


def test_what_was_taken_out_stays_out_and_is_named_when_it_grew() -> None:
    base = generated()
    ours = replace(base, syscalls=tuple(row for row in base.syscalls if row.name != "socket"))
    theirs = generated(sockets=[(2, 1, 6), (16, 3, 0)])
    assert conflicts(base, ours, generated(calls=3)) == []
    assert conflicts(base, ours, theirs) == [
        "syscalls.observed.socket: you took it out, and the new one allows it otherwise than before; it stays out"
    ]
    assert "socket" not in {row.name for row in three_way(base, ours, theirs).policy.syscalls}


def test_a_narrowed_filter_stays_narrow() -> None:
    """Rules are merged one by one: what was taken out stays out, what is new comes in."""
    base = generated(sockets=[(2, 1, 6), (16, 3, 0)])
    ours = replace(
        base,
        syscalls=tuple(replace(row, rules=row.rules[:2]) if row.name == "socket" else row for row in base.syscalls),
    )
    theirs = generated(sockets=[(2, 1, 6), (16, 3, 0), (1, 1, 0)])
    result = three_way(base, ours, theirs)
    assert result.conflicts == ()
    (row,) = (row for row in result.policy.syscalls if row.name == "socket")
    assert not row.permits([16, 3, 0, 0, 0, 0])
    assert row.permits([2, 1, 6, 0, 0, 0])
    assert row.permits([1, 1, 0, 0, 0, 0])


def test_two_ways_at_once() -> None:
    base = generated()

    def socket_rules(policy: Policy, rules: Any) -> Policy:
        return replace(
            policy,
            syscalls=tuple(replace(row, rules=rules) if row.name == "socket" else row for row in policy.syscalls),
        )

    theirs = generated(sockets=[(2, 1, 6), (16, 3, 0)])
    opened = socket_rules(base, ())
    assert conflicts(base, opened, theirs) == [
        "syscalls.observed.socket.rules: 2 entries became anything in yours and 3 entries in the new one; yours is kept"
    ]
    merged = three_way(base, opened, theirs).policy
    assert all(not row.rules for row in merged.syscalls if row.name == "socket")
    assert conflicts(base, replace(base, runtime="runc"), replace(base, runtime="docker")) == [
        "runtime: none became runc in yours and docker in the new one; yours is kept"
    ]
    changed = replace(base, files=tuple(replace(row, access=("read", "lock")) for row in base.files))
    gone = replace(base, files=())
    assert [text.partition(":")[0] for text in conflicts(base, changed, gone)] == [
        "files./etc/app.conf",
        "files./srv/page",
    ]
    assert three_way(base, changed, gone).policy.files == changed.files
    refused = replace(base, syscalls=(), refused=(*base.refused, *generated(call("bind")).refused))
    assert conflicts(base, refused, base) == []


def test_a_pattern_of_the_reviewers_stands_for_new_paths() -> None:
    base = generated()
    _, ours = edited(base, ("  /srv/page: {", '  "/srv/{name}": {'))
    recording = touching(
        *uses("/etc/app.conf", "read"),
        *uses("/srv/page", "read"),
        *uses("/srv/other", "read"),
        *uses("/srv/log", "write"),
    )
    theirs = replace(derive(recording, Options(runtime="none")), syscalls=base.syscalls, capabilities=base.capabilities)
    result = three_way(base, ours, theirs)
    assert [row.pattern for row in result.policy.files] == ["/etc/app.conf", "/srv/log", "/srv/{name}"]


def test_a_recording_without_files_takes_none_away() -> None:
    base = generated()
    theirs = replace(generated(call("bind")), has_files=False, files=(), transitions=())
    result = three_way(base, base, theirs)
    assert [row.where for row in result.conflicts] == ["files"]
    assert allowed(result.policy)["files"] == allowed(base)["files"]


def test_features() -> None:
    base, with_ring = generated(), generated(io_uring=(Reason("observed", ("app",)),))
    assert three_way(base, base, with_ring).policy.io_uring == with_ring.io_uring
    assert three_way(with_ring, base, with_ring).policy.io_uring == ()
    assert three_way(base, with_ring, base).policy.io_uring == with_ring.io_uring
    assert three_way(with_ring, with_ring, base).policy.io_uring == ()


def test_two_machines() -> None:
    other = replace(generated(), abis=("aarch64",), syscalls=())
    with pytest.raises(InputError, match="aarch64, x86_64"):
        three_way(generated(), generated(), other)


@pytest.mark.parametrize("name", ["web: 900 calls, db", "user: ok", "user", "a (b)", "x, y", "never seen to succeed"])
def test_a_program_cannot_forge_an_edit(name: str) -> None:
    """Its name is a name in data, whatever it says: what only the old recording saw goes."""
    program = Program(f"/usr/sbin/{name}", executions=1)

    def recorded(*extra: Any) -> Policy:
        recording = touching(syscalls=[call("read"), *extra])
        return derive(replace(recording, programs=(program,)), Options(runtime="none", equivalents=False))

    base, theirs = recorded(call("bind")), recorded()
    result = three_way(base, base, theirs)
    assert result.conflicts == ()
    assert [row.name for row in result.policy.syscalls] == ["read"]
    assert result.policy.syscalls[0].because == (Reason("observed", (name,)),)
    merged = merge([base, theirs])
    assert {row.because for row in merged.syscalls} == {(Reason("observed", (name,)),)}
    assert loads(dumps(merged).encode(), "x").syscalls == merged.syscalls
    assert {row.by for entry in merged.syscalls for row in entry.because} == {"recording"}
