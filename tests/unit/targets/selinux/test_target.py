"""The target selinux: what a module says, and where types come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from inputs import examples
from unit.targets.policies import file, policies, policy, transition
from unit.targets.selinux.cil import allowed, compiled, read, walk

from profiler.errors import InputError
from profiler.kernel.capabilities import CAPABILITIES
from profiler.policy.model import (
    Capability,
    InspectionRule,
    Launch,
    MountRule,
    Policy,
    SignalRule,
    SocketRule,
    Workload,
)
from profiler.policy.reasons import Reason
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one
from profiler.trace.model import ContainerMount

TARGET = find("selinux")
SEEN = (Reason("observed", ("app",)),)


def made(given: Policy, **options: str) -> str:
    """The module. ``options``: settings, as they are given with -O."""
    (only,) = render_one("selinux", given, parsed(**options)).files
    return only.data.decode()


def parsed(**options: str) -> dict[str, Any]:
    known = {setting.name: setting for setting in TARGET.settings}
    return {name: known[name].parse(text) for name, text in options.items()}


def rights(given: Policy, target: str, kind: str, **options: str) -> set[str]:
    return set(allowed(made(given, **options)).get((target, kind), ()))


def losses(given: Policy, **options: str) -> dict[str, str]:
    return {loss.item: loss.effect for loss in render_one("selinux", given, parsed(**options)).losses}


START = transition("/usr/sbin/app", None)


def test_the_whole_module(tmp_path: Path) -> None:
    """A service: its own type, who starts it, and its rights."""
    one = policy(
        file("/usr/sbin/app", "execute"),
        file("/etc/app.conf", "read"),
        file("/var/log/app.log", "append", "create"),
        transitions=(START,),
        capabilities=(Capability("CAP_CHOWN"), Capability("CAP_SYSLOG")),
    )
    text = made(one, name="app")
    compiled(text, tmp_path)
    found = allowed(text)
    assert "(block app\n" in text
    assert found["etc_t", "file"] >= {"open", "read", "map"}
    assert "write" not in found["etc_t", "file"]
    assert found["var_log_t", "file"] >= {"append", "create"}
    assert found["var_log_t", "dir"] >= {"add_name", "search", "write"}
    assert found["bin_t", "file"] >= {"entrypoint", "execute", "execute_no_trans"}
    assert found["process", "capability"] == {"chown"}
    assert found["process", "capability2"] == {"syslog"}
    assert losses(one)["etc_t"] == "wider"
    assert "    (optional from_init_t\n" in text


def test_names() -> None:
    one = policy(file("/etc/x", "read"))
    output = render_one("selinux", one)
    assert output.called is not None
    assert output.called.startswith("profgen_app_")
    assert output.files[0].name == output.called.replace(".process", ".cil")
    for name in ("1a", "a-b", "a.b", "self", "container", "net_container", "process", "a" * 101, "a\n", ""):
        with pytest.raises(InputError):
            parsed(name=name)


def test_the_convention_of_udica(tmp_path: Path) -> None:
    """A container inherits the rights on its own files; the host's directories have rules."""
    mounts = (ContainerMount("bind", "/srv/app", "/data", False), ContainerMount("volume", "v", "/v", False))
    workload = Workload(("/app",), 0, image="i", launch=Launch(engine="docker", mounts=mounts))
    one = Policy(
        workload, ("x86_64",), no_new_privs=True, runtime="any", has_files=True,
        files=(file("/app", "execute"), file("/data/x", "read", "write"), file("/v/x", "write")),
    )  # fmt: skip
    text = made(one)
    compiled(text, tmp_path)
    assert "(blockinherit container)" in text
    assert set(allowed(text)) == {("process", "process"), ("var_t", "file")}
    assert losses(one)["the template container"] == "wider"
    minimal = allowed(made(one, form="minimal"))
    assert minimal["container_file_t", "file"] >= {"execute", "entrypoint", "write"}
    assert "write" in minimal["var_t", "file"]
    assert rights(one, "data", "file", relabel="/data") == set()  # a path of the host
    assert rights(one, "data", "file", relabel="/srv/app") >= {"read", "write"}
    assert rights(one, "app_t", "file", types="/data=app_t") >= {"read", "write"}


def test_types_of_a_machine(tmp_path: Path) -> None:
    contexts = tmp_path / "file_contexts"
    contexts.write_text("/etc(/.*)?\tsystem_u:object_r:conf_t:s0\n/tmp\t-d\tu:object_r:tmp_t:s0\n/tmp/.*\t<<none>>\n")
    one = policy(file("/etc/x", "read"), file("/tmp/other", "read"), file("/tmp/mine", "create", "write"))
    text = made(one, contexts=str(contexts))
    found = allowed(text)
    assert found["conf_t", "file"] >= {"read"}
    assert "read" in found["tmp_t", "file"]
    assert "write" not in found["tmp_t", "file"]
    assert {"create", "write"} <= found["data", "file"]
    assert ["typetransition", "process", "tmp_t", "file", "data"] in list(walk(read(text)))
    with pytest.raises(InputError, match="no such file"):
        parsed(contexts=str(tmp_path / "missing"))
    with pytest.raises(InputError, match="not a regular file"):
        parsed(contexts=str(tmp_path))
    contexts.write_text("nothing\n")
    with pytest.raises(InputError, match="not a file_contexts"):
        parsed(contexts=str(contexts))


def test_directories_of_its_own(tmp_path: Path) -> None:
    one = policy(file("/srv/app.d/{tree}", "create", "write"))
    text = made(one, relabel="/srv/app.d")
    compiled(text, tmp_path)
    assert r'(filecon "/srv/app\.d(/.*)?" any (system_u object_r data ((s0) (s0))))' in text
    assert {"create", "write"} <= allowed(text)["data", "file"]
    assert r"/srv/app\.d(/.*)?" in (tmp_path / "contexts").read_text()
    assert "restorecon -R /srv/app.d" in text
    for path in ("srv", "/a b", '/a"', "/a*", ""):
        with pytest.raises(InputError):
            parsed(relabel=path)


@pytest.mark.parametrize("text", ["x", "/a", "=b", "/a=", "/a=1", "tcp/0=a_t", "icmp/1=a_t", "/a=b_t,"])
def test_types_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError):
        parsed(types=text)


def test_sockets() -> None:
    listens = SocketRule("inet", "stream", 6, ("create", "bind", "listen", "accept"), SEEN, (("bind", (0, 81)),))
    calls = SocketRule("inet6", "stream", 6, ("create", "connect"), SEEN, (("connect", (443,)),))
    one = policy(sockets=(listens, calls))
    assert rights(one, "reserved_port_t", "tcp_socket") == {"name_bind"}
    assert rights(one, "http_port_t", "tcp_socket") == {"name_connect"}
    assert rights(one, "node_type", "tcp_socket") == {"node_bind"}
    assert rights(one, "web_port_t", "tcp_socket", types="tcp/81=web_port_t") == {"name_bind"}
    assert losses(one)["http_port_t"] == "wider"


def test_sockets_of_whoever_started_it() -> None:
    """As with systemd's socket activation."""
    one = policy(sockets=(SocketRule("inet", "stream", 6, ("inherit", "accept", "create"), SEEN),))
    assert rights(one, "init_t", "tcp_socket") == {"accept", "append", "getattr", "ioctl", "read", "write"}


def test_unix_sockets() -> None:
    def connects(address: str) -> SocketRule:
        return SocketRule("unix", "stream", 0, ("create", "connect"), SEEN, addresses=(("connect", (address,)),))

    bound = SocketRule("unix", "stream", 0, ("bind", "listen"), SEEN, addresses=(("bind", ("/run/a",)),))
    assert rights(policy(sockets=(connects("/run/a"), bound)), "domain", "unix_stream_socket") == set()
    one = policy(sockets=(connects("/run/b"),))
    assert rights(one, "domain", "unix_stream_socket") == {"connectto"}
    assert losses(one)["unix socket /run/b"] == "wider"


def test_processes() -> None:
    one = policy(
        file("/proc/{pid}/status", "read", whose=("self",)),
        file("/proc/{pid}/maps", "read", whose=("outside",)),
        signals=(SignalRule("TERM", "outside"), SignalRule("KILL", "workload")),
        inspections=(InspectionRule("trace", "workload"),),
    )
    assert {"read"} <= rights(one, "process", "file")
    assert {"read"} <= rights(one, "domain", "file")
    assert rights(one, "domain", "process") == {"signal"}
    assert {"ptrace", "sigkill"} <= rights(one, "process", "process")
    assert losses(one)["TERM"] == "wider"


def test_mounts() -> None:
    known = MountRule("mount", "tmpfs", "/mnt", "tmpfs", ())
    unknown = MountRule("mount", "x", "/mnt", "odd", ())
    one = policy(mounts=(known, unknown))
    assert {"mounton"} <= rights(one, "mnt_t", "dir")
    assert {"mount"} <= rights(one, "tmpfs_t", "filesystem")
    found = [loss.effect for loss in render_one("selinux", one).losses if loss.section == "mounts"]
    assert found == ["wider", "refused"]


def test_user_namespaces() -> None:
    """A process has every capability in a namespace of its own, which no policy limits."""
    found = allowed(made(policy(user_namespaces=SEEN)))
    several = found["process", "cap_userns"] | found["process", "cap2_userns"]
    assert len(several) == len(CAPABILITIES)
    assert found["process", "user_namespace"] == {"create"}
    assert ("process", "capability") not in found


def test_a_device_is_not_made_by_an_open() -> None:
    found = allowed(made(policy(file("/dev/null", "write", "create", kinds=("char",)))))
    assert "create" not in found["null_device_t", "chr_file"]
    assert ("device_t", "dir") not in found


def test_without_files() -> None:
    with pytest.raises(InputError, match="record again"):
        made(policy(has_files=False))


def test_launchers_name_the_type() -> None:
    one = policy(file("/etc/x", "read"))
    chosen = {"selinux": {"name": "web"}}
    for name, text in (
        ("docker", "label=type:web.process"),
        ("podman", "label=type:web.process"),
        ("compose", "label=type:web.process"),
        ("quadlet", "SecurityLabelType=web.process"),
        ("oci", '"selinuxLabel": "system_u:system_r:web.process:s0"'),
        ("kubernetes", "type: web.process"),
        ("lxc", "lxc.selinux.context = system_u:system_r:web.process:s0"),
        ("libvirt-lxc", "<label>system_u:system_r:web.process:s0</label>"),
        ("systemd", "\nSELinuxContext=system_u:system_r:web.process:s0\n"),
        ("nspawn", "start it with --selinux-context=system_u:system_r:web.process:s0\n"),
        ("openshift", "  seLinuxOptions:\n    type: web.process"),
    ):
        files = render(one, [find(name), TARGET], chosen).files
        assert any(text in each.data.decode() for each in files if not each.name.endswith(".cil")), name
        alone = render(one, [find(name)]).files
        assert not any(text in each.data.decode() for each in alone), name


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=policies())
def test_any_policy_compiles(tmp_path: Path, one: Policy) -> None:
    """And what secilc(8) reads is what the module's own text says."""
    for options in ({}, {"form": "minimal"}, {"form": "udica"}):
        compiled(made(one, **options), tmp_path)


WORDS = {
    "read": "read", "write": "write", "append": "append", "create": "create", "lock": "lock", "mode": "setattr",
    "execute": "execute_no_trans", "link": "link",
}  # fmt: skip
"""Accesses that are one permission on a file, which needs nothing else to be allowed."""
ALSO = {
    "read": {"execute", "list", "map", "readlink"},
    "write": {"connect", "times", "truncate"},
    "create": {"make", "bind"},
    "lock": {"lock_exclusive"},
    "setattr": {"bind", "owner", "times", "xattr"},
}
"""Permission to the other accesses that need it."""


@settings(deadline=None, max_examples=examples(80), phases=(Phase.explicit, Phase.generate))
@given(one=policies())
def test_the_rights_on_files_are_those_of_the_policy(one: Policy) -> None:
    """Where all files have one type, a file has exactly the rights that some rule gives."""
    text = made(one, types="/=one_t", form="minimal")
    text = "".join(line for line in text.splitlines(True) if "(file (entrypoint " not in line)
    found = set(allowed(text).get(("one_t", "file"), ()))
    rules = [
        rule
        for rule in one.files
        if rule.pattern.startswith(("/", "{home}"))
        and "detached" not in rule.states
        and not rule.pattern.startswith("/proc/{pid}")
        and {"file", "unknown"} & set(rule.kinds)
    ]
    words = {word for rule in rules for word in rule.access}
    for word, right in WORDS.items():
        wanted = bool({word, *ALSO.get(right, ())} & words)
        if word == "link":
            wanted = any("link" in rule.access and rule.existing for rule in one.files)
        assert (right in found) is wanted, (word, right, found)
