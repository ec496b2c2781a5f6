"""The drop-in as a file, and what is refused before it reaches one."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import call, check, derived, trace
from unit.targets.policies import file

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Launch, Options, Policy
from profiler.policy.patterns import literal
from profiler.quoting.systemd import has_unit_path, unit_path
from profiler.rewriting.units import assignments, lines_of
from profiler.targets.base import Artifact, Existing, Request
from profiler.targets.catalogue import default, find
from profiler.targets.rendering import render_one
from profiler.targets.systemd.check import check as check_unit
from profiler.targets.systemd.check import paths
from profiler.targets.systemd.target import unit_of


def unit(**fields: object) -> Policy:
    policy = derived(call("read"))
    return replace(policy, workload=replace(policy.workload, launch=Launch(engine="systemd", **fields)))  # type: ignore[arg-type]


def test_the_unit_that_was_recorded() -> None:
    assert unit_of(unit(unit="redis")) == "redis.service"
    assert unit_of(unit(unit="a-b@x\\x2dy.service")) == "a-b@x\\x2dy.service"
    assert unit_of(unit(unit="user-1.slice")) == "app.service", "a drop-in is for services"
    made = render_one("systemd", unit(unit="redis"))
    assert [each.name for each in made.files] == ["redis.service.d/50-profgen.conf"]
    assert [step.kind for step in made.usage] == ["load", "use", "undo"]
    assert [target.name for target in default("systemd") if target.launches] == ["systemd"]


@pytest.mark.parametrize("name", ["", "-x", ".", "a/b", "a b", "x.socket", "x" * 300, "ü"])
def test_what_is_not_the_name_of_a_service(name: str) -> None:
    with pytest.raises(InputError, match="not the name of a service"):
        find("systemd").settings[0].parse(name)


def test_losses() -> None:
    policy = derive(trace(call("read"), capabilities=[check("CAP_KILL")], uid=5), Options(no_new_privs=False))
    losses = render_one("systemd", policy).losses
    assert [(loss.section, loss.effect) for loss in losses] == [
        ("syscalls", "wider"),
        ("syscalls", "wider"),
        ("no_new_privs", "refused"),
    ]
    both = derived(call("read"), call("stat"), call("brk"), call("pipe", abi="i386"))
    losses = render_one("systemd", both).losses
    assert [loss.item for loss in losses if "architectures" in loss.why] == [
        "pipe, pipe2, poll, ppoll, pselect6, select"
    ]


def test_a_unit_rewritten() -> None:
    before = b"[Unit]\nDescription=x\n\n[Service]\n# why\nExecStart=/x\nCapabilityBoundingSet=CAP_SYS_ADMIN\nNice=5\n"
    request = Request(
        unit(unit="x"),
        existing=Existing("x.service", before),
        artifacts={"apparmor": Artifact("a%b", b"", "apparmor.profile")},
    )
    (made,) = find("systemd").render(request).files
    assert made.name == "x.service"
    lines = made.data.decode().splitlines()
    assert lines[:8] == [
        "[Unit]", "Description=x", "", "[Service]", "# why", "ExecStart=/x",
        "# profgen: the capabilities that were needed", "CapabilityBoundingSet=",
    ]  # fmt: skip
    assert "Nice=5" in lines
    assert "AppArmorProfile=a%%b" in lines
    again = replace(request, existing=Existing("x.service", made.data))
    assert find("systemd").render(again).files[0].data == made.data
    with pytest.raises(InputError, match=r"x.service: cannot be rewritten: it has no section \[Service\]"):
        find("systemd").render(replace(request, existing=Existing("x.service", b"[Unit]\n")))


def test_a_stricter_value_of_the_unit_stays() -> None:
    before = b"[Service]\nProtectHome=true\nProtectSystem=full\n"
    policy = replace(unit(unit="x"), has_files=True)
    data = find("systemd").render(Request(policy, existing=Existing("x", before))).files[0].data
    assert b"\nProtectHome=true\n" in data
    assert data.count(b"ProtectHome=") == 1
    assert b"\nProtectSystem=strict\n" in data
    changed = replace(policy, files=(file("/{name}/x", "create"), file("/x", "create")))
    again = find("systemd").render(Request(changed, existing=Existing("x", data))).files[0].data
    assert b"ProtectSystem" not in again, "what profgen put there follows the policy"


def rewritten(policy: Policy, *own: str) -> tuple[list[str], list[str]]:
    """The lines of a unit with these lines of its own, and what is refused of the policy."""
    text = "\n".join(("[Service]", *own, "")).encode()
    made = find("systemd").render(Request(policy, existing=Existing("/units/x.service", text)))
    assert [each.name for each in made.files] == ["x.service"]
    again = find("systemd").render(Request(policy, existing=Existing("x.service", made.files[0].data)))
    assert again == made
    return made.files[0].data.decode().splitlines(), [loss.item for loss in made.losses if loss.effect == "refused"]


@pytest.mark.parametrize(
    ("line", "home", "private"),
    [
        ("ExecStart=/usr/bin/x", "ProtectHome=tmpfs", True),
        ("ExecStart=-/home/u/bin/x", "ProtectHome=read-only", True),
        ("ExecStartPre=+/bin/sh -c 'cat /run/user/5/x'", "ProtectHome=read-only", True),
        ("WorkingDirectory=~", "ProtectHome=read-only", True),
        ("WorkingDirectory=%h/x", "ProtectHome=read-only", True),
        ("EnvironmentFile=-/root/env", "ProtectHome=read-only", True),
        ("StandardOutput=append:/tmp/log", "ProtectHome=tmpfs", False),
        ("ExecStart=/usr/bin/x --spool=%V/x", "ProtectHome=tmpfs", False),
        ("ExecStart=/usr/bin/x /srv/home /x/tmp", "ProtectHome=tmpfs", True),
    ],
)
def test_what_the_unit_names_itself_is_not_hidden(line: str, home: str, private: bool) -> None:
    policy = replace(unit(unit="x"), has_files=True, files=(file("/tmp/{random}", "create"),))
    lines, refused = rewritten(policy, line)
    assert home in lines
    assert ("PrivateTmp=yes" in lines) is private
    assert ("ReadWritePaths=-/tmp" in lines) is not private
    assert not refused


def test_devices_that_the_unit_names_are_there() -> None:
    policy = replace(unit(unit="x"), has_files=True)
    assert "PrivateDevices=yes" in rewritten(policy, "StandardOutput=file:/dev/null")[0]
    assert "PrivateDevices=yes" not in rewritten(policy, "TTYPath=/dev/tty9")[0]


def test_what_the_unit_forbids_and_the_policy_needs_is_a_loss() -> None:
    policy = replace(unit(unit="x"), has_files=True, files=(file("/{name}/x", "create"), file("/home/x", "create")))
    lines, refused = rewritten(
        policy, "ProtectSystem=strict", "ProtectHome=true", "PrivateTmp=1", "ProtectHostname=yes"
    )
    assert {"ProtectSystem=strict", "ProtectHome=true", "PrivateTmp=1"} <= {*lines}
    assert refused == ["what ProtectSystem=strict, ProtectHome=yes, PrivateTmp=yes forbids"]
    assert rewritten(policy, "ProtectHome=no", "PrivateTmp=no")[1] == []
    nothing = replace(policy, files=())
    assert rewritten(nothing, "ProtectHome=read-only", "PrivateTmp=yes", "ProtectSystem=full")[1] == []


@pytest.mark.parametrize(
    "line",
    [
        "ProtectSytem=strict", "PrivateTmp=true", "PrivateTmp", "SystemCallFilter=reed", "SystemCallFilter=@default",
        "SystemCallFilter=read:EWHAT", "SystemCallFilter=read:ERESTARTSYS", "SystemCallFilter=read ~write",
        "SystemCallArchitectures=x86_64", "SystemCallErrorNumber=1000", "CapabilityBoundingSet=CHOWN",
        "CapabilityBoundingSet=CAP_CHOWN,CAP_KILL", "AmbientCapabilities=CAP_64", "RestrictAddressFamilies=AF_UNSPEC",
        "RestrictAddressFamilies=inet", "RestrictNamespaces=mount", "ReadWritePaths=srv", "ReadWritePaths=/a%b",
        "ReadWritePaths=/a\\x20b", 'ReadWritePaths="/a', "DeviceAllow=/srv/x rw", "DeviceAllow=/dev/x wr",
        "SocketBindAllow=tcp:80", "TasksMax=0", "AppArmorProfile=a b", "ExecStart=/x", "PrivateTmp=yes\\",
        "[Unit]\nA=b", "ReadWritePaths=\udcff/x", "IPAddressAllow=any",
    ],
)  # fmt: skip
def test_what_systemd_would_leave_out_is_an_error(line: str) -> None:
    with pytest.raises(InputError, match=r"^unit, line \d: "):
        check_unit(f"[Service]\n{line}\n".encode("utf-8", "surrogateescape"), "unit")


def test_a_template_of_the_user_is_checked_too(tmp_path: Path) -> None:
    from profiler.targets.rendering import render
    from profiler.targets.template import Templates

    (tmp_path / "systemd.conf.j2").write_text("[Service]\nCapabilityBoundingSet=chown\n")
    with pytest.raises(InputError, match="systemd would leave out chown"):
        render(unit(), [find("systemd")], templates=Templates(tmp_path))


@given(st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: "/" + text))
def test_any_path_is_read_as_it_was(path: str) -> None:
    if has_unit_path(path):
        assert paths(f"-{unit_path(path)} {unit_path('/b c')}") == [f"-{path}", "/b c"]
    else:
        with pytest.raises(ValueError, match="a unit cannot name"):
            unit_path(path)


NAMES = ["a b", 'q"q', "b\\s", "b\\\\", "p%p", "ü", "s's", "d$d", "t\tt", ";x", "#y", "c:d", "-e", "%i", "x=", "[s]"]


def test_systemd_itself_reads_the_file(tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say but about calls that its libseccomp does not know."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    policy = derived(call("read"), call("socket", [(2, 1, 6), (38, 5, 0)]), call("unshare", [(0x10000000,)]))
    policy = replace(policy, has_files=True, files=tuple(file(literal(f"/srv/{name}/x"), "create") for name in NAMES))
    (made,) = render_one("systemd", policy).files
    body = made.data.decode().partition("[Service]\n")[2]
    (tmp_path / "app.service").write_text(f"[Service]\nExecStart=/bin/true\n{body}")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "app.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "app.service" in line]
    assert all("Failed to parse system call, ignoring: " in line for line in said), said
    found = [row.value for row in assignments(lines_of(made.data.decode())) if row.key == "ReadWritePaths"]
    assert [paths(value) for value in found[1:]] == [[f"-/srv/{name}"] for name in sorted(NAMES)]
