"""domain.xml of libvirt-lxc."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.targets import domains
from unit.targets.policies import file, policy

from profiler.errors import InputError
from profiler.policy.model import Capability, Launch, Policy, Workload
from profiler.targets.base import Existing
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one

OWN = b"""<?xml version='1.0'?>
<!-- mine -->
<domain type='lxc' id='3'>
  <name>web</name>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>exe</type><init>/usr/sbin/nginx</init>
    <initarg>-g</initarg>
    <initarg>daemon off;</initarg>
    <inituser>www-data</inituser><initgroup>www-data</initgroup>
  </os>
  <devices>
    <filesystem type='mount'><source dir='/srv/r &amp; x'/><target dir='/'/></filesystem>
    <filesystem type='mount'><source dir='/srv/u'/><target dir='/tmp/up'/></filesystem>
  </devices>
</domain>
"""
READ_ONLY = {"libvirt-lxc": {"read-only": "yes"}}


def made(*capabilities: str, command: tuple[str, ...] = ("/bin/app",), uid: int = 0, image: str | None = "i") -> Policy:
    work = Workload(command, uid, image=image, launch=Launch(user="7:7" if uid else None, tasks=64))
    rules = (
        file("/tmp/a", "create"),
        file("/dev/fuse", "read", kinds=("char",)),
        file("/dev/a\nb", "read", "write", kinds=("char",)),
    )
    return replace(policy(*rules, capabilities=tuple(map(Capability, capabilities))), workload=work)


def test_a_new_domain(tmp_path: Path) -> None:
    done = render(made("CAP_CHOWN", "CAP_BPF", uid=7), [find("libvirt-lxc"), find("launcher")])
    data = {each.name: each.data for each in done.files}["domain.xml"]
    domain = domains.read(data, tmp_path)
    assert domains.kept(domain) == {"CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP"}
    assert domains.command(domain) == ["/usr/local/lib/profgen/i/launcher.py", "--", "/bin/app"]
    assert [row.get("type") for row in domain.findall("devices/filesystem")] == ["mount", "ram", "mount"]
    assert domain.findtext("devices/hostdev/source/char") == "/dev/fuse"
    losses = {(loss.item, loss.effect) for owner, loss in done.losses if owner == "libvirt-lxc" and loss.item}
    assert losses == {
        ("CAP_BPF", "refused"),
        ("CAP_CHOWN", "refused"),
        ("CAP_SETGID, CAP_SETUID, CAP_SETPCAP", "wider"),
        ("/dev/a\\nb", "refused"),
        ("/dev/fuse", "wider"),
    }


def test_a_domain_is_rewritten(tmp_path: Path) -> None:
    targets = [find("libvirt-lxc"), find("launcher")]
    once = render(made("CAP_KILL"), targets, READ_ONLY, Existing("d.xml", OWN)).outputs["libvirt-lxc"].files[0].data
    domain = domains.read(once, tmp_path)
    assert once.startswith(OWN.split(b"<init>")[0])
    assert domains.command(domain)[1:] == ["--", "/usr/sbin/nginx", "-g", "daemon off;"]
    assert [row.get("dir") for row in domain.findall("devices/filesystem/target")][:3] == ["/", "/tmp", "/tmp/up"]
    assert domain.find("devices/filesystem/readonly") is not None
    again = render(made("CAP_KILL"), targets, READ_ONLY, Existing("d.xml", once)).outputs["libvirt-lxc"].files[0].data
    assert again == once


@pytest.mark.parametrize("command", [("/bin/a", ""), ("/bin/a", "x\ny"), ("/bin/a", " x"), ("cat",)])
def test_a_command_that_a_domain_cannot_say(command: tuple[str, ...], tmp_path: Path) -> None:
    alone = render_one("libvirt-lxc", made(command=command))
    assert domains.command(domains.read(alone.files[0].data, tmp_path)) == ["/sbin/init"]
    assert any("cannot say" in step.text for step in alone.usage)
    done = render(made(command=command), [find("libvirt-lxc"), find("launcher")])
    data = {each.name: each.data for each in done.files}["domain.xml"]
    assert domains.command(domains.read(data, tmp_path)) == ["/usr/local/lib/profgen/i/launcher.py"]


def test_shared_memory_is_mounted_where_libvirt_has_none(tmp_path: Path) -> None:
    shared = replace(made(), files=(file("/dev/shm/sem.{name}", "create"),))
    once = render_one("libvirt-lxc", shared, {}, Existing("d.xml", OWN)).files[0].data
    domain = domains.read(once, tmp_path)
    (place,) = [row.find("target") for row in domain.findall("devices/filesystem") if row.get("type") == "ram"]
    assert place is not None
    assert place.get("dir") == "/dev/shm"
    assert render_one("libvirt-lxc", shared, {}, Existing("d.xml", once)).files[0].data == once


@pytest.mark.parametrize("module", ["apparmor", "selinux"])
def test_a_module_confines_the_launcher_too(module: str) -> None:
    def lost(*names: str) -> set[str]:
        done = render(made(), [find("libvirt-lxc"), *map(find, names)])
        return {loss.item for owner, loss in done.losses if owner == "libvirt-lxc" and "launcher" in loss.why}

    assert lost(module, "launcher") == {"/usr/bin/python3 and its modules"}
    assert lost(module) == lost("launcher") == set()


def test_labels_and_users(tmp_path: Path) -> None:
    settings = {"libvirt-lxc": {"idmap": "1000:500", "selinux-label": "a:b:c:s0"}}
    done = render(made(), [find("libvirt-lxc"), find("apparmor")], settings, Existing("d.xml", OWN))
    domain = domains.read(done.outputs["libvirt-lxc"].files[0].data, tmp_path)
    assert {row.get("model"): row.findtext("label") for row in domain.findall("seclabel")} == {
        "selinux": "a:b:c:s0",
        "apparmor": done.outputs["apparmor"].called,
    }
    assert domain.find("idmap/uid").attrib == {"start": "0", "target": "1000", "count": "500"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data",
    [
        b"<domain type='kvm'/>",
        b"<a/>",
        b"{}",
        b"<!DOCTYPE a><domain type='lxc'/>",
        OWN.replace(b"</os>", b"</os><os/>"),
    ],
)
def test_what_is_not_a_domain(data: bytes) -> None:
    with pytest.raises(InputError, match=r"d\.xml: "):
        render_one("libvirt-lxc", made(), {}, Existing("d.xml", data))
