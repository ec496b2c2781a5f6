"""lint --image: what the files of an image make of a policy."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from unit.images.archives import Entry, attribute, directory, link, saved
from unit.targets.policies import file, policy, transition

from profiler.cli.main import cli
from profiler.images.image import Image, read_archive
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.user_namespaces import can_be_mounted, only_initial
from profiler.policy.document import dumps
from profiler.policy.model import Capability, MountRule, Policy
from profiler.review.findings import Finding
from profiler.review.image import findings
from profiler.review.sources import from_bytes

RUNS_SU = (transition("/usr/sbin/app", None), transition("/usr/bin/su", "/usr/sbin/app"))
SU = Entry("usr/bin/su", 0o4755)
PING = Entry("usr/bin/ping", capabilities=attribute(13))


def image(*entries: Entry, user: str = "") -> Image:
    return read_archive(io.BytesIO(saved(entries, user=user)), "image.tar")


def found(policy: Policy | dict[str, Any], *entries: Entry, rule: str = "", user: str = "") -> list[Finding]:
    data = dumps(policy).encode() if isinstance(policy, Policy) else json.dumps(policy).encode()
    rows = findings(from_bytes(data, "policy.yaml"), "x86_64", image(*entries, user=user))
    return [row for row in rows if row.rule.startswith(rule)]


def capabilities(*names: str) -> tuple[Capability, ...]:
    return tuple(Capability(f"CAP_{name}") for name in names)


def only(rows: Iterable[Finding]) -> Finding:
    (one,) = rows
    return one


def test_setuid_under_no_new_privs() -> None:
    one = only(found(policy(transitions=RUNS_SU), SU, rule="privileges"))
    assert (one.rule, one.level, one.about) == ("privileges-useless", "warning", ("/usr/bin/su",))
    assert "/usr/bin/su (setuid root) is executed, and gains nothing under no_new_privs" in one.what
    one = only(found(policy(), SU, replace(SU, name="usr/bin/sg", mode=0o2755, gid=4), rule="privileges"))
    assert (one.rule, one.level) == ("privileges-useless", "note")
    assert "2 programs that the workload does not execute" in one.what
    assert "/usr/bin/sg (setgid to group 4)" in one.what


def test_setuid_without_no_new_privs() -> None:
    free = policy(transitions=RUNS_SU, no_new_privs=False, capabilities=capabilities("CHOWN"))
    one = only(found(free, SU, rule="privileges"))
    assert (one.rule, one.level) == ("privileges-used", "note")
    assert one.what.endswith("gains that, with CAP_CHOWN")
    one = only(found(policy(no_new_privs=False), SU, rule="privileges"))
    assert (one.rule, one.level) == ("privileges-open", "warning")


def test_through_a_link_of_the_image() -> None:
    rows = (transition("/usr/bin/su", None),)
    made = found(policy(transitions=rows), link("bin", "usr/bin"), replace(SU, name="bin/su"), rule="privileges")
    assert only(made).level == "warning"


def test_file_capabilities_outside_of_the_bounding_set() -> None:
    """execve(2) fails with EPERM, also for root and under no_new_privs."""
    runs = policy(transitions=(transition("/usr/bin/ping", None),))
    one = only(found(runs, PING, rule="privileges"))
    assert (one.rule, one.level) == ("privileges-refused", "error")
    assert "execve fails with EPERM" in one.what
    allowed = replace(runs, capabilities=capabilities("NET_RAW"))
    assert only(found(allowed, PING, rule="privileges")).rule == "privileges-useless"
    assert only(found(replace(allowed, no_new_privs=False), PING, rule="privileges")).rule == "privileges-used"
    # Without the effective bit it is executed, and gains nothing.
    mild = replace(PING, capabilities=attribute(13, effective=False))
    assert only(found(runs, mild, rule="privileges")).rule == "privileges-useless"
    assert only(found(policy(), PING, rule="privileges")).level == "note"


def test_an_oci_configuration_says_nothing_of_files() -> None:
    sets = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}
    config = {"ociVersion": "1.0.2", "process": {"noNewPrivileges": False, "capabilities": sets}}
    rows = found(config, SU, PING, rule="privileges")
    assert {(row.rule, row.level) for row in rows} == {
        ("privileges-refused", "warning"),
        ("privileges-open", "warning"),
    }
    seccomp = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    assert only(found(seccomp, SU, PING, rule="privileges")).level == "note"


@pytest.mark.parametrize(
    ("rule", "entry", "expected"),
    [
        (file("/var/log/app/x", "create", "write"), directory("var/log/app"), "write to /var/log/app"),
        (file("/var/log/app/{name}", "create"), directory("var/log/app"), "write to /var/log/app"),
        (file("/var/log/app/new/{name}", "make"), directory("var/log/app"), "write to /var/log/app"),
        (file("/tmp/x", "create", "write"), directory("tmp", 0o1777), None),
        (file("/etc/shadow", "read"), Entry("etc/shadow", 0o640), "read /etc/shadow"),
        (file("/etc/passwd", "read"), Entry("etc/passwd", 0o644), None),
        (file("/etc/passwd", "write"), Entry("etc/passwd", 0o644), "write to /etc/passwd"),
        (file("/sbin/x", "execute"), Entry("sbin/x", 0o700), "execute /sbin/x"),
        (file("/srv", "owner", kinds=("directory",)), directory("srv", 0o777), "change the owner or mode of /srv"),
        (file("/dev/null", "write", kinds=("char",)), Entry("dev/null", 0o600), None),
        (file("/proc/kcore", "read"), directory("proc"), None),
    ],
)
def test_what_only_root_may_do(rule: Any, entry: Entry, expected: str | None) -> None:
    rows = found(policy(rule), entry, rule="needs-root")
    assert [row.what.partition(", as")[0] for row in rows] == (
        [] if expected is None else [f"only root may {expected}"]
    )
    assert all(row.level == "note" for row in rows)


def test_capabilities_need_root() -> None:
    rows = found(policy(capabilities=capabilities("NET_BIND_SERVICE", "SETUID", "SYS_TIME")), rule="needs-root")
    assert [row.about for row in rows] == [("CAP_SETUID",), ("CAP_NET_BIND_SERVICE",), ("CAP_SYS_TIME",)]
    assert "ip_unprivileged_port_start" in rows[1].fix
    made = policy(capabilities=capabilities("SETUID"))
    assert not found(replace(made, workload=replace(made.workload, uid=33)), rule="needs-root")


def test_user_namespaces() -> None:
    mounts = (MountRule("mount", None, "/x", "ext4", ()), MountRule("mount", None, "/y", "fuse.sshfs", ()))
    made = policy(capabilities=capabilities("SYS_TIME", "NET_ADMIN"), mounts=mounts)
    device, foreign = replace(SU, name="d", mode=0, type=b"3"), Entry("big", uid=70_000)
    rows = found(made, device, foreign, rule="needs-host-root")
    assert [row.about for row in rows] == [("CAP_SYS_TIME",), ("ext4",), ("/big",), ("/d",)]


def test_facts_of_user_namespaces() -> None:
    assert set(only_initial()) <= set(CAPABILITIES)
    assert all("(" in why for why in only_initial().values())
    assert can_be_mounted("tmpfs")
    assert not can_be_mounted("ext4")


def test_the_command(tmp_path: Path) -> None:
    path, tar = tmp_path / "policy.yaml", tmp_path / "image.tar"
    path.write_text(dumps(policy(transitions=RUNS_SU)))
    tar.write_bytes(saved([SU, Entry("../up")]))

    def lint(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(cli, ["lint", str(path), "--image", str(tar), "--json", *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        data: dict[str, Any] = json.loads(done.stdout)
        return data

    data = lint()
    assert data["image"] == str(tar)
    assert {"privileges-useless", "image-note"} <= {row["rule"] for row in data["findings"]}
    data = lint("--ignore", "privileges-useless", "--reason", "no harm")
    assert "privileges-useless" not in {row["rule"] for row in data["findings"]}
    assert [row["rule"] for row in data["accepted"]] == ["privileges-useless"]
    done = CliRunner().invoke(cli, ["lint", str(path), "--image", str(tmp_path / "none")])
    assert "cannot be read: no such file" in str(done.exception)
