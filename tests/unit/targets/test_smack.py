"""The target smack: its rules and its script, read by the documented grammar. No kernel here has Smack."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.targets import smacks
from unit.targets.policies import file, policy

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import InspectionRule, Policy, SignalRule, SocketRule, Workload
from profiler.quoting.smack import Inexpressible, access, label
from profiler.targets.base import Output
from profiler.targets.catalogue import find
from profiler.targets.rendering import render_one
from profiler.targets.smack import rules as made_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for files, which is not among those that keep their labels though it is below /tmp."""
    monkeypatch.setattr(made_of, "UNLABELLED", ("/dev", "/proc", "/sys", "/run"))
    place = tmp_path / "root"
    place.mkdir()
    return place


def put(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return str(path)


def made(*given: Any, **fields: Any) -> Output:
    return render_one("smack", policy(*given, **fields), {"label": "app"})


def found(output: Output, place: Path) -> dict[str, str]:
    return {os.fsdecode(path): name.decode() for path, name in smacks.labelled(output.files[1].data, place).items()}


@pytest.mark.parametrize(
    ("words", "letters"),
    [
        (("write",), "rw"),
        (("read", "append"), "rwa"),
        (("read", "lock"), "rl"),
        (("write", "execute"), "rwx"),
        (("mode",), "rw"),
    ],
)
def test_an_access_becomes_letters(words: tuple[str, ...], letters: str, root: Path, tmp_path: Path) -> None:
    path = put(root / "file")
    output = made(file(path, *words))
    assert found(output, tmp_path) == {path: f"app.{letters}"}
    rules = smacks.rules(output.files[0].data)
    assert rules["app", f"app.{letters}"] == set(letters)
    assert rules["_", f"app.{letters}"] == set("rwxatl")


def test_reading_and_executing_wants_no_label(root: Path, tmp_path: Path) -> None:
    output = made(file(put(root / "file"), "read", "execute", "map"), file(str(root), "list", kinds=("directory",)))
    assert found(output, tmp_path) == {}
    assert set(smacks.rules(output.files[0].data)) == {("_", "app")}
    assert any(loss.item == "reading and executing" for loss in output.losses)


def test_rules_of_one_file_are_joined(root: Path, tmp_path: Path) -> None:
    path = put(root / "file")
    assert found(made(file(path, "execute"), file(path, "write")), tmp_path) == {path: "app.rwx"}


def test_a_new_file_wants_its_directory(root: Path, tmp_path: Path) -> None:
    output = made(file(str(root / "new"), "write", "create"))
    assert found(output, tmp_path) == {str(root): "app.rwx"}


def test_patterns_are_for_all_files_there(root: Path, tmp_path: Path) -> None:
    paths = [put(root / "a.log"), put(root / "other"), put(root / "deep" / "file")]
    (root / "link").symlink_to("/etc/passwd")
    output = made(file(f"{patterns.literal(str(root))}/{{name}}.log", "append"))
    assert found(output, tmp_path) == dict.fromkeys(paths[:2], "app.rwa")
    assert any("other files in" in loss.why for loss in output.losses)
    output = made(file(f"{patterns.literal(str(root))}/{{tree}}", "write"), file(paths[0], "lock", "execute"))
    labels = found(output, tmp_path)
    assert labels == {**dict.fromkeys([*paths, str(root / "deep")], "app.rw"), paths[0]: "app.rwxl"}


def test_a_whole_system_is_not_labelled() -> None:
    output = made(file("/srv/{tree}", "write"))
    assert [loss.item for loss in output.losses if loss.effect == "refused"] == ["/srv/{tree}"]
    assert b"\nall " not in output.files[1].data


def test_what_everybody_uses_keeps_its_label() -> None:
    output = made(file("/dev/null", "write"), file("/tmp/{random}", "write", "create"), file("/run/x", "create"))
    assert set(smacks.rules(output.files[0].data)) == {("_", "app")}


def test_what_smack_cannot_say() -> None:
    output = made(
        file("{home}/x", "write"),
        signals=(SignalRule("TERM", "outside"),),
        inspections=(InspectionRule("trace", "outside"),),
        sockets=(SocketRule("unix", "stream", 0, ("connect",)), SocketRule("inet", "stream", 6, ("connect",))),
    )
    refused = {loss.section for loss in output.losses if loss.effect == "refused"}
    assert refused == {"files", "signals", "inspections", "sockets"}
    for loss in output.losses:
        assert loss.effect == "wider" or f"#   {loss.item} (" in output.files[1].data.decode()
    assert any("netlabel" in step.text for step in output.usage)


def test_undo_takes_only_its_own_labels_away(tmp_path: Path, root: Path) -> None:
    if os.geteuid():
        pytest.skip("labels of security modules need root")
    if shutil.which("getfattr") is None:
        pytest.skip("getfattr is not installed (package attr)")
    path, other = put(root / "one"), put(root / "two")
    script = made(file(path, "write"), file(other, "write")).files[1].data
    try:
        os.setxattr(path, "security.SMACK64", b"app.rw")
    except OSError as error:
        pytest.skip(f"no labels on this file system: {error}")
    os.setxattr(other, "security.SMACK64", b"_")
    assert set(smacks.labelled(script, tmp_path, "--undo")) == {path.encode()}


def test_a_recording_without_files() -> None:
    with pytest.raises(InputError, match="labels need a recording that watched them"):
        render_one("smack", Policy(Workload(("app",), 0), ("x86_64",), True, "none"))


@pytest.mark.parametrize("text", ["app", "Web::Server", "a" * 248, "^web", "_x"])
def test_labels_of_processes(text: str) -> None:
    (setting,) = find("smack").settings
    assert setting.parse(text) == smacks.label(text)


@pytest.mark.parametrize("text", ["", "-a", "a b", "a/b", "a\\b", "a'", 'a"', "a\n", "é", "a" * 249, "_", "*", "@"])
def test_not_labels_of_processes(text: str) -> None:
    (setting,) = find("smack").settings
    with pytest.raises(InputError):
        setting.parse(text)


@given(st.text(max_size=6))
def test_any_label_that_is_taken_is_one(text: str) -> None:
    try:
        assert smacks.label(label(text)) == text
    except Inexpressible:
        with pytest.raises(AssertionError):
            smacks.label(text)


def test_letters_have_one_order() -> None:
    assert (access("lawxr"), access("")) == ("rwxal", "-")
    with pytest.raises(Inexpressible, match="q"):
        access("rq")


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_names(names: list[bytes], root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The script labels the files of the policy and no others."""
    place = tmp_path_factory.mktemp("place")
    (directory := root / place.name).mkdir()
    paths = [put(directory / os.fsdecode(name)) for name in names]
    output = made(*(file(patterns.literal(path), "write") for path in paths))
    assert found(output, place) == dict.fromkeys(paths, "app.rw")


def test_what_the_rules_grant(root: Path) -> None:
    """Read back by the order in which the kernel decides."""
    rules = smacks.rules(made(file(put(root / "log"), "append")).files[0].data)
    assert smacks.allows(rules, "app", "app.rwa", "wa")
    assert smacks.allows(rules, "app", "_", "rx")
    assert not smacks.allows(rules, "app", "_", "w")
    assert not smacks.allows(rules, "app", "app.rwa", "x")
    assert smacks.allows(rules, "_", "app.rwa", "rw")
    assert not smacks.allows(rules, "_", "app", "w")
    assert not smacks.allows(rules, "other", "app.rwa", "r")
