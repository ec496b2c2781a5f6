"""Profiles of others are read as the runtimes read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyseccomp
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from simulation import ALLOWED, program, run
from unit.policy.making import DEFAULT_ERRNO, FILTERED, call, check, rows, trace

from profiler.errors import InputError
from profiler.kernel.syscalls import names_of, number_of
from profiler.policy.derive import derive
from profiler.policy.document import dumps as policy_text
from profiler.policy.model import Options
from profiler.review.cubes import REGISTER, joined
from profiler.review.diff import compare
from profiler.review.rights import Rights, of_policy
from profiler.review.sources import from_bytes, machine, open_source
from profiler.targets.rendering import render_one
from profiler.targets.seccomp import profile as seccomp_profile
from profiler.trace.store import dumps as trace_text

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"


def read(document: Any, abi: str = "x86_64", capabilities: frozenset[str] | None = None) -> Rights:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return from_bytes(data, "file").rights(abi, capabilities)


def profile(*rules: dict[str, Any], default: str = ERRNO, **members: Any) -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules), **members}


def rule(
    name: str, *args: tuple[int, str, int] | tuple[int, str, int, int], action: str = ALLOW, **members: Any
) -> dict[str, Any]:
    listed = [
        {"index": row[0], "op": f"SCMP_CMP_{row[1]}", "value": row[2], "valueTwo": row[3] if len(row) > 3 else 0}
        for row in args
    ]
    return {"names": [name], "action": action, **({"args": listed} if args else {}), **members}


def permits(rights: Rights, name: str, *arguments: int, abi: str = "x86_64") -> bool:
    padded = [*arguments, *[0] * (6 - len(arguments))]
    return any(cube.has(joined(padded)) for cube in rights.allowance(abi, name).cubes)


# Against libseccomp itself.

VALUES = st.sampled_from([0, 1, 2, 38, 39, 40, 0x80001, 0xFFFFFFFF, 1 << 32, (1 << 32) + 2, REGISTER])
OPERATORS = {name: getattr(pyseccomp, name) for name in ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")}
CONDITION = st.tuples(st.sampled_from(sorted(OPERATORS)), VALUES, VALUES)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 2), CONDITION, min_size=1, max_size=2),
    st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12),
)
def test_conditions_mean_what_libseccomp_makes_of_them(
    conditions: dict[int, tuple[str, int, int]], calls: list[tuple[int, int, int]]
) -> None:
    """One rule; test_compiled.py has sets of rules."""
    args = []
    for index, (name, value, two) in conditions.items():
        wanted = two & value if name == "MASKED_EQ" else 0
        args.append(pyseccomp.Arg(index, OPERATORS[name], value, wanted))
    built = pyseccomp.SyscallFilter(pyseccomp.ERRNO(DEFAULT_ERRNO))
    built.add_rule(pyseccomp.ALLOW, "socket", *args)
    instructions = program(built)
    rights = read(profile(rule("socket", *((index, *condition) for index, condition in conditions.items()))))
    assert rights.allowance("x86_64", "socket").exact
    number = number_of("x86_64", "socket")
    assert number is not None
    for arguments in calls:
        wanted = run(instructions, number, [*arguments, 0, 0, 0]) == ALLOWED
        assert permits(rights, "socket", *arguments) == wanted


@settings(deadline=None, max_examples=examples(50))
@given(rows(), st.booleans())
def test_a_policy_and_its_seccomp_profile_allow_the_same(listed: list[Any], equivalents: bool) -> None:
    policy = derive(trace(*listed), Options(equivalents=equivalents))
    for found in (
        read(seccomp_profile(policy, "errno")),
        read(render_one("seccomp", policy).files[0].data),
        read(render_one("oci", policy).files[0].data),
    ):
        assert not compare(of_policy(policy, "policy"), found, exact=True).changes
        assert not compare(found, of_policy(policy, "policy"), exact=True).changes


# What is easily misread.


def test_an_argument_that_comes_twice_makes_alternatives() -> None:
    rights = read(profile(rule("socket", (0, "EQ", 6), (0, "EQ", 2), (1, "EQ", 1))))
    assert permits(rights, "socket", 2)
    assert permits(rights, "socket", 6)
    assert permits(rights, "socket", 4, 1), "the third condition too is a rule of its own"
    assert not permits(rights, "socket", 4, 2)
    assert "two conditions on one argument" in rights.notes[0]


def test_the_first_rule_without_conditions_wins() -> None:
    filtered = rule("socket", (0, "EQ", 1))
    assert permits(read(profile(filtered, rule("socket"))), "socket", 9)
    assert permits(read(profile(rule("socket"), rule("socket", action=ERRNO, errnoRet=38))), "socket", 9)
    assert not permits(read(profile(rule("socket", action=ERRNO, errnoRet=38), rule("socket"), filtered)), "socket", 1)
    same_as_default = read(profile(rule("socket", action=ERRNO), filtered))
    assert permits(same_as_default, "socket", 1), "a rule that repeats the default action is dropped"
    assert not permits(read(profile(rule("socket", action=ERRNO, errnoRet=38), filtered)), "socket", 1)


def test_profiles_that_name_what_is_refused() -> None:
    rights = read(profile(rule("mount", action=ERRNO), rule("socket", (0, "EQ", 38), action=ERRNO), default=ALLOW))
    assert rights.default == "allow"
    assert permits(rights, "read")
    assert not permits(rights, "mount")
    assert permits(rights, "socket", 37)
    assert not permits(rights, "socket", 38)
    assert rights.allowance("x86_64", "socket").texts == ("anything but domain AF_ALG",)
    assert not permits(rights, "read", abi="i386"), "an ABI that is not listed is killed"
    assert read(profile(default="SCMP_ACT_LOG")).default == "log"


@pytest.mark.parametrize(
    ("action", "allowed"), [("LOG", True), ("NOTIFY", True), ("TRACE", False), ("TRAP", False), ("KILL", False)]
)
def test_actions(action: str, allowed: bool) -> None:
    rights = read(profile(rule("read", action=f"SCMP_ACT_{action}")))
    assert permits(rights, "read") == allowed
    assert bool(rights.notes) == (action == "NOTIFY")


def test_dockers_conditions() -> None:
    listed = [
        {"names": ["mount"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["chroot"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["clone3"], "action": ALLOW, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": ALLOW, "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["sync_file_range2"], "action": ALLOW, "includes": {"arches": ["arm64"]}},
        {"names": ["acct"], "action": ALLOW, "includes": {"arches": ["x86_64"]}},
        {"names": ["ptrace"], "action": ALLOW, "includes": {"minKernel": "4.8"}},
        {"names": ["bpf"], "action": ALLOW, "excludes": {"minKernel": "4.8"}},
        {"name": "read", "action": ALLOW, "includes": None, "excludes": {}},
    ]
    maps = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    document = {"defaultAction": ERRNO, "archMap": maps, "syscalls": listed}

    def names(rights: Rights, abi: str) -> set[str]:
        return {name for other, name in rights.syscalls if other == abi}

    rights = read(document)
    assert names(rights, "x86_64") == {"chroot", "clone3", "arch_prctl", "ptrace", "read"}
    assert rights.abis == ("x86_64", "i386", "x32")
    assert names(read(document, capabilities=frozenset({"CAP_SYS_ADMIN"})), "x86_64") == {
        "mount",
        "arch_prctl",
        "ptrace",
        "read",
    }
    arm = read(document, "aarch64")
    assert (arm.native, arm.abis) == ("aarch64", ("aarch64", "arm"))
    assert names(arm, "aarch64") == {"chroot", "clone3", "ptrace", "read"}, "sync_file_range2 is 32-bit ARM's"
    assert "sync_file_range2" in names(arm, "arm")


def test_a_configuration_knows_no_conditions() -> None:
    conditional = profile({"names": ["mount"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_ADMIN"]}})
    rights = read({"ociVersion": "1.0.2", "process": {"noNewPrivileges": True}, "linux": {"seccomp": conditional}})
    assert permits(rights, "mount"), "the runtimes do not look at includes there"
    assert rights.capabilities == frozenset()
    assert rights.no_new_privs is True


def test_configurations() -> None:
    sets = {"bounding": ["CAP_CHOWN", "CAP_NEWER_THAN_THIS"], "ambient": ["CAP_KILL"]}
    rights = read({"process": {"capabilities": sets}, "linux": {}})
    assert rights.capabilities == {"CAP_CHOWN", "CAP_KILL"}
    assert rights.no_new_privs is False
    assert rights.default == "allow"
    assert rights.abis == ("x86_64", "i386", "x32")
    assert any("no linux.seccomp" in note for note in rights.notes)
    assert any("CAP_NEWER_THAN_THIS" in note for note in rights.notes)
    assert read({"linux": {"seccomp": profile()}}).capabilities is None


SPO = {
    "apiVersion": "security-profiles-operator.x-k8s.io/v1",
    "kind": "SeccompProfile",
    "metadata": {"name": "web", "labels": {"a": "1", "A": "2"}},
    "spec": {
        "baseProfileName": "runc-v1.4.2",
        "defaultAction": ERRNO,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [rule("socket", (0, "EQ", 2))],
    },
}


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(SPO).encode(),
        yaml.safe_dump(SPO).encode(),
        b"---\n# a comment\n" + yaml.safe_dump(SPO).encode(),
        yaml.safe_dump_all([{"kind": "Namespace"}, SPO]).encode(),
    ],
)
def test_seccomp_profiles_of_the_operator(data: bytes) -> None:
    rights = read(data)
    assert (rights.kind, rights.capabilities) == ("spo", None)
    assert permits(rights, "socket", 2)
    assert not permits(rights, "socket", 3)
    assert "runc-v1.4.2" in rights.notes[0]


def test_every_kind_is_told_apart(tmp_path: Path) -> None:
    recording = trace(call("read"), capabilities=[check("CAP_CHOWN")])
    policy = derive(recording, Options())
    texts = {
        "trace": trace_text(recording),
        "policy": policy_text(policy),
        "seccomp": json.dumps(seccomp_profile(policy, "errno")),
        "oci": render_one("oci", policy).files[0].data.decode(),
        "spo": yaml.safe_dump(SPO),
    }
    for kind, text in texts.items():
        path = tmp_path / kind
        path.write_text(text)
        source = open_source(path)
        rights = source.rights(machine(source), None)
        assert rights.kind == kind
        assert rights.source == str(path)
        assert rights.native == "x86_64"


def test_keys_that_go_folds() -> None:
    """encoding/json compares keys by Unicode's simple folding: a long s is an s, a Kelvin sign a k."""
    text = json.dumps(profile(rule("mount"))).replace("syscalls", "\u017fyscall\u017f")
    assert permits(read(text.encode()), "mount")
    with pytest.raises(InputError, match="is given twice"):
        read(text.replace("{", '{"syscalls": [], ', 1).encode())


def test_errors_by_name() -> None:
    """Podman's errno and defaultErrno come before the numbers, and hold a name or a number."""
    rows = [rule("mount", action=ERRNO, errno="ENOSYS", errnoRet=1), rule("setns", action=ERRNO, errno="38")]
    named = {"defaultErrno": "EACCES", "defaultErrnoRet": 1}
    written = read(profile(*rows, rule("chroot", action=ERRNO), **named)).written
    assert written is not None
    assert written.default_errno == 13
    assert [row.errno for row in written.rows] == [38, 38, None]
    in_config = read({"ociVersion": "1.0", "linux": {"seccomp": profile(*rows, **named)}}).written
    assert in_config is not None
    assert [row.errno for row in in_config.rows] == [1, None], "runc knows numbers only"
    assert in_config.default_errno == 1


OBJECT = "apiVersion: a/v1\nkind: SeccompProfile\nmetadata: {{name: {name}}}\nspec: {{defaultAction: SCMP_ACT_ERRNO}}\n"


def in_a_list(*names: str) -> bytes:
    items = [yaml.safe_load(OBJECT.format(name=name)) for name in names]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [{"kind": "ConfigMap"}, *items]}).encode()


@pytest.mark.parametrize("one", [in_a_list("web"), OBJECT.format(name="web").encode()])
@pytest.mark.parametrize(
    "several", [in_a_list("web", "db"), "---\n".join(OBJECT.format(name=name) for name in ("web", "db")).encode()]
)
def test_one_of_several_documents_by_name(tmp_path: Path, one: bytes, several: bytes) -> None:
    path = tmp_path / "all.yaml"
    path.write_bytes(several)
    with pytest.raises(InputError, match=r"holds 2 SeccompProfiles \(web, db\): choose one with FILE#NAME"):
        open_source(path).rights("x86_64", None)
    assert open_source(f"{path}#db").kind == "spo"
    with pytest.raises(InputError, match="has no SeccompProfile 'cache': it has web, db"):
        open_source(f"{path}#cache")
    path.write_bytes(one)
    assert open_source(path).kind == "spo"
    hash_in_its_name = tmp_path / "a#b"
    hash_in_its_name.write_bytes(one)
    assert open_source(hash_in_its_name).kind == "spo"


@pytest.mark.parametrize(
    "text",
    [
        "include <tunables/global>\nprofile app /bin/app {\n  /etc/passwd r,\n}\n",
        "abi <abi/4.0>,\n/usr/bin/app flags=(complain) {\n  network inet,\n}\n",
        "# a comment\nprofile docker-default flags=(attach_disconnected) {\n  deny @{PROC}/* w,\n}\n",
    ],
)
def test_apparmor_text_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"is an AppArmor profile.*use the policy\.yaml"):
        read(text.encode())


def test_other_encodings() -> None:
    text = json.dumps(profile(rule("mount"), note="\u00e9"), ensure_ascii=False)
    marked = read(b"\xef\xbb\xbf" + text.encode())
    assert permits(marked, "mount")
    assert "byte-order mark" in marked.notes[0]
    assert permits(read(text.encode("latin-1")), "mount"), "Go replaces what is not UTF-8"
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        with pytest.raises(InputError, match="is UTF-16, which runtimes do not read"):
            read(text.encode(encoding))
    with pytest.raises(InputError, match="NaN is not JSON"):
        read(b'{"defaultAction": "SCMP_ACT_ALLOW", "x": NaN}')


def test_the_machines_own_of_several_native_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    both = profile(architectures=["SCMP_ARCH_AARCH64", "SCMP_ARCH_X86_64"])
    for machine_name, abi in (("x86_64", "x86_64"), ("aarch64", "aarch64")):
        monkeypatch.setattr("platform.machine", lambda found=machine_name: found)
        assert from_bytes(json.dumps(both).encode(), "file").arch == abi
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert from_bytes(json.dumps(both).encode(), "file").arch == "aarch64"


def test_keys_in_any_case() -> None:
    rights = read({"DefaultAction": ERRNO, "Syscalls": [{"Names": ["read"], "Action": ALLOW}]})
    assert permits(rights, "read")
    with pytest.raises(InputError, match="given twice"):
        read(b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultaction": "SCMP_ACT_ALLOW"}')
    with pytest.raises(InputError, match="given twice"):
        read(b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}')


def test_names_no_table_knows() -> None:
    rights = read(profile(rule("brand_new_call"), rule("socketcall")))
    assert list(rights.syscalls) == [("x86_64", "brand_new_call")], "socketcall is another ABI's"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a file that profgen reads"),
        (b"{}", "not a file that profgen reads"),
        (b"[]", "not a file that profgen reads"),
        (b"null", "not a file that profgen reads"),
        (b"{", "cannot be read as JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "YAML"),
        (b"a: [", "YAML"),
        (b"a: &x [1]\nb: *x\n", "aliases"),
        (b"[" * 500, "nested too deeply"),
        (b"schema: profgen.policy/9\n", "profgen.policy/9"),
        (b'{"schema": "profgen.trace/9"}', "newer profgen"),
        (json.dumps(profile(default="ALLOW")).encode(), "unknown action"),
        (json.dumps(profile(rule("read", action="SCMP_ACT_WAVE"))).encode(), "unknown action"),
        (json.dumps(profile(rule("read", (0, "LIKE", 1)))).encode(), "unknown comparison"),
        (json.dumps(profile(rule("read", (6, "EQ", 1)))).encode(), "arguments"),
        (json.dumps(profile(rule("read", (0, "EQ", -1)))).encode(), "64-bit"),
        (json.dumps(profile(rule("read", (0, "EQ", 1 << 64)))).encode(), "64-bit"),
        (json.dumps(profile({"names": "read", "action": ALLOW})).encode(), "must be a list"),
        (json.dumps(profile({"names": [1], "action": ALLOW})).encode(), "must hold text"),
        (json.dumps(profile({"names": ["read"]})).encode(), "has no action"),
        (json.dumps({"defaultAction": ERRNO, "syscalls": {}}).encode(), "must be a list"),
        (json.dumps({"defaultAction": ERRNO, "syscalls": [1]}).encode(), "must be an object"),
        (json.dumps({"defaultAction": True}).encode(), "must be text"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1.5}', "must be a number"),
        (json.dumps({"linux": [], "ociVersion": "1"}).encode(), "must be an object"),
        (json.dumps({"linux": {"seccomp": []}}).encode(), "must be an object"),
        (yaml.safe_dump_all([SPO, SPO]).encode(), "2 SeccompProfiles"),
        (yaml.safe_dump({**SPO, "spec": None}).encode(), "must be a mapping"),
        (yaml.safe_dump({**SPO, 1: 2}).encode(), "cannot be a key"),
    ],
)
def test_files_that_cannot_be_used(data: bytes, words: str) -> None:
    with pytest.raises(InputError) as raised:
        read(data)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("file")


def test_more_conditions_than_can_be_compared() -> None:
    wide = [(index, "NE", 1) for index in range(6)]
    rights = read(profile(rule("socket", *wide)))
    allowance = rights.allowance("x86_64", "socket")
    assert not allowance.exact, "64 ** 6 cubes"
    assert not compare(rights, rights).changes
    narrow = read(profile(rule("socket", (0, "EQ", 5))))
    assert [row.change for row in compare(narrow, rights).changes] == ["widened"], "what is not known is more"
    names = sorted(names_of("x86_64"))[:100]
    many = [rule(name, (0, "NE", number), (1, "NE", number)) for number, name in enumerate(names)]
    with pytest.raises(InputError, match="too many conditions"):
        read(profile(*many))


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=5)
        | st.sampled_from(["read", ALLOW, ERRNO, "SCMP_CMP_EQ"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "defaultAction",
                        "syscalls",
                        "names",
                        "action",
                        "args",
                        "index",
                        "value",
                        "op",
                        "linux",
                        "seccomp",
                        "process",
                        "spec",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_data_is_read_or_refused(value: Any) -> None:
    try:
        read(value)
    except InputError:
        pass


def test_filtered_names_are_known() -> None:
    assert "socket" in FILTERED
