"""The target ima: what it hashes, what it does not, and the rules."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.targets import imas
from unit.targets.policies import file, policy, transition

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import Policy, Workload
from profiler.quoting.ima import CONDITIONS, Inexpressible, checked_line, condition
from profiler.targets.base import Output
from profiler.targets.ima import content
from profiler.targets.rendering import render_one


def put(root: Path, path: str, data: bytes = b"") -> str:
    """Make a file in a root; return its digest."""
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def made(root: Path, *given: Any, **options: Any) -> Output:
    return render_one("ima", policy(*given), {"root": str(root), **options})


def test_programs_and_libraries_are_hashed(tmp_path: Path) -> None:
    digests = {
        path: put(tmp_path, path, path.encode()) for path in ("/bin/app", "/lib/a.so", "/bin/other", "/etc/conf")
    }
    rules = (file("/lib/a.so", "read", "map"), file("/etc/conf", "read"), file("/bin/other", "execute"))
    output = render_one(
        "ima", policy(*rules, transitions=(transition("/bin/app", None),)), {"root": str(tmp_path), "where": ("uid=3",)}
    )
    names = {file.name: file for file in output.files}
    found = imas.manifest(names["ima.sha256"].data)
    assert found == {f".{path}".encode(): digests[path].encode() for path in ("/bin/app", "/bin/other", "/lib/a.so")}
    assert imas.labelled(names["ima-sign.sh"].data, tmp_path) == sorted(found)
    assert names["ima-sign.sh"].executable
    assert not [loss for loss in output.losses if loss.effect == "refused"]


def test_names_of_a_kind_are_looked_up(tmp_path: Path) -> None:
    for path in ("/lib/x/a.so", "/lib/x/b.so", "/lib/x/c.txt", "/home/ann/bin/tool", "/root/other"):
        put(tmp_path, path)
    (tmp_path / "lib/x/away.so").symlink_to("/etc/passwd")
    output = made(tmp_path, file("/lib/x/{name}.so", "map"), file("{home}/bin/tool", "execute"))
    assert set(imas.manifest(output.files[2].data)) == {b"./lib/x/a.so", b"./lib/x/b.so", b"./home/ann/bin/tool"}


def test_what_has_no_hash_is_said(tmp_path: Path) -> None:
    put(tmp_path, "/bin/real")
    put(tmp_path, "/tmp/made")
    os.mkfifo(tmp_path / "bin/pipe")
    (tmp_path / "bin/link").symlink_to("/bin/real")
    (tmp_path / "bin/astray").symlink_to("/etc/passwd")
    (tmp_path / "linked").symlink_to("bin")
    rules = (
        *(file(path, "execute") for path in ("/bin/real", "/bin/pipe", "/bin/link", "/bin/astray", "/bin/gone")),
        file("/linked/other", "execute"),
        file("/tmp/made", "write", "execute"),
        file("/proc/{pid}/exe", "execute"),
        file("/memfd:x", "map", states=("detached",)),
    )
    output = made(tmp_path, *rules, where=("uid=1",))
    assert set(imas.manifest(output.files[2].data)) == {b"./bin/real"}
    refused = {loss.item: loss.why for loss in output.losses if loss.effect == "refused"}
    assert refused == {
        "/bin/astray": "it has no hash: a symbolic link is in its path",
        "/bin/gone": "it has no hash: there is no such file",
        "/bin/pipe": "it has no hash: it is not a regular file",
        "/linked/other": "it has no hash: a symbolic link is in its path",
        "/memfd:x": "a file without a name has no hash",
        "/proc/{pid}/exe": "it has no hash: there is no such file",
        "/tmp/made": "it has no hash: the workload may write to it, so its content is not known",
    }
    for item in refused:
        assert item == "/memfd:x" or f"#   {item} (" in output.files[1].data.decode()


def test_a_link_never_leads_out_of_the_root(tmp_path: Path) -> None:
    put(tmp_path, "/root/keep")
    (tmp_path / "root/up").symlink_to("../../../../../../../etc/passwd")
    assert not content.read(policy(file("/up", "execute")), str(tmp_path / "root")).files


def test_a_directory_with_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "ENTRIES_MAX", 3)
    for name in "abcd":
        put(tmp_path, f"/lib/{name}.so")
    with pytest.raises(InputError, match="/lib has more than 3 files"):
        made(tmp_path, file("/lib/{name}.so", "map"))


@pytest.mark.parametrize("signed", [False, True])
def test_rules(tmp_path: Path, signed: bool) -> None:
    output = made(tmp_path, where=("subj_role=app", "fowner=0"), signed=signed)
    rules = imas.rules(output.files[0].data)
    assert [rule.function for rule in rules] == ["BPRM_CHECK", "CREDS_CHECK", "MMAP_CHECK"] * 2
    assert {rule.conditions for rule in rules} == {("subj_role=app", "fowner=0")}
    assert {(rule.action, rule.signed) for rule in rules} == {("measure", False), ("appraise", signed)}


@pytest.mark.parametrize(("uid", "conditions"), [(33, ("uid=33",)), (0, ())])
def test_without_a_condition_only_another_user_is_appraised(
    tmp_path: Path, uid: int, conditions: tuple[str, ...]
) -> None:
    one = Policy(Workload(("app",), uid), ("x86_64",), True, "none", has_files=True)
    output = render_one("ima", one, {"root": str(tmp_path)})
    rules = imas.rules(output.files[0].data)
    assert {rule.conditions for rule in rules} == {conditions}
    assert any(rule.action == "appraise" for rule in rules) is bool(uid)
    assert any(loss.item == "all files" for loss in output.losses) is not bool(uid)


def test_the_files_of_an_image_are_asked_for() -> None:
    one = Policy(Workload(("app",), 0, image="shop/web:1"), ("x86_64",), True, "any", has_files=True)
    with pytest.raises(InputError, match=r"those of the image shop/web:1: .* -O ima\.root=DIR"):
        render_one("ima", one)


def test_a_root_that_cannot_be_read() -> None:
    with pytest.raises(InputError, match="/none/such cannot be read: no such file or directory"):
        made(Path("/none/such"))


def test_a_recording_without_files() -> None:
    with pytest.raises(InputError, match="hashes need a recording that watched them"):
        render_one("ima", Policy(Workload(("app",), 0), ("x86_64",), True, "none"))


@pytest.mark.parametrize(
    "text", ["uid=33", "fowner<10", "subj_role=a//b", "fsuuid=0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "fsmagic=0xEF53"]
)
def test_conditions(text: str) -> None:
    assert condition(text) == text


@pytest.mark.parametrize(
    "text", ["", "uid", "uid=x", "uid=1 measure", "path=/x", "subj_role=a b", "subj_role=a\nb", "fsname=", "fsuuid=1"]
)
def test_not_conditions(text: str) -> None:
    with pytest.raises(Inexpressible):
        condition(text)


@given(st.sampled_from(CONDITIONS), st.text(max_size=12))
def test_a_condition_stays_one_word(name: str, value: str) -> None:
    try:
        found = condition(f"{name}={value}")
    except Inexpressible:
        return
    (rule,) = imas.rules(f"appraise func=BPRM_CHECK {found}\n".encode())
    assert rule.conditions == (found,)


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_names(names: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    """sha256sum finds each file of the list, and the script labels these and no others."""
    root = tmp_path_factory.mktemp("root")
    for name in names:
        (root / os.fsdecode(name)).write_bytes(name)
    rules = [file(patterns.literal("/" + os.fsdecode(name)), "execute") for name in names]
    _, script, manifest = made(root, *rules).files
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet"], input=manifest.data, cwd=root, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    wanted = {b"./" + name for name in names}
    assert set(imas.manifest(manifest.data)) == wanted
    assert set(imas.labelled(script.data, tmp_path_factory.mktemp("place"))) == wanted


def test_a_changed_file_is_not_labelled(tmp_path: Path) -> None:
    """The script itself looks at the list; nothing is labelled when a file is another one."""
    root, place = tmp_path / "root", tmp_path / "place"
    put(root, "/bin/app", b"one")
    place.mkdir()
    for each in made(root, file("/bin/app", "execute")).files:
        (place / each.name).write_bytes(each.data)
    put(root, "/bin/app", b"two")
    environment = {**os.environ, "PROFGEN_ROOT": str(root)}
    words = ["sh", str(place / "ima-sign.sh")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nothing was labelled" in done.stderr
    assert "security.ima" not in os.listxattr(root / "bin/app")


def test_lines_of_sha256sum() -> None:
    assert checked_line("ab", "./x y") == "ab  ./x y"
    assert checked_line("ab", "./a\\b\n") == "\\ab  ./a\\\\b\\n"
