"""What each target's files say, read by the system's own parser or by one that is as strict, and compared with the
policy: the same rights, or what the target declared as lost.

A new target needs a line in CHECKS, or tests/unit/targets/test_parsed.py fails.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import simulation
import yaml
from executables import write_program
from system.apparmor_dfa import parser

from profiler.kernel.capabilities import number_of
from profiler.kernel.data import load
from profiler.kernel.syscalls import names_of
from profiler.kernel.syscalls import number_of as syscall_number
from profiler.kernel.systemd import words as words_of
from profiler.policy.model import FileRule, Policy
from profiler.registry.manifest import layer_of
from profiler.registry.rules import broken
from profiler.review.diff import compare
from profiler.review.rights import Rights, of_policy
from profiler.review.sources import from_bytes
from profiler.rewriting.units import assignments, lines_of
from profiler.targets.base import Loss
from profiler.targets.oci_artifact import DIRECTORY
from profiler.targets.systemd.check import check as check_unit

Files = Mapping[str, bytes]
Check = Callable[[Files, Policy, Sequence[Loss]], None]


def native(policy: Policy) -> str:
    return policy.abis[0]


def same_calls(data: bytes, name: str, policy: Policy, losses: Sequence[Loss]) -> Rights:
    """The rights in a file with a seccomp profile: those of the policy, with what is declared as wider."""
    read = from_bytes(data, name).rights(native(policy), None)
    assert not read.problems, read.problems
    changes = compare(of_policy(policy, "policy"), read, exact=True).changes
    # A profile has one list for all ABIs: what other ABIs than the native one get by that is in docs/limits.md.
    found = {change.name for change in changes if change.subject == "syscall" and ":" not in change.name}
    declared = " ".join(loss.item for loss in losses if loss.section in ("syscalls", "arguments"))
    # What is wider for a socket call is so for the call that does the same for 32-bit programs.
    known = {*declared.replace(",", " ").split(), *(("socketcall", "ipc") if declared else ())}
    assert found <= known or "more" in declared, (found, declared)
    assert not {change for change in changes if change.subject == "syscall" and not change.gains}
    return read


def seccomp(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    same_calls(files["seccomp.json"], "seccomp.json", policy, losses)


def capabilities(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    made = json.loads(files["capabilities.json"])
    assert (made["drop"], made["add"]) == (["ALL"], list(policy.needed()))
    assert made["oci"]["bounding"] == list(policy.needed())
    assert made["no_new_privileges"] is policy.no_new_privs


def apparmor(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """Parsed, not compiled: tests/system/test_apparmor_parser.py compiles it and asks whether it means the same."""
    done = parser(files["apparmor.profile"], "--names", "--skip-cache")
    assert done.returncode == 0, done.stderr


def words(files: Files, script: str, **variables: str) -> list[str]:
    """The words that a script gives to its engine, under a shell."""
    place = Path(os.environ["PYTEST_PLACE"])
    for name, data in files.items():
        (place / name).write_bytes(data)
    engine = place / "engine"
    if not engine.exists():
        write_program(engine, "#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    environment = {**os.environ, **{name: value.replace("ENGINE", str(engine)) for name, value in variables.items()}}
    done = subprocess.run(
        ["sh", str(place / script), "NAME:1", "box"], env=environment, capture_output=True, timeout=120, check=True
    )
    assert not done.stderr, done.stderr
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


def values(words: Sequence[str], option: str) -> list[str]:
    """What follows an option, each time."""
    return [words[position + 1] for position, word in enumerate(words) if word == option]


def engine(name: str, ambient: bool = False) -> Check:
    """The check of NAME-run.sh. ``ambient``: the engine gives capabilities to users other than root too."""

    def check(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
        given = words(files, f"{name}-run.sh", PROFGEN_ENGINE="ENGINE")
        assert given[-2:] == ["NAME:1", "box"]
        assert values(given, "--cap-drop") == ["ALL"]
        assert [f"CAP_{each}" for each in values(given, "--cap-add")] == list(policy.needed())
        assert ("no-new-privileges" in values(given, "--security-opt")) is policy.no_new_privs
        assert without_root(losses) == (set(policy.needed()) if policy.workload.uid and not ambient else set())

    return check


def without_root(losses: Sequence[Loss]) -> set[str]:
    """The capabilities that only root would have."""
    return {loss.item for loss in losses if loss.section == "capabilities" and loss.effect == "refused"}


def compose(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    (service,) = yaml.safe_load(files["compose.yaml"])["services"].values()
    assert [f"CAP_{name}" for name in service.get("cap_add", [])] == list(policy.needed())
    assert service["cap_drop"] == ["ALL"]
    assert ("no-new-privileges:true" in service["security_opt"]) is policy.no_new_privs


def quadlet(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    from unit.targets import quadlets

    (unit,) = (data for name, data in files.items() if name.endswith(".container"))
    options = quadlets.command(unit.decode("utf-8", "surrogateescape"))
    assert [f"CAP_{each.partition('=')[2]}" for each in options if each.startswith("--cap-add=")] == [*policy.needed()]
    assert "--cap-drop=all" in options
    assert ("--security-opt=no-new-privileges" in options) is policy.no_new_privs


def oci(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    read = same_calls(files["config.json"], "config.json", policy, losses)
    made = json.loads(files["config.json"])
    assert read.capabilities == set(policy.needed())
    assert read.no_new_privs is policy.no_new_privs
    held = made["process"]["capabilities"]
    assert held["ambient"] == (list(policy.needed()) if policy.workload.uid else [])
    devices = made["linux"].get("resources", {}).get("devices", [])
    assert not policy.has_files or devices[0] == {"allow": False, "access": "rwm"}


def containerd(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    given = words(files, "containerd-run.sh", PROFGEN_CTR="ENGINE")
    assert given[-2:] == ["NAME:1", "box"]
    assert given[0] == "run"
    assert values(given, "--seccomp") == ["--seccomp-profile"]
    held = set(load("docker_default.yaml")["capabilities"])
    assert (held - set(values(given, "--cap-drop"))) | set(values(given, "--cap-add")) == set(policy.needed())
    assert ("--allow-new-privs" in given) is not policy.no_new_privs
    assert "--privileged" not in given
    assert without_root(losses) == (set(policy.needed()) if policy.workload.uid else set())


def oci_artifact(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    def blob(name: str) -> bytes:
        return files[f"{DIRECTORY}/blobs/sha256/{name[7:]}"]

    index: dict[str, Any] = json.loads(files[f"{DIRECTORY}/index.json"])
    (entry,) = index["manifests"]
    profile = blob(layer_of(blob(entry["digest"]))["digest"])
    assert broken(profile) == ()
    same_calls(profile, "seccomp.json", policy, losses)


NEEDS = {
    "read": {"read_file", "read_dir"}, "write": {"write_file"}, "append": {"write_file"}, "truncate": {"truncate"},
    "execute": {"execute", "read_file"}, "list": {"read_dir"},
}  # fmt: skip
"""Accesses to what Landlock wants on the file, for a kind that has it (landlock(7))."""
NAMES = {
    "file": ("make_reg", "remove_file"), "symlink": ("make_sym", "remove_file"), "fifo": ("make_fifo", "remove_file"),
    "char": ("make_char", "remove_file"), "block": ("make_block", "remove_file"),
    "socket": ("make_sock", "remove_file"), "directory": ("make_dir", "remove_dir"),
}  # fmt: skip
"""Kinds to what making and removing a name wants on its directory."""


def launcher(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """The script is executed as a module, which starts nothing; tests/system/test_run.py asks the kernel."""
    made: dict[str, Any] = {"__name__": "launcher"}
    exec(compile(files["launcher.py"], "launcher.py", "exec"), made)
    assert made["CAPABILITIES"] == sum(1 << (number_of(name) or 0) for name in policy.needed())
    assert made["NO_NEW_PRIVS"] is policy.no_new_privs
    program = list(struct.iter_unpack("<HBBI", base64.b64decode(made["FILTER"])))
    for entry in policy.syscalls:
        number = syscall_number(policy.abis[0], entry.name)
        if entry.abi == policy.abis[0] == "x86_64" and number is not None and not entry.rules:
            assert simulation.run(program, number, (0,) * 6) == simulation.ALLOWED, entry.name
    rules = made["LANDLOCK"]
    unused = {loss.section for loss in losses if loss.section == loss.item}
    assert not (rules.files and "files" in unused)
    given: dict[str, set[str]] = {row.pattern: set(row.rights.split()) for row in rules.paths}
    if rules.files:
        wider = {loss.item for loss in losses if loss.section == "files"}
        declared = {place for place in given if place in wider or any(place in item.split(", ") for item in wider)}
        many = any(" more" in item for item in wider)
        plain = {rule.pattern for rule in policy.files}
        for place in given.keys() - declared:
            assert place in plain or many or any(f"{place.rstrip('/')}/{{tree}}" == each for each in plain), place
        for rule in policy.files:
            lacking(rule, given)
    assert bool(rules.network) is (policy.has_files and "sockets" not in unused)


def lacking(rule: FileRule, given: Mapping[str, set[str]]) -> None:
    """AssertionError for rights that a rule of the policy has, and that no rule of Landlock gives."""
    if set(rule.states) == {"detached"} or not rule.pattern.startswith(("/", "{")):
        return

    def held(path: str) -> set[str]:
        tops = [path, *(path[:at] for at, letter in enumerate(path) if letter == "/"), "/"]
        return {name for top in tops for name in given.get(top or "/", ())}

    kinds = set(NAMES) if "unknown" in rule.kinds or not rule.kinds else set(rule.kinds)
    here, above = held(rule.pattern), held(rule.pattern.rpartition("/")[0] or "/")
    for word in rule.access:
        wanted = NEEDS.get(word, set())
        if kinds - {"directory", "symlink"}:
            assert wanted - {"read_dir"} <= here, (rule, word)
        if "directory" in kinds:
            assert wanted & {"read_dir"} <= here, (rule, word)
        for kind in kinds:
            make, remove = NAMES[kind]
            if word in ("make", "link", "rename_to") or (word == "create" and kind == "file"):
                assert make in above, (rule, word)
            if word in ("remove", "rename_from", "rename_to"):
                assert remove in above, (rule, word)


def manifests(files: Files) -> list[Any]:
    """The objects in all files of YAML."""
    return [row for name, data in files.items() if name.endswith(".yaml") for row in yaml.safe_load_all(data) if row]


def given(names: Sequence[str], policy: Policy, losses: Sequence[Loss]) -> None:
    """Capabilities without CAP_: those of the policy, but for what is declared as lost."""
    lost = {loss.item for loss in losses if loss.section == "capabilities"}
    assert {f"CAP_{name}" for name in names} | lost == set(policy.needed()) | lost


def kubernetes(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """tests/unit/targets/test_kubernetes.py checks manifests against the published schemas."""
    (pod,) = manifests(files)
    (container,) = pod["spec"]["containers"]
    context = container["securityContext"]
    given(context["capabilities"].get("add", []), policy, losses)
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context.get("allowPrivilegeEscalation", True) or policy.no_new_privs
    assert context["seccompProfile"]["type"] == "Localhost"


def openshift(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    (constraints,) = manifests(files)
    given(constraints["allowedCapabilities"] or [], policy, losses)
    assert constraints["allowPrivilegedContainer"] is False


def spo(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """tests/unit/targets/spo reads the profiles back rule by rule."""
    profile = next(row for row in manifests(files) if row["kind"] == "SeccompProfile")["spec"]
    allowed = {
        name for row in profile.get("syscalls", ()) if row["action"] == "SCMP_ACT_ALLOW" for name in row["names"]
    }
    assert allowed == {entry.name for entry in policy.syscalls}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"


def lxc_seccomp(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """Read by LXC's grammar. tests/system/test_lxc.py has LXC read it."""
    from unit.targets import lxcs

    profile = lxcs.seccomp(files["lxc.seccomp"], policy.abis)
    same_calls(json.dumps(profile).encode(), "seccomp.json", policy, losses)


def lxc(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    from unit.targets import lxcs

    rows = lxcs.config(files["lxc.conf"])
    assert lxcs.kept(rows) == set(policy.needed())
    assert (("lxc.no_new_privs", "1") in rows) is policy.no_new_privs
    assert dict(rows)["lxc.seccomp.profile"].startswith("/etc/lxc/")
    assert (("lxc.cgroup2.devices.deny", "a") in rows) is policy.has_files
    assert without_root(losses) == (set(policy.needed()) if policy.workload.uid else set())
    lxcs.mounted(rows)


def systemd(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """Read as systemd.exec(5) says: an allow-list begins with @default, and ``~`` takes out or gives an error."""
    (data,) = files.values()
    check_unit(data, "unit")
    keys: dict[str, list[str]] = {}
    for row in assignments(lines_of(data.decode())):
        assert row.section == "Service"
        keys[row.key] = [*keys.get(row.key, []), row.value] if row.value else []
    allowed = set(words_of("default")) | set(words_of("default_later"))
    errors: dict[str, str] = {}
    for line in keys["SystemCallFilter"]:
        for name, _, error in (word.partition(":") for word in line.removeprefix("~").split()):
            (allowed.discard if line.startswith("~") else allowed.add)(name)
            if error:
                errors[name] = error
    native_names = names_of(native(policy))
    wider = {name for loss in losses if loss.section == "syscalls" for name in loss.item.split(", ")}
    own = {entry.name for entry in policy.syscalls if entry.section != "base"}
    assert allowed & native_names == (own | wider) & native_names
    assert own <= allowed
    assert errors == {row.name: row.errno for row in policy.refused if row.name not in own | wider}
    assert " ".join(keys["CapabilityBoundingSet"]).split() == list(policy.needed())
    assert " ".join(keys["AmbientCapabilities"]).split() == (list(policy.needed()) if policy.workload.uid else [])
    forced = {loss.section for loss in losses if loss.effect == "refused"} == {"no_new_privs"}
    assert (keys.get("NoNewPrivileges") == ["yes"]) is policy.no_new_privs
    assert forced is bool(policy.workload.uid and not policy.no_new_privs)


CHECKS: Mapping[str, Check] = {
    "seccomp": seccomp,
    "capabilities": capabilities,
    "apparmor": apparmor,
    "launcher": launcher,
    "docker": engine("docker"),
    "compose": compose,
    "podman": engine("podman", ambient=True),
    "nerdctl": engine("nerdctl"),
    "quadlet": quadlet,
    "oci": oci,
    "containerd": containerd,
    "oci-artifact": oci_artifact,
    "kubernetes": kubernetes,
    "openshift": openshift,
    "spo": spo,
    "lxc-seccomp": lxc_seccomp,
    "lxc": lxc,
    "systemd": systemd,
}
"""Name of a target to the check of its files."""
