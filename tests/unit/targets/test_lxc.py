"""lxc.seccomp and lxc.conf."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from unit.policy.making import call, check, trace
from unit.targets import lxcs
from unit.targets.policies import file, policy

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Launch, Options, Policy, Workload
from profiler.targets.base import Existing, Output
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one


def recorded(*calls: str, uid: int = 0, **options: object) -> Policy:
    seen = trace(*map(call, calls), capabilities=[check("CAP_CHOWN"), check("CAP_BPF")], uid=uid)
    return derive(seen, Options(runtime="none", **options))  # type: ignore[arg-type]


def rules(made: Output) -> list[str]:
    return made.files[0].data.decode().splitlines()


def test_the_form() -> None:
    made = render_one("lxc-seccomp", recorded("read"))
    lines = rules(made)
    assert lines[:2] == ["2", "allowlist errno 1"]
    assert lines[4:6] == ["[all]", "# what the workload needs"]
    assert "read allow" in lines
    assert "clone3 errno 38" in lines
    assert lines.index("# what LXC itself calls") < lines.index("setsid allow")
    assert lines.count("execve allow") == 1
    wider = {loss.item for loss in made.losses}
    assert "calls of i386 and x32 with the same names" in wider
    assert any("setsid" in item and "read" not in item.split(", ") for item in wider)


def test_what_lxc_execute_needs_is_not_refused() -> None:
    """A call that the policy refuses with an error of its own, and that LXC's init makes."""
    start = rules(render_one("lxc-seccomp", recorded("read")))
    execute = rules(render_one("lxc-seccomp", recorded("read"), {"start": "execute"}))
    assert "close_range errno 38" in start
    assert "close_range errno 38" not in execute
    assert "close_range allow" in execute
    assert "prctl allow [0,0x23,SCMP_CMP_MASKED_EQ,0xffffffff]" in execute
    assert not any(line.startswith("prctl") for line in start)


def test_no_rule_has_the_action_of_the_default() -> None:
    made = recorded("read")
    refused = replace(made, refused=tuple(replace(row, errno="EPERM") for row in made.refused))
    assert not [line for line in rules(render_one("lxc-seccomp", refused)) if line.endswith("errno 1")][1:]
    kill = rules(render_one("lxc-seccomp", refused, {"action": "kill"}))
    assert kill[1] == "allowlist kill"
    assert "clone3 errno 1" in kill


def test_the_fragment() -> None:
    work = Workload(("/usr/sbin/nginx",), 33, image="docker.io/nginx:1", launch=Launch(user="33:33", tasks=512))
    made = policy(
        file("/var/www/a", "read"),
        file("/tmp/x y/b", "create", "write"),
        file("/dev/fuse", "read", "write", kinds=("char",)),
        file("/dev/rtc0", "read", kinds=("char",)),
    )
    done = render(replace(made, workload=work), [find("lxc"), find("apparmor")])
    files = {each.name: each.data for each in done.files}
    rows = lxcs.config(files["lxc.conf"])
    name = dict(rows)["lxc.apparmor.profile"]
    assert name.startswith("lxc-profgen-nginx-")
    assert f"profile {name} ".encode() in files["apparmor.profile"]
    assert b"signal receive peer=/usr/bin/lxc-start," in files["apparmor.profile"]
    assert ("lxc.cap.keep", "none") in rows
    assert ("lxc.cgroup2.devices.allow", "c 10:229 rw") in rows
    assert ("lxc.cgroup2.pids.max", "512") in rows
    assert ("lxc.rootfs.options", "ro") in rows
    assert lxcs.mounted(rows) == {"/tmp/x y": "tmpfs", "/dev/fuse": "none"}
    assert ("lxc.init.uid", "33") in rows
    assert ("lxc.init.gid", "33") in rows
    assert [loss.item for owner, loss in done.losses if owner == "lxc" and loss.effect == "refused"] == ["/dev/rtc0"]


def test_a_user_loses_capabilities() -> None:
    made = render_one("lxc", recorded("read", uid=7))
    assert {loss.item for loss in made.losses if loss.effect == "refused"} == {"CAP_CHOWN", "CAP_BPF"}
    assert b"# lxc.init.uid = 7" in made.files[0].data, "recorded outside of a container"
    rows = lxcs.config(made.files[0].data)
    assert lxcs.kept(rows) == {"CAP_CHOWN", "CAP_BPF"}


OWN = b"""# mine
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = dir:/srv/r
lxc.cap.drop = sys_admin
lxc.rootfs.options = noatime
lxc.mount.entry = none /srv/r/tmp tmpfs defaults 0 0
lxc.init.uid = 12
"""


def test_a_file_is_rewritten() -> None:
    made = replace(recorded("read"), has_files=True, files=(file("/tmp/a", "create"), file("/run/b", "create")))
    options = {"read-only": "yes", "seccomp": "/s", "selinux-context": "a:b:c:s0"}
    once = render_one("lxc", made, options, Existing("config", OWN))
    rows = lxcs.config(once.files[0].data)
    assert once.files[0].data.startswith(OWN.replace(b"lxc.cap.drop = sys_admin\n", b"").split(b"lxc.rootfs.o")[0])
    assert lxcs.kept(rows) == {"CAP_CHOWN", "CAP_BPF"}
    assert ("lxc.rootfs.options", "noatime,ro") in rows
    assert ("lxc.selinux.context", "a:b:c:s0") in rows
    assert ("lxc.seccomp.profile", "/s") in rows
    assert [value for key, value in rows if key == "lxc.mount.entry"] == [
        "none /srv/r/tmp tmpfs defaults 0 0",
        "tmpfs run tmpfs rw,nosuid,nodev,noexec,mode=1777,create=dir 0 0",
    ]
    assert {loss.item for loss in once.losses if loss.section == "capabilities"} == {"CAP_CHOWN", "CAP_BPF"}
    again = render_one("lxc", made, options, Existing("config", once.files[0].data))
    assert again.files[0].data == once.files[0].data


@pytest.mark.parametrize("data", [b"{}", b"a = b", b"lxc.uts.name = a\0"])
def test_what_is_not_a_configuration(data: bytes) -> None:
    with pytest.raises(InputError, match="config: "):
        render_one("lxc", recorded("read"), {}, Existing("config", data))


def test_settings() -> None:
    for word, text in (("seccomp", "a b"), ("name", "-x"), ("selinux-context", "x"), ("cgroup", "3")):
        setting = next(each for each in find("lxc").settings if each.name == word)
        with pytest.raises(InputError):
            setting.parse(text)


def test_memory_comes_before_what_is_mounted_below_it() -> None:
    made = replace(recorded("read"), has_files=True, files=(file("/tmp/a", "create"),))
    own = b"lxc.rootfs.path = dir:/r\nlxc.mount.entry = /srv tmp/srv none bind 0 0\n"
    once = render_one("lxc", made, {"read-only": "yes"}, Existing("config", own))
    places = list(lxcs.mounted(lxcs.config(once.files[0].data)))
    assert places == ["/tmp", "/tmp/srv"]


def test_shared_memory_is_mounted_where_lxc_has_none() -> None:
    made = replace(recorded("read"), has_files=True, files=(file("/dev/shm/sem.{name}", "create"),))
    own = b"lxc.uts.name = a\n"
    once = render_one("lxc", made, {}, Existing("config", own)).files[0].data
    assert lxcs.mounted(lxcs.config(once)) == {"/dev/shm": "tmpfs"}
    assert render_one("lxc", made, {}, Existing("config", once)).files[0].data == once
    assert lxcs.mounted(lxcs.config(render_one("lxc", recorded("read")).files[0].data)) == {}
    profile = yaml.safe_load(render_one("incus", made).files[0].data)
    assert lxcs.mounted(lxcs.config(profile["config"]["raw.lxc"].encode())) == {"/dev/shm": "tmpfs"}


def test_a_profile_of_incus() -> None:
    made = replace(recorded("read"), has_files=True, files=(file("/dev/fuse", "read", kinds=("char",)),))
    done = render(made, [find("incus"), find("lxc-seccomp")])
    files = {each.name: each.data for each in done.files}
    profile = yaml.safe_load(files["incus.yaml"])
    assert profile["config"]["raw.seccomp"].encode() == files["lxc.seccomp"]
    assert profile["config"]["raw.lxc"].splitlines()[:3] == [
        "lxc.cap.drop =",
        "lxc.cap.keep =",
        "lxc.cap.keep = chown bpf",
    ]
    assert profile["devices"]["profgen-1"] == {"type": "unix-char", "source": "/dev/fuse", "path": "/dev/fuse"}
