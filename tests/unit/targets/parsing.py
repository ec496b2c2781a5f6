"""What each target's files say, read by the system's own parser or by one that is as strict, and compared with the
policy: the same rights, or what the target declared as lost.

A new target needs a line in CHECKS, or tests/unit/targets/test_parsed.py fails.
"""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import simulation
import yaml
from executables import write_program
from system.apparmor_dfa import parser
from unit.targets import setups

from profiler.kernel.capabilities import number_of
from profiler.kernel.data import load
from profiler.kernel.syscalls import names_of
from profiler.kernel.syscalls import number_of as syscall_number
from profiler.kernel.systemd import words as words_of
from profiler.policy.model import FileRule, Policy
from profiler.policy.patterns import path_of, start_of
from profiler.policy.posture import posture
from profiler.policy.writable import within
from profiler.quoting.text import printable
from profiler.registry.manifest import layer_of
from profiler.registry.rules import broken
from profiler.review.diff import compare
from profiler.review.rights import Rights, of_policy
from profiler.review.sources import from_bytes
from profiler.rewriting.units import assignments, lines_of
from profiler.targets.base import Loss
from profiler.targets.oci_artifact import DIRECTORY
from profiler.targets.smack.rules import UNLABELLED
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
    found, profile = setups.of_service(yaml.safe_load(files["compose.yaml"]))
    same_calls(files[profile], "seccomp.json", policy, losses)
    assert found == setups.of_policy(policy, losses, setups.in_yaml)


def quadlet(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    ((name, unit),) = ((name, data) for name, data in files.items() if name.endswith(".container"))
    found, place = setups.of_unit(unit.decode("utf-8", "surrogateescape"))
    profile = f"{name.removesuffix('container')}seccomp.json"
    assert place == f"%E/containers/systemd/{profile}"
    same_calls(files[profile], "seccomp.json", policy, losses)
    wanted = setups.of_policy(policy, losses)
    other = (wanted.image or "").endswith((".image", ".build"))  # the names of other units
    assert found == (replace(wanted, image=None) if other else wanted)


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
            if {*rule.access} & {"append", "write"} == {"append"} and "write_file" in held(rule.pattern, given):
                assert many or any(rule.pattern in item for item in wider) or not on_files(rule), rule
    assert bool(rules.network) is (policy.has_files and "sockets" not in unused)
    assert bool(made["UNLIMITED"]) is bool(policy.has_files and unused)


def on_files(rule: FileRule) -> bool:
    """Whether a rule is for files that Landlock sees opened."""
    kinds = set(rule.kinds) - {"directory", "symlink"} or not rule.kinds
    return bool(kinds) and set(rule.states) != {"detached"} and rule.pattern.startswith(("/", "{"))


def held(path: str, given: Mapping[str, set[str]]) -> set[str]:
    """The rights that the rules of Landlock give on a path."""
    tops = [path, *(path[:at] for at, letter in enumerate(path) if letter == "/"), "/"]
    return {name for top in tops for name in given.get(top or "/", ())}


def lacking(rule: FileRule, given: Mapping[str, set[str]]) -> None:
    """AssertionError for rights that a rule of the policy has, and that no rule of Landlock gives."""
    if set(rule.states) == {"detached"} or not rule.pattern.startswith(("/", "{")):
        return
    kinds = set(NAMES) if "unknown" in rule.kinds or not rule.kinds else set(rule.kinds)
    here, above = held(rule.pattern, given), held(rule.pattern.rpartition("/")[0] or "/", given)
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
    """Capabilities without CAP_: exactly those of the policy. Those that the user will not get are declared."""
    assert [f"CAP_{name}" for name in names] == list(policy.needed())
    assert without_root(losses) == (set(policy.needed()) if policy.workload.uid else set())


def confined(
    context: Mapping[str, Any], mounted: Mapping[str, str], files: Files, policy: Policy, losses: Sequence[Loss]
) -> None:
    """A securityContext, and where volumes are mounted: what the policy and its posture say, and nothing else."""
    place, lost = posture(policy), {(loss.section, loss.item) for loss in losses}
    known = {
        "runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation", "capabilities",
        "readOnlyRootFilesystem", "seccompProfile",
    }  # fmt: skip
    assert context.keys() <= known, "no appArmorProfile without its file, and no other member"
    given(context["capabilities"].get("add", []), policy, losses)
    assert context["capabilities"]["drop"] == ["ALL"]
    admin = "CAP_SYS_ADMIN" in policy.needed()
    assert context.get("allowPrivilegeEscalation") == (False if policy.no_new_privs and not admin else None)
    assert (("no_new_privs", "no_new_privs") in lost) is (policy.no_new_privs and admin)
    assert context["seccompProfile"]["type"] == "Localhost"
    assert re.fullmatch(r"profgen/[a-z0-9][a-z0-9._-]*\.json", context["seccompProfile"]["localhostProfile"])
    same_calls(files["seccomp.json"], "seccomp.json", policy, losses)
    user = place.uid if place.sure and place.uid else None
    assert (context.get("runAsUser"), context.get("runAsNonRoot")) == (user, True if user else None)
    assert context.get("runAsGroup") == (place.gid if user else None)
    read_only = place.sure and (place.read_only or place.elsewhere == () == place.kept)
    assert context.get("readOnlyRootFilesystem", False) is (read_only and not policy.workload.incomplete)
    written = [*(row.path for row in place.temporary), *place.kept] if context.get("readOnlyRootFilesystem") else []
    refused = {item for section, item in lost if section == "files"}
    assert set(written) == {*mounted, *(path for path in written if printable(path) in refused)}
    assert {row.path for row in place.devices} == {item for section, item in lost if section == "devices"}
    # Losses by item of files are declared only where something is refused.
    assert all(loss.effect == "refused" for loss in losses if loss.section == "files" and loss.item)


def kubernetes(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    kubernetes_validate.validate(pod := manifests(files)[0], "1.37", strict=True)
    spec = pod["spec"]
    (container,) = spec["containers"]
    mounted = {row["mountPath"]: row["name"] for row in container.get("volumeMounts", [])}
    volumes = {row["name"]: row for row in spec.get("volumes", [])}
    assert set(volumes) == set(mounted.values())
    assert all(row.keys() == {"name", "emptyDir"} for row in volumes.values())
    kept = {row.destination for row in posture(policy).mounts}
    confined(
        container["securityContext"],
        {path: name for path, name in mounted.items() if path not in kept},
        files,
        policy,
        losses,
    )
    assert spec.keys() <= {"containers", "volumes", "hostUsers", "hostNetwork"}
    assert spec.get("hostUsers") in (None, False)
    assert spec.get("hostUsers") is None or policy.workload.image is not None
    assert spec.get("hostNetwork", False) is (posture(policy).network == "host")


def openshift(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """Every member: what a pod may have is what the pod of the target kubernetes has."""
    from unit.targets.crds import SCC

    (constraints,) = manifests(files)
    jsonschema.validate(constraints, SCC)
    made = dict(constraints)
    place = posture(policy)
    host = place.network == "host"
    given(made.pop("allowedCapabilities"), policy, losses)
    admin = "CAP_SYS_ADMIN" in policy.needed()
    assert made.pop("allowPrivilegeEscalation") is not (policy.no_new_privs and not admin)
    read_only = made.pop("readOnlyRootFilesystem")
    assert not read_only or (place.sure and place.elsewhere is not None)
    (profile,) = made.pop("seccompProfiles")
    assert re.fullmatch(r"localhost/profgen/[a-z0-9-]+\.json", profile)
    user = {"type": "MustRunAs", "uid": place.uid} if place.sure and place.uid else {"type": "MustRunAsRange"}
    assert made.pop("runAsUser") == (user if place.uid else {"type": "RunAsAny"})
    volumes = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    assert set(made.pop("volumes")) == {*volumes, "secret"}
    assert made.pop("metadata").keys() == {"name"}
    assert made == {
        "apiVersion": "security.openshift.io/v1",
        "kind": "SecurityContextConstraints",
        **dict.fromkeys(
            ("allowHostDirVolumePlugin", "allowHostIPC", "allowHostPID", "allowPrivilegedContainer"), False
        ),
        **dict.fromkeys(("allowHostNetwork", "allowHostPorts"), host),
        "defaultAddCapabilities": [],
        "requiredDropCapabilities": ["ALL"],
        "seLinuxContext": {"type": "MustRunAs"},
        "fsGroup": {"type": "MustRunAs"},
        "supplementalGroups": {"type": "RunAsAny"},
        "users": [],
        "groups": [],
    }


def spo(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """tests/unit/targets/spo has more about paths. The rights of the SeccompProfile with all arguments, and the lists
    of the AppArmorProfile as the operator makes rules of them."""
    from unit.targets.spo.crds import schema
    from unit.targets.spo.samples import allows_what_the_policy_does

    same_calls(files["spo.yaml"], "spo.yaml", policy, losses)
    made = {row["kind"]: row for row in manifests(files)}
    for kind, row in made.items():
        jsonschema.Draft7Validator(schema(kind)).validate(row)
    assert made["SeccompProfile"]["spec"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert ("AppArmorProfile" in made) is policy.has_files
    lost = {(loss.section, loss.item) for loss in losses}
    assert (("capabilities", "capabilities") in lost) is not policy.has_files
    if policy.has_files:
        abstract = made["AppArmorProfile"]["spec"]["abstract"]
        allows_what_the_policy_does(abstract, policy, losses)
        held = abstract.get("capability", {}).get("allowedCapabilities", [])
        assert [f"CAP_{name.upper()}" for name in held] == list(policy.needed())
        network = abstract["network"]
        kinds = {(row.family, row.type) for row in policy.sockets}
        assert network["allowRaw"] is any(sort == "raw" for _, sort in kinds)
        for name, sort in (("allowTcp", "stream"), ("allowUdp", "dgram")):
            assert network["allowedProtocols"][name] is bool({("inet", sort), ("inet6", sort)} & kinds)


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


def selinux(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """tests/vm/test_selinux.py enforces it with a distribution's policy."""
    from unit.targets.selinux.cil import allowed, compiled

    (text,) = (data.decode() for name, data in files.items() if name.endswith(".cil"))
    compiled(text, Path(os.environ["PYTEST_PLACE"]))
    rights = allowed(text)
    held = {
        f"CAP_{name.upper()}"
        for kind in ("capability", "capability2")
        for name in rights.get(("process", kind), frozenset())
    }
    assert held == set(policy.needed())
    assert bool(rights.get(("process", "cap_userns"))) is bool(policy.user_namespaces)
    kinds = {kind for target, kind in rights if target == "process" and kind.endswith("socket")}
    assert bool(kinds) is bool(policy.sockets)
    assert all(loss.effect == "wider" or loss.item for loss in losses)


def smack(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """By the grammar of the kernel's documentation. Each label of the script has a rule with just its letters."""
    from unit.targets import smacks

    rules = smacks.rules(files["smack.rules"])
    script = files["smack-labels.sh"]
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    things = {thing for subject, thing in rules if subject == "_"}
    (label,) = things - {thing for subject, thing in rules if subject != "_"}
    held = {thing for subject, thing in rules if subject == label}
    for thing in held:
        assert rules[label, thing] == set(thing.rpartition(".")[2])
    assert {subject for subject, _ in rules} <= {label, "_"}
    written = {rule.pattern for rule in policy.files if "write" in rule.access and "linked" in rule.states}
    declared = {loss.item for loss in losses}
    for pattern in written:
        path = path_of(pattern)
        if path is not None and path.startswith("/") and not within(path, UNLABELLED):
            assert any(smacks.allows(rules, label, thing, "rw") for thing in held), pattern
        elif path is None and pattern not in declared:
            assert pattern.startswith("{home}") or within(start_of(pattern), UNLABELLED), pattern


def ima(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """The root has no files, so each has to be declared; tests/unit/targets/test_ima.py has roots with files."""
    from unit.targets import imas

    place = Path(os.environ["PYTEST_PLACE"])
    assert not imas.manifest(files["ima.sha256"])
    assert not imas.labelled(files["ima-sign.sh"], place)
    rules = imas.rules(files["ima-policy"])
    appraised = {rule.conditions for rule in rules if rule.action == "appraise"}
    assert appraised == ({(f"uid={policy.workload.uid}",)} if policy.workload.uid else set())
    executed = {rule.pattern for rule in policy.files if {"execute", "map"} & set(rule.access)}
    refused = {loss.item for loss in losses if loss.effect == "refused"}
    assert executed | set(policy.programs) <= refused or not policy.workload.uid


def tomoyo(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """Checked by TOMOYO's own tools, if they are here. tests/vm/test_tomoyo.py enforces it."""
    from unit.targets.tomoyo import reading

    from profiler.targets.selinux.labels import sample

    if Path(reading.CHECKER).exists():
        reading.checked(files["tomoyo.domain.conf"], "d")
        reading.checked(files["tomoyo.exception.conf"], "e")
    made = reading.read(files)
    refused = {loss.item for loss in losses if loss.effect == "refused"}
    programs = {row.program for row in policy.transitions} - refused
    assert len(made.domains) == len(programs) + 1
    words = {"read": "read", "write": "write", "append": "append", "truncate": "truncate", "mode": "chmod"}
    for rule in policy.files:
        path = sample(rule.pattern)
        plain = path.startswith("/") and not path.startswith(("/proc", "/dev", "/sys", "/memfd:", "/SYSV"))
        if not plain or rule.pattern in refused or rule.programs or "linked" not in rule.states:
            continue
        ends = {"/"} if set(rule.kinds) == {"directory"} else {""}
        for access in words.keys() & set(rule.access):
            for domain in made.domains:
                assert not domain or all(made.allows(domain, words[access], path + end) for end in ends), (rule, domain)
    given = {(rule[1], rule[2], rule[3]) for rules in made.domains.values() for rule in rules if rule[0] == "network"}
    bound = {
        ("inet", row.type) for row in policy.sockets if row.family in ("inet", "inet6") and dict(row.ports).get("bind")
    }
    assert bound <= {(family, sort) for family, sort, word in given if word == "bind"} | {("inet", "seqpacket")}


def nspawn(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    """Read as systemd.nspawn(5) says: capabilities and calls are added to a default and taken from it."""
    (data,) = files.values()
    keys: dict[str, list[str]] = {}
    for row in assignments(lines_of(data.decode("utf-8", "surrogateescape"))):
        assert row.section in ("Exec", "Files", "Network")
        keys.setdefault(row.key, []).append(row.value)
    given_up = set(" ".join(keys.get("DropCapability", [])).split())
    held = set(words_of("nspawn")) - given_up | set(" ".join(keys.get("Capability", [])).split())
    assert held == set(policy.needed())
    assert keys.get("AmbientCapability", [""])[0].split() == (list(policy.needed()) if policy.workload.uid else [])
    assert (keys.get("NoNewPrivileges") == ["yes"]) is policy.no_new_privs
    added = {name for line in keys["SystemCallFilter"] if line[0] != "~" for name in line.split()}
    denied = {name for line in keys["SystemCallFilter"] if line[0] == "~" for name in line[1:].split()}
    wider = {name for loss in losses if loss.section == "syscalls" for name in loss.item.split(", ")}
    own = {entry.name for entry in policy.syscalls if entry.section != "base"}
    assert added - wider <= own <= added
    assert not added & denied
    left = names_of(native(policy)) - added - denied
    assert left <= {row.name for row in policy.refused}
    assert not left or any(loss.section == "refused" for loss in losses)


def libvirt(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    from unit.targets import domains

    domain = domains.read(files["domain.xml"], Path(os.environ["PYTEST_PLACE"]))
    wider = {name for loss in losses if loss.effect == "wider" for name in loss.item.split(", ")}
    assert set(policy.needed()) - without_root(losses) <= domains.kept(domain) <= set(policy.needed()) | wider


def incus(files: Files, policy: Policy, losses: Sequence[Loss]) -> None:
    from unit.targets import lxcs

    profile = yaml.safe_load(files["incus.yaml"])["config"]
    rows = lxcs.config(profile["raw.lxc"].encode())
    assert lxcs.kept(rows) == set(policy.needed())
    assert (("lxc.no_new_privs", "1") in rows) is policy.no_new_privs
    assert profile["raw.seccomp"].encode() == files.get("lxc.seccomp", profile["raw.seccomp"].encode())
    lxcs.seccomp(profile["raw.seccomp"].encode(), policy.abis)
    assert without_root(losses) == (set(policy.needed()) if policy.workload.uid else set())


CHECKS: Mapping[str, Check] = {
    "seccomp": seccomp,
    "capabilities": capabilities,
    "apparmor": apparmor,
    "launcher": launcher,
    "selinux": selinux,
    "ima": ima,
    "smack": smack,
    "tomoyo": tomoyo,
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
    "incus": incus,
    "systemd": systemd,
    "nspawn": nspawn,
    "libvirt-lxc": libvirt,
}
"""Name of a target to the check of its files."""
