"""profgen refine as a user calls it: a process of its own, files, exit statuses, one line on failure."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from executables import write_program
from unit.cli import running
from unit.denials.logs.test_reading import AA, AUDIT, BODY
from unit.denials.test_propose import APP, policy
from unit.review.sarif import check_sarif

from profiler.policy.document import dumps, read_policy
from profiler.targets.apparmor.naming import profile_name

OURS = BODY.replace("/usr/bin/unshare", APP).replace('comm="unshare"', 'comm="app"')


def record(name_or_body: str, number: int = 121, serial: int = 1) -> str:
    return f"type=SECCOMP msg=audit(1795353970.253:{serial}): " + name_or_body.replace(
        "syscall=272", f"syscall={number}"
    )


GETPGID, PTRACE, STRANGER = record(OURS), record(OURS, 101, 2), record(BODY, 121, 3)


def profgen(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return running.profgen("refine", *arguments, **options)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(dumps(policy()))
    return tmp_path


def log(place: Path, *lines: str) -> Path:
    path = place / "log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_change_is_shown(place: Path) -> None:
    done = profgen("policy.yaml", "--from", log(place, GETPGID, STRANGER), cwd=place)
    assert done.returncode == 1, done.stderr
    added = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert added == ["+    getpgid: {because: {logged: [app]}}"]
    assert not [line for line in done.stdout.splitlines() if line.startswith("- ")]
    assert f"logged 1 time: app ({APP}), 2026-11-22T13:26:10Z" in done.stderr
    assert "1 denial of programs that the policy does not know: /usr/bin/unshare (1)" in done.stderr
    assert (place / "policy.yaml").read_text() == dumps(policy()), "nothing is written"
    subprocess.run(["git", "apply", "-"], input=done.stdout, text=True, cwd=place, check=True, timeout=120)
    assert "getpgid" in {entry.name for entry in read_policy(place / "policy.yaml").syscalls}


def test_standard_input_and_writing(place: Path) -> None:
    done = profgen("policy.yaml", "--from", "-", "-o", "new.yaml", cwd=place, input=GETPGID + "\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert (place / "policy.yaml").read_text() == dumps(policy())
    new = read_policy(place / "new.yaml")
    assert "getpgid" in {entry.name for entry in new.syscalls}
    again = profgen("new.yaml", "--from", "-", cwd=place, input=GETPGID + "\n")
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing to add" in again.stderr


def test_in_place_keeps_comments(place: Path) -> None:
    path = place / "policy.yaml"
    path.write_text(dumps(policy()).replace("    read: {", "    # mine\n    read: {"))
    done = profgen(path, "--from", log(place, GETPGID), "--in-place", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "    # mine\n    read: {" in path.read_text()
    assert "getpgid" in {entry.name for entry in read_policy(path).syscalls}


def test_a_comment_at_the_entry_that_is_widened_stays(place: Path) -> None:
    path = place / "policy.yaml"
    text = dumps(policy()).replace(
        "  /etc/app.conf: {access: [read]}\n", "  /etc/app.conf:\n    access: [  read  ]  # only\n"
    )
    path.write_text(text)
    line = (
        "type=AVC msg="
        + AUDIT
        + AA.replace("/etc/x y", "/etc/app.conf").replace('"web"', f'"{profile_name(policy())}"').replace('"r"', '"k"')
    )
    line = line.replace('operation="open"', 'operation="file_lock"')
    shown = profgen(path, "--from", log(place, line), cwd=place)
    assert shown.returncode == 1, shown.stderr
    entry = f"  /etc/app.conf: {{access: [read, lock], because: {{denied: [{profile_name(policy())}]}}}}  # only\n"
    assert f"+{entry}" in shown.stdout
    done = profgen(path, "--from", log(place, line), "--in-place", cwd=place)
    assert done.returncode == 0, done.stderr
    assert entry in path.read_text()


def test_dangerous_things_are_asked_for(place: Path) -> None:
    done = profgen("policy.yaml", "--from", log(place, PTRACE), cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--allow-dangerous ptrace" in done.stderr
    done = profgen(
        "policy.yaml",
        "--from",
        log(place, PTRACE),
        "--allow-dangerous",
        "ptrace",
        "--allow-dangerous",
        "nothing",
        cwd=place,
    )
    assert done.returncode == 1
    assert "+    ptrace:" in done.stdout
    assert "--allow-dangerous nothing: no denial needs it" in done.stderr


def test_json(place: Path) -> None:
    done = profgen(
        "policy.yaml", "--from", log(place, GETPGID, PTRACE, STRANGER, GETPGID[:80]), "--format", "json", cwd=place
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert [row["item"] for row in found["added"]] == ["getpgid"]
    assert [row["item"] for row in found["refused"]] == ["ptrace"]
    assert found["refused"][0]["dangers"][0]["item"] == "ptrace"
    assert found["skipped"][0]["whose"] == {"/usr/bin/unshare": 1}
    denial = found["added"][0]["denials"][0]
    assert (denial["name"], denial["pid"], denial["events"], denial["lines"]) == (
        "getpgid",
        8124,
        ["1795353970.253:1"],
        [1],
    )
    assert found["log"]["records"] == 3
    assert "+    getpgid:" in found["diff"]


def test_formats(place: Path) -> None:
    """Counts agree, and what is written is not a failure."""
    words = ("policy.yaml", "--from", log(place, GETPGID, PTRACE, GETPGID[:80]))
    found = json.loads(profgen(*words, "--json", cwd=place).stdout)
    assert found["counts"] == {"error": 1, "warning": 2, "note": 0}
    assert [row["rule"] for row in found["findings"]] == ["log-unread", "denied-syscall", "denied-syscall"]
    done = profgen(*words, "-f", "sarif", cwd=place)
    assert done.returncode == 1
    results = check_sarif(done.stdout)["runs"][0]["results"]
    assert [row["level"] for row in results] == ["error", "warning", "warning"]
    assert "--allow-dangerous ptrace" in results[2]["message"]["text"]
    done = profgen(
        "policy.yaml", "--from", log(place, GETPGID), "-f", "github", "--in-place", "--trust-text", cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("::notice file=policy.yaml,line=")
    assert done.stdout.endswith("\nprofgen refine: 1 note\n")


def test_what_only_a_text_log_holds_is_written_when_it_is_trusted(place: Path) -> None:
    text = log(
        place, "Nov 22 13:26:10 web1 kernel: audit: type=1326 audit(1795353970.253:1): " + GETPGID.partition(": ")[2]
    )
    shown = profgen("policy.yaml", "--from", text, cwd=place)
    assert shown.returncode == 1, shown.stderr
    assert "+    getpgid:" in shown.stdout
    assert ", unproven\n" in shown.stderr
    assert "1 entry unproven: " in shown.stderr
    assert "profgen refine policy.yaml --from journal" in shown.stderr
    for writes in (["--in-place"], ["-o", "new.yaml"]):
        done = profgen("policy.yaml", "--from", text, *writes, cwd=place)
        assert done.returncode == 2
        assert "nothing is written" in done.stderr
        assert "--trust-text" in done.stderr
    assert (place / "policy.yaml").read_text() == dumps(policy())
    assert not (place / "new.yaml").exists()
    done = profgen("policy.yaml", "--from", text, "--in-place", "--trust-text", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "getpgid" in {entry.name for entry in read_policy(place / "policy.yaml").syscalls}


def test_a_second_log_proves_what_a_text_log_holds(place: Path) -> None:
    text = log(place, "[ 1.2] audit: type=1326 audit(1795353970.253:1): " + GETPGID.partition(": ")[2])
    (place / "audit.log").write_text(GETPGID + "\n")
    done = profgen("policy.yaml", "--from", text, "--from", "audit.log", "--in-place", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "unproven" not in done.stderr


def test_json_tells_what_is_unproven(place: Path) -> None:
    text = log(
        place, "[ 1.2] audit: type=1326 audit(1795353970.253:1): " + GETPGID.partition(": ")[2], "x SECCOMP syscall=1"
    )
    done = profgen("policy.yaml", "--from", text, "--json", "--in-place", cwd=place)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found["unproven"] == 1
    assert found["added"][0]["denials"][0]["unproven"] is True
    assert found["log"]["samples"] == [{"line": 2, "text": "x SECCOMP syscall=1"}]


@pytest.mark.parametrize(
    "line",
    [
        "x SECCOMP syscall=1",
        '{"level": "warn", "msg": "apparmor=\\"DENIED\\" operation=\\"open\\""}',
        "At 13:26:10 11/22/26 root, unsuccessfully called-seccomp-controlled-syscall uname using /usr/bin/sleep",
        GETPGID[:150],
    ],
)
def test_what_looks_like_a_denial_and_is_not_understood_is_said(line: str, place: Path) -> None:
    done = profgen("policy.yaml", "--from", log(place, line), cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 record ignored" in done.stderr
    assert "not understood, line 1: " in done.stderr
    assert "nothing to add" not in done.stderr
    written = profgen("policy.yaml", "--from", log(place, line, GETPGID), "--in-place", "--trust-text", cwd=place)
    assert written.returncode == 1
    assert "wrote policy.yaml" in written.stderr


def test_choosing_programs_and_profiles(place: Path) -> None:
    path = log(place, GETPGID, STRANGER, "type=AVC msg=" + AUDIT + AA)

    def items(*options: str) -> list[str]:
        found = json.loads(profgen("policy.yaml", "--from", path, "--format", "json", *options, cwd=place).stdout)
        return sorted(row["item"] for row in [*found["added"], *found["refused"]])

    assert items() == ["getpgid"]
    assert items("--profile", "web") == ["/etc/x y", "getpgid"]
    assert items("--comm", "web", "--profile", "web") == ["/etc/x y"]
    assert items("--exe", "/nowhere") == []
    assert items("--any-program") == ["getpgid"]


def test_gaps_are_said(place: Path) -> None:
    done = profgen(
        "policy.yaml",
        "--from",
        log(place, "[ 1.2] audit: audit_lost=7 audit_rate_limit=0 audit_backlog_limit=64"),
        cwd=place,
    )
    assert done.returncode == 0
    assert "gaps" in done.stderr
    assert "7 of them" in done.stderr


def test_names_of_strangers_stay_on_their_line(place: Path) -> None:
    line = (
        "type=AVC msg="
        + AUDIT
        + AA.replace('"/etc/x y"', "2F7372762F1B5B316D0A70726F6667656E3A20").replace(
            'profile="web"', f'profile="{profile_name(policy())}"'
        )
    )
    done = profgen("policy.yaml", "--from", log(place, line), cwd=place)
    assert done.returncode == 1, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert all(text.startswith("profgen: ") for text in done.stderr.splitlines())
    assert r"/srv/\\x1b[1m\\x0aprofgen: " in done.stdout


def test_an_empty_log_is_no_silence_to_trust(place: Path) -> None:
    """As when dmesg in front of a pipe was refused."""
    done = profgen("policy.yaml", "--from", os.devnull, cwd=place)
    assert done.returncode == 0
    assert "the log is empty" in done.stderr


def test_the_journal(place: Path) -> None:
    """What journalctl is asked for, and what becomes of its failures; tests/system reads a real one."""
    tools = place / "bin"
    tools.mkdir()

    def says(script: str) -> subprocess.CompletedProcess[str]:
        write_program(tools / "journalctl", f"#!/bin/sh\n{script}\n")
        return profgen("policy.yaml", "--from", "journal", cwd=place, environ={"PATH": f"{tools}:{os.environ['PATH']}"})

    entry = json.dumps({"_TRANSPORT": "audit", "MESSAGE": "SECCOMP " + OURS.replace("272", "121"), "_AUDIT_ID": "4"})
    done = says(f"echo \"$@\" >words\ncat <<'E'\n{entry}\nE")
    assert done.returncode == 1, done.stderr
    assert "+    getpgid:" in done.stdout
    words = (place / "words").read_text().split()
    assert {"--output=json", "--no-pager", "--all", "_TRANSPORT=audit", "_TRANSPORT=kernel"} <= set(words)
    done = says("echo 'No journal files were opened' >&2; exit 1")
    assert done.returncode == 2
    assert "No journal files were opened" in done.stderr
    done = says("exit 0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "cannot read the journal: it shows no kernel messages to this user; run as root" in done.stderr
    (tools / "journalctl").unlink()
    done = profgen("policy.yaml", "--from", "journal", cwd=place, environ={"PATH": str(tools)})
    assert done.returncode == 2
    assert "journalctl" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("policy.yaml", "--from", "missing"), "cannot read missing"),
        (("policy.yaml", "--from", "."), "cannot read ."),
        (("missing.yaml", "--from", "policy.yaml"), "cannot read missing.yaml"),
        (("broken.yaml", "--from", "policy.yaml"), "broken.yaml"),
        (("policy.yaml", "--from", "policy.yaml", "-o", "x", "--in-place"), "give one"),
        (("policy.yaml", "--from", "-", "--from", "-"), "twice"),
    ],
)
def test_trouble(place: Path, arguments: tuple[str, ...], words: str) -> None:
    (place / "broken.yaml").write_text("a: [")
    done = profgen(*arguments, cwd=place)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_a_place_that_cannot_be_written(place: Path) -> None:
    done = profgen("policy.yaml", "--from", log(place, GETPGID), "-o", "no/where.yaml", cwd=place)
    assert done.returncode == 125
    assert "cannot write" in done.stderr
