"""profgen generate as a user calls it: a process of its own, files, exit statuses, one line on failure."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.cli import running
from unit.policy.making import call, check, file, touching, trace, unknown, uses
from unit.trace.written import write_trace

from profiler.policy.directory import default_directory
from profiler.trace.model import JOINED_FEATURE, Exec, Program, Trace


def profgen(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return running.profgen("generate", *arguments, **options)


def fails(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("profgen: ")
    assert all(word in done.stderr for word in words), done.stderr


def example(**meta: object) -> Trace:
    return trace(
        call("read"),
        call("socket", [(2, 1, 0)]),
        call("access", ok=0, errors={"ENOENT": 1}),
        capabilities=[check("CAP_NET_BIND_SERVICE")],
        **meta,
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "app.trace.json"
    write_trace(example(), path)
    return path


@pytest.fixture
def touched(tmp_path: Path) -> Path:
    """A recording that watched files."""
    rows = [
        *uses("/usr/sbin/app", "execute map read"),
        file("/etc/app.conf"),
        *uses("/tmp/app.aB3dE9", "create write remove", own=True),
        *[file(f"/var/lib/app/{name}") for name in "abcde"],
    ]
    path = tmp_path / "files.trace.json"
    write_trace(touching(*rows, execs=[Exec(0, None, 1)], syscalls=[call("read")]), path)
    return path


FILES = {"policy.yaml", "trace.json", "seccomp.json", "capabilities.json", "docker-run.sh", "compose.yaml"}


def test_everything_into_a_directory(recording: Path, tmp_path: Path) -> None:
    done = profgen(recording, "-o", tmp_path / "new" / "profile")
    assert (done.returncode, done.stdout) == (0, "")
    made = tmp_path / "new" / "profile"
    assert all(name in done.stderr for name in FILES)
    assert f"next: review {made}/policy.yaml" in done.stderr
    assert {path.name for path in made.iterdir()} == FILES
    assert os.access(made / "docker-run.sh", os.X_OK)
    assert yaml.safe_load((made / "policy.yaml").read_text())["no_new_privs"] is True


def test_same_input_same_bytes(recording: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert profgen(recording, "-o", tmp_path / name).returncode == 0
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_policy_is_rendered_as_it_stands(recording: Path, tmp_path: Path) -> None:
    assert profgen(recording, "-o", tmp_path / "a").returncode == 0
    assert profgen(tmp_path / "a" / "policy.yaml", "-o", tmp_path / "b").returncode == 0
    assert {path.name for path in (tmp_path / "b").iterdir()} == FILES - {"policy.yaml", "trace.json"}
    for name in FILES - {"policy.yaml", "trace.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_edited_policy_is_not_overwritten(recording: Path, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    assert profgen(recording, "-o", profile).returncode == 0
    policy = profile / "policy.yaml"
    policy.write_text(policy.read_text().replace("    read: {", "    reboot: {"))
    edited = policy.read_text()
    assert profgen(policy, "-o", profile).returncode == 0
    assert policy.read_text() == edited
    assert "reboot" in (profile / "seccomp.json").read_text()


def test_the_policy_of_another_workload_is_not_replaced(recording: Path, tmp_path: Path) -> None:
    profile, other, again = (tmp_path / name for name in ("app.profile", "other.json", "again.json"))
    assert profgen(recording, "-o", profile).returncode == 0
    write_trace(example(argv=("/usr/bin/other", "-v")), other)
    write_trace(example(argv=("/opt/app", "--with", "options")), again)
    before = {path: path.read_bytes() for path in profile.iterdir()}
    fails(profgen(other, "-o", profile), 125, "policy of app", "this is other", "another directory", "delete")
    assert {path: path.read_bytes() for path in profile.iterdir()} == before
    assert profgen(again, "-o", profile).returncode == 0
    (profile / "policy.yaml").unlink()
    assert profgen(other, "-o", profile).returncode == 0


def test_an_input_is_not_replaced(recording: Path, tmp_path: Path) -> None:
    """By any of its names, and not by a file that comes along."""
    profile = tmp_path / "app.profile"
    assert profgen(recording, "-o", profile).returncode == 0
    policy = profile / "policy.yaml"
    (tmp_path / "other.yaml").hardlink_to(policy)
    (tmp_path / "seccomp.json").write_bytes(recording.read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for source, *words in (
        (profile, "-t", "seccomp", "-o", policy),
        (policy, "-t", "seccomp", "-o", tmp_path / "other.yaml"),
        (recording, "-t", "seccomp", "-o", recording),
        (tmp_path / "seccomp.json", "-o", f"{tmp_path}/"),
        (tmp_path / "seccomp.json", "-t", "docker", "-o", tmp_path / "run.sh"),
    ):
        fails(profgen(source, *words), 125, "input of this command", "-o")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_target_without_output_goes_to_stdout(recording: Path) -> None:
    done = profgen(
        recording,
        "-t",
        "seccomp",
        "--runtime",
        "none",
        "--no-equivalents",
        "--no-arguments",
        "-O",
        "seccomp.action=log",
    )
    assert done.returncode == 0
    made = json.loads(done.stdout)
    assert made["defaultAction"] == "SCMP_ACT_LOG"
    assert made["syscalls"][0]["names"] == ["access", "read", "socket"]
    assert "docker-run.sh" in profgen(recording, "-t", "docker").stdout
    both = profgen(recording, "-t", "docker,oci", "-o", "-")
    assert both.returncode != 0
    assert "several files cannot go to standard output" in both.stderr


def test_one_target_into_a_file(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "my.json"
    assert profgen(recording, "-t", "seccomp", "-o", out).returncode == 0
    assert json.loads(out.read_text())["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not (tmp_path / "policy.yaml").exists()


def test_what_a_file_needs_is_written_next_to_it(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    file = tmp_path / "shop/compose.yaml"
    file.write_text("services: {web: {image: nginx}}  # ours\n")
    done = profgen(recording, "-t", "compose", "--into", file, "-o", file, "--json")
    assert done.returncode == 0, done.stderr
    assert "# ours" in file.read_text()
    assert "seccomp=./web.seccomp.json" in file.read_text()
    assert json.loads((tmp_path / "shop/web.seccomp.json").read_text())["defaultAction"] == "SCMP_ACT_ERRNO"
    assert json.loads(done.stdout)["files"] == [str(file), str(tmp_path / "shop/web.seccomp.json")]
    assert f"compose: docker compose -f {file} up web" in done.stderr
    several = profgen(recording, "-t", "docker,compose", "-o", tmp_path / "x.yaml")
    assert "several files need a directory" in several.stderr


def test_with_into_the_file_is_the_one_that_was_rewritten(touched: Path, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("services: {web: {image: nginx}}\n")
    done = profgen(touched, "-t", "apparmor,compose,seccomp", "--into", file, "-o", file, "--json")
    assert done.returncode == 0, done.stderr
    needed = {tmp_path / "web.apparmor.profile", tmp_path / "web.seccomp.json"}
    assert set(json.loads(done.stdout)["files"]) == {str(file), *map(str, needed)}
    assert all(path.is_file() for path in needed)
    assert f"apparmor_parser -r -W {tmp_path}/web.apparmor.profile" in done.stderr


@pytest.mark.parametrize(
    ("targets", "output", "made"),
    [
        ("containerd", "ctr.sh", "ctr.sh"),
        ("docker", "nginx-1.25", "nginx-1.25/docker-run.sh"),
        ("docker", "app.profile", "app.profile/docker-run.sh"),
        ("docker", "out", "out/docker-run.sh"),
        ("docker", "run.sh/", "run.sh/docker-run.sh"),
        ("quadlet", "my.container", "my.container"),
        ("seccomp", "out", "out/seccomp.json"),
        ("seccomp", "app.profile", "app.profile/seccomp.json"),
        ("seccomp", "usr.sbin.app", "usr.sbin.app"),
        ("docker,podman", "app.v2", "app.v2/docker-run.sh"),
    ],
)
def test_a_file_or_a_directory(recording: Path, tmp_path: Path, targets: str, output: str, made: str) -> None:
    assert profgen(recording, "-t", targets, "-o", f"{tmp_path}/{output}").returncode == 0
    assert (tmp_path / made).is_file()


def test_a_new_file_does_not_take_the_profile_of_another(recording: Path, tmp_path: Path) -> None:
    assert profgen(recording, "-t", "docker", "-o", tmp_path / "a.sh").returncode == 0
    assert profgen(recording, "-t", "docker", "-o", tmp_path / "b.sh").returncode == 0, "the same profile"
    write_trace(trace(call("write")), tmp_path / "c.json")
    made = (tmp_path / "seccomp.json").read_bytes()
    fails(profgen(tmp_path / "c.json", "-t", "docker", "-o", tmp_path / "c.sh"), 125, "seccomp.json is there already")
    assert (tmp_path / "seccomp.json").read_bytes() == made
    assert not (tmp_path / "c.sh").exists()
    assert profgen(tmp_path / "c.json", "-t", "docker", "-o", tmp_path / "a.sh").returncode == 0, "made again"
    fails(profgen(recording, "-t", "docker", "-o", tmp_path / "seccomp.json"), 125, "both the file and seccomp.json")


def test_items_with_one_reason_are_one_line(tmp_path: Path) -> None:
    checks = [check(name) for name in ("CAP_CHOWN", "CAP_KILL")]
    write_trace(trace(call("read"), capabilities=checks, uid=7), tmp_path / "t.json")
    done = profgen(tmp_path / "t.json", "-q", "-t", "docker")
    assert [line for line in done.stderr.splitlines() if "refuses" in line] == [
        "profgen: warning: docker: refuses CAP_CHOWN, CAP_KILL, which the policy allows: the engine gives capabilities "
        "to root only; another user has them in programs with file capabilities alone"
    ]


def test_several_traces_are_merged(tmp_path: Path) -> None:
    write_trace(trace(call("read")), tmp_path / "1.json")
    write_trace(trace(call("write")), tmp_path / "2.json")
    done = profgen(tmp_path / "1.json", tmp_path / "2.json", "-t", "seccomp", "--runtime", "none", "--no-equivalents")
    assert json.loads(done.stdout)["syscalls"][0]["names"] == ["read", "write"]


@pytest.mark.parametrize("files", [True, False])
def test_a_program_that_gained_privileges(files: bool, tmp_path: Path) -> None:
    def written(*options: str) -> tuple[bool, str]:
        done = profgen(path, "-o", tmp_path / "made", *options)
        assert done.returncode == 0, done.stderr
        shown = [line for line in done.stderr.splitlines() if "no_new_privs" in line and "limit" not in line]
        return json.loads((tmp_path / "made/capabilities.json").read_text())["no_new_privileges"], "\n".join(shown)

    path = tmp_path / "su.trace.json"
    gained = Exec(2, 1, 3, gained=frozenset({"setuid", "capabilities"}))
    made = touching(*uses("/usr/bin/tool", "execute"), execs=[Exec(0, None, 1), gained], syscalls=[call("read")])
    write_trace(made if files else dataclasses.replace(made, meta=dataclasses.replace(made.meta, features=())), path)
    off, why = written()
    assert not off
    assert why.startswith(
        "profgen: no_new_privs is off, because /usr/bin/tool (capabilities, setuid) gained privileges"
    )
    assert written("--quiet") == (False, "")
    on, warning = written("--no-new-privs", "--quiet")
    assert on
    assert warning.startswith("profgen: warning: no_new_privs is on, and prevents what was recorded: /usr/bin/tool (")
    if files:
        reviewed = tmp_path / "made/policy.yaml"
        assert "because: {gained: [capabilities, setuid]}" in reviewed.read_text()
        assert warning in profgen(reviewed, "-t", "seccomp").stderr


def test_drop_failing_and_allow_new_privs(recording: Path) -> None:
    done = profgen(
        recording,
        "-t",
        "seccomp",
        "--drop-failing",
        "--allow-new-privs",
        "--runtime",
        "runc",
        "--runtime-version",
        "1.1.5",
    )
    rules = json.loads(done.stdout)["syscalls"]
    assert {"names": ["access"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2} in rules
    assert any("capset" in rule["names"] for rule in rules)


def test_an_unknown_start_is_said(tmp_path: Path) -> None:
    """By generate, in the policy, and in what is made of it; until a merged recording has it."""
    joined = dataclasses.replace(example(features=(JOINED_FEATURE,)), programs=(Program("/usr/sbin/app"),))
    write_trace(joined, tmp_path / "t.json")
    done = profgen(tmp_path / "t.json", "-o", tmp_path / "out")
    assert done.returncode == 0
    assert "start-up syscalls unknown: joined a running process (/usr/sbin/app)" in done.stderr
    assert "--start-up" in done.stderr
    assert "joined: [/usr/sbin/app]" in (tmp_path / "out/policy.yaml").read_text()
    assert "Start-up unknown" in (tmp_path / "out/docker-run.sh").read_text()
    with_start = profgen(tmp_path / "t.json", "-t", "seccomp", "--start-up")
    assert "start-up syscalls unknown" in with_start.stderr
    assert "execve" in with_start.stdout
    write_trace(dataclasses.replace(example(), execs=(Exec(0, None, 1),)), tmp_path / "start.json")
    assert (
        "start-up syscalls" not in profgen(tmp_path / "t.json", tmp_path / "start.json", "-o", tmp_path / "both").stderr
    )


def test_unknown_numbers_are_said(tmp_path: Path) -> None:
    write_trace(trace(call("read"), unknown(999)), tmp_path / "t.json")
    done = profgen(tmp_path / "t.json", "-t", "seccomp")
    assert done.returncode == 0
    assert "999" in done.stderr
    assert "999" not in done.stdout


def test_rewrites_a_given_config(recording: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{\n "ociVersion": "1.0.2",\n "process": {\n  "user": {"uid": 7}\n }\n}\n')
    done = profgen(recording, "-t", "oci", "--into", config, "-o", config)
    assert done.returncode == 0, done.stderr
    made = json.loads(config.read_text())
    assert made["process"]["capabilities"]["ambient"] == ["CAP_NET_BIND_SERVICE"]
    assert config.read_text().startswith('{\n "ociVersion": "1.0.2",\n "process": {\n  "user": {"uid": 7},\n')


def test_rewrites_a_manifest(recording: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "deploy.yaml"
    text = "kind: Pod   # one\nmetadata: {name: web}\nspec:\n    containers:\n    -   name: web # the container\n"
    manifest.write_text(text)
    done = profgen(recording, "-t", "kubernetes", "--into", manifest, "-o", manifest, "--json")
    assert done.returncode == 0, done.stderr
    assert manifest.read_text().startswith(text)
    assert "localhostProfile: profgen/" in manifest.read_text()
    notes = [row["text"] for row in json.loads(done.stdout)["usage"] if row["kind"] == "note"]
    assert notes[0].startswith("Pod Security Standards: meets baseline, not restricted; restricted needs: ")
    assert f"kubernetes: {notes[0]}\n" in done.stderr


def test_an_incomplete_recording_is_refused_unless_accepted(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write_trace(example(complete=False, losses={"map full": 3}), path)
    fails(profgen(path, "-o", tmp_path / "out"), 125, "lost 3 map full", "--allow-loss")
    assert not (tmp_path / "out").exists()
    done = profgen(path, "-t", "seccomp", "--allow-loss")
    assert done.returncode == 0
    assert "lost 3 map full" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"{",
        b"[]",
        b"\xff" * 50,
        b'{"schema": "profgen.trace/99"}',
        b'{"schema": 5}',
        b"schema: profgen.policy/99\n",
        b"hello: world\n",
        b"null",
    ],
)
def test_unusable_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in"
    path.write_bytes(content)
    old = tmp_path / "out"
    old.mkdir()
    (old / "policy.yaml").write_text("old")
    fails(profgen(path, "-o", old), 2, str(path))
    assert [entry.name for entry in old.iterdir()] == ["policy.yaml"]
    assert (old / "policy.yaml").read_text() == "old"


def test_truncated_and_large_junk(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(recording.read_bytes()[:-200])
    fails(profgen(path, "-o", tmp_path / "out"), 2, str(path))
    path.write_bytes(os.urandom(10 << 20))
    fails(profgen(path, "-o", tmp_path / "out"), 2, str(path))
    path.write_bytes(b"{" + b"[" * (10 << 20))
    fails(profgen(path, "-o", tmp_path / "out"), 2, str(path))
    path.write_bytes(b"[" * (10 << 20))
    fails(profgen(path, "-o", tmp_path / "out"), 2, str(path))
    path.write_bytes(b"a: b\n" * (2 << 20))
    fails(profgen(path, "-o", tmp_path / "out"), 2, str(path))


def test_wrong_use(recording: Path, tmp_path: Path) -> None:
    fails(profgen(tmp_path / "missing", "-o", tmp_path / "out"), 2, "missing")
    fails(profgen(recording, "-t", "lxd", "-o", tmp_path / "out"), 2, "unknown target 'lxd'", "seccomp")
    fails(profgen(recording, "--runtime", "rkt", "-o", tmp_path / "out"), 2, "rkt")
    fails(profgen(recording, "--runtime", "runc", "--runtime-version", "new", "-o", tmp_path / "out"), 2, "new")
    fails(profgen(recording, "--runtime-version", "1.2", "-o", tmp_path / "out"), 2, "--runtime")
    fails(profgen(recording, "-O", "seccomp.action=allow", "-o", tmp_path / "out"), 2, "allow")
    fails(profgen("-o", tmp_path / "out"), 2)
    fails(profgen(recording, "-t", "seccomp", "--into", recording), 2, "-t", "oci")
    fails(profgen(recording, "-t", "oci", "--into", tmp_path / "none"), 2, "none")
    assert profgen(recording, "-o", tmp_path / "a").returncode == 0
    policy = tmp_path / "a" / "policy.yaml"
    fails(profgen(policy, recording, "-o", tmp_path / "out"), 2, "policy.yaml")
    fails(profgen(policy, "--runtime", "none", "-o", tmp_path / "out"), 2, "as it stands")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_a_part_fails(recording: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    out = tmp_path / "out"
    out.mkdir()
    (out / "seccomp.json").write_text("old")
    fails(profgen(recording, "-t", "seccomp,oci", "--into", bad, "-o", out), 2, "bad.json")
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("seccomp.json", "old")]


def test_unwritable_output(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    fails(profgen(recording, "-o", tmp_path / "file"), 125, "file")
    fails(profgen(recording, "-o", tmp_path / "file" / "below"), 125, "below")
    fails(profgen(recording, "-o", "/proc/nothing/here"), 125, "/proc/nothing")
    assert (tmp_path / "file").read_text() == "mine"
    assert profgen(recording, "-t", "seccomp", "-o", tmp_path / "file").returncode == 0, "one target, one file"
    assert (tmp_path / "file").read_text() == profgen(recording, "-t", "seccomp", "-o", "-").stdout


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_standard_output(recording: Path, tmp_path: Path, output: str) -> None:
    done = profgen(recording, "-t", "seccomp", "-o", output, cwd=tmp_path)
    assert json.loads(done.stdout)["defaultAction"]
    fails(profgen(recording, "-o", output, cwd=tmp_path), 2, "several files", "-t")
    assert [path.name for path in tmp_path.iterdir()] == [recording.name]


def test_the_default_directory(recording: Path, tmp_path: Path) -> None:
    done = profgen("app.trace.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "to app.profile" in done.stderr
    assert {path.name for path in (tmp_path / "app.profile").iterdir()} == FILES
    (tmp_path / "app.profile" / "seccomp.json").unlink()
    assert profgen("app.profile", cwd=tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "app.profile").iterdir()} == FILES
    fails(profgen("-", input=recording.read_text()), 2, "standard input", "-o")


@pytest.mark.parametrize(
    ("source", "directory"),
    [
        ("app.trace.json", "app.profile"),
        ("traces/app.2.trace.json", "app.2.profile"),
        ("app-1.27", "app-1.27.profile"),
        ("new.yaml", "new.profile"),
        ("policy.yaml", "policy.profile"),
        ("x/policy.yaml", "x"),
        ("x/trace.json", "x"),
        ("./policy.yaml", "."),
        (".trace.json", "workload.profile"),
    ],
)
def test_names_of_default_directories(source: str, directory: str) -> None:
    assert default_directory(source) == Path(directory)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    read: {", "    # for the log\n    read: {"),
        ("{observed: [app]}", "the auditors ask for it"),
        ("{observed: [app]}", "{denied: [app]}"),
        ("no_new_privs: true", "no_new_privs: false"),
        ("    read: {because: {observed: [app]}}\n", ""),
        ("syscalls:", "sycalls:"),
    ],
)
def test_a_new_recording_does_not_overwrite_what_people_did(
    recording: Path, tmp_path: Path, old: str, new: str
) -> None:
    out = tmp_path / "out"
    assert profgen(recording, "-o", out).returncode == 0
    assert profgen(recording, "-o", out).returncode == 0, "as it was written it may be written again"
    text = (out / "policy.yaml").read_text()
    assert old in text
    (out / "policy.yaml").write_text(text.replace(old, new, 1))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    done = profgen(recording, "-o", out)
    assert done.returncode == 125
    said, command = done.stderr.splitlines()
    assert said.startswith("profgen: ")
    assert "was edited" in said
    assert f"delete {out}/policy.yaml to discard the edits" in said
    assert command.startswith("  profgen merge --base ")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_policy_with_a_head_of_other_entries(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "-out"
    assert profgen(recording, "-o", out).returncode == 0
    policy = out / "policy.yaml"
    policy.write_text(policy.read_text().replace("    read: {", "    reboot:  # asked\n    read: {"))
    done = profgen("./-out/policy.yaml", "-q", "-t", "seccomp", cwd=tmp_path)
    assert done.stderr == (
        "profgen: note: the head of ./-out/policy.yaml is out of date; renew it: "
        "profgen merge ./-out/policy.yaml -o ./-out/policy.yaml\n"
    )
    merged = running.profgen(*done.stderr.split("profgen ")[-1].split(), cwd=tmp_path)
    assert merged.returncode == 0
    assert "    reboot: {}  # asked\n" in policy.read_text()
    assert "# syscalls:     3 seen, 1 added, " in policy.read_text()
    assert profgen("./-out/policy.yaml", "-q", "-t", "seccomp", cwd=tmp_path).stderr == ""


def test_a_runtime_version_that_nobody_measured(recording: Path) -> None:
    done = profgen(recording, "-qt", "seccomp", "--runtime", "runc", "--runtime-version", "99")
    assert done.returncode == 0
    assert done.stderr == (
        "profgen: warning: --runtime-version 99: the newest that was measured is 1.3.6; what it calls is allowed\n"
    )
    assert profgen(recording, "-qt", "seccomp", "--runtime", "runc", "--runtime-version", "1.3.9").stderr == ""


def test_several_files_need_a_directory(recording: Path, touched: Path, tmp_path: Path) -> None:
    fails(profgen(recording, "-t", "seccomp,capabilities", "-o", tmp_path / "x.json"), 125, "several files", "x.json/")
    assert profgen(touched, "-o", tmp_path / "app.profile").returncode == 0
    assert (tmp_path / "app.profile" / "apparmor.profile").is_file()


# Files and the AppArmor profile.


def test_files_give_an_apparmor_profile(touched: Path, tmp_path: Path) -> None:
    done = profgen(touched, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"apparmor.profile"}
    told = [line for line in done.stderr.splitlines() if line.startswith("profgen: apparmor: ")]
    assert len(told) == 1, "beside files that use it, one line"
    assert f"apparmor_parser -r -W {tmp_path}/out/apparmor.profile " in told[0]
    assert "apparmor=profgen-app-" in (tmp_path / "out" / "docker-run.sh").read_text()
    policy = yaml.safe_load((tmp_path / "out" / "policy.yaml").read_text())
    assert "/tmp/app.{random:6}" in policy["files"]
    again = profgen(tmp_path / "out" / "policy.yaml", "-q", "-o", tmp_path / "again")
    assert (again.returncode, again.stderr) == (0, "")
    for name in FILES - {"policy.yaml", "trace.json"} | {"apparmor.profile"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_without_file_evidence_there_is_no_apparmor_profile(recording: Path, tmp_path: Path) -> None:
    done = profgen(recording, "-o", tmp_path / "out")
    assert done.returncode == 0
    assert len([line for line in done.stderr.splitlines() if "apparmor: left out" in line]) == 1
    assert "apparmor" not in (tmp_path / "out" / "docker-run.sh").read_text()
    assert "apparmor: left out" not in profgen(recording, "-t", "seccomp").stderr
    fails(profgen(recording, "-t", "apparmor"), 2, "files")
    fails(profgen(recording, "-O", "apparmor.complain", "-o", tmp_path / "new"), 2, "files")
    assert not (tmp_path / "new").exists()


def test_apparmor_alone(touched: Path, tmp_path: Path) -> None:
    done = profgen(touched, "-t", "apparmor", "-O", "apparmor.name=mine", "-O", "apparmor.complain")
    assert done.returncode == 0
    assert done.stderr == "profgen: apparmor: does not limit syscalls, arguments, no_new_privs\n"
    assert "profile mine" in done.stdout
    assert "complain" in done.stdout
    out = tmp_path / "my.profile"
    done = profgen(
        touched, "-t", "apparmor", "-O", "apparmor.attach=/usr/sbin/app", "-O", "apparmor.abi=4.0", "-o", out
    )
    assert done.returncode == 0, done.stderr
    assert f"apparmor_parser -r -W {out}" in done.stderr
    assert "abi/4.0" in out.read_text()
    assert "/usr/sbin/app" in out.read_text()
    assert "apparmor=" not in profgen(touched, "-t", "docker").stdout, "names a profile that is not made"


def needed(done: subprocess.CompletedProcess[str], directory: Path) -> set[str]:
    assert done.returncode == 0, done.stderr
    return set(yaml.safe_load((directory / "policy.yaml").read_text())["files"])


def test_options_of_generalising(touched: Path, tmp_path: Path) -> None:
    common = {"/usr/sbin/app", "/etc/app.conf"}
    letters = {f"/var/lib/app/{name}" for name in "abcde"}
    assert needed(profgen(touched, "-o", tmp_path / "a"), tmp_path / "a") == common | letters | {"/tmp/app.{random:6}"}
    done = profgen(touched, "-o", tmp_path / "b", "--generalise-threshold", "5")
    assert needed(done, tmp_path / "b") == common | {"/var/lib/app/{name}", "/tmp/app.{random:6}"}
    done = profgen(touched, "-o", tmp_path / "c", "--no-generalise")
    assert needed(done, tmp_path / "c") == common | letters | {"/tmp/app.aB3dE9"}


def test_wrong_use_of_the_options_for_files(touched: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fails(profgen(touched, "--no-generalise", "--generalise-threshold", "5", "-o", out), 2, "--no-generalise")
    fails(profgen(touched, "--generalise-threshold", "1", "-o", out), 2, "--generalise-threshold")
    fails(profgen(touched, "-t", "seccomp", "-O", "apparmor.name=x"), 2, "-t apparmor")
    fails(profgen(touched, "-O", "apparmor.name=a b", "-o", out), 2, "a b")
    fails(profgen(touched, "-O", "apparmor.attach=app", "-o", out), 2, "app")
    fails(profgen(touched, "-O", "apparmor.abi=2.0", "-o", out), 2, "2.0")
    assert not out.exists()
    assert profgen(touched, "-o", out).returncode == 0
    fails(profgen(out / "policy.yaml", "--no-generalise", "-o", tmp_path / "b"), 2, "as it stands")
    fails(profgen(out / "policy.yaml", "--generalise-threshold", "5", "-o", tmp_path / "b"), 2, "as it stands")


def test_io_uring_is_warned_of(tmp_path: Path) -> None:
    write_trace(trace(call("read"), call("io_uring_setup")), tmp_path / "t.json")
    done = profgen(tmp_path / "t.json", "-t", "seccomp")
    assert done.returncode == 0
    assert "io_uring" in done.stderr
    write_trace(trace(call("read"), call("io_uring_setup", ok=0, errors={"ENOSYS": 1})), tmp_path / "t.json")
    assert "io_uring" not in profgen(tmp_path / "t.json", "-t", "seccomp").stderr


def test_traces_with_and_without_files(touched: Path, recording: Path, tmp_path: Path) -> None:
    done = profgen(touched, recording, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "apparmor: left out" in done.stderr
    assert "files" not in yaml.safe_load((tmp_path / "out" / "policy.yaml").read_text())
