"""The candidates for a command line."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.running import profgen
from waiting import HANG_SECONDS

from profiler.cli.candidates import Candidate
from profiler.cli.completing import complete, unquoted
from profiler.cli.completion import SCRIPTS, script
from profiler.cli.main import COMMANDS, cli, run
from profiler.kernel.capabilities import CAPABILITIES
from profiler.policy import document
from profiler.policy.model import Allowed, Capability, FileRule, Policy, Transition, Workload
from profiler.targets.catalogue import TARGETS

POLICY = Policy(
    Workload(("nginx",), 0),
    ("x86_64",),
    no_new_privs=True,
    runtime="none",
    syscalls=(Allowed("observed", "x86_64", "openat"), Allowed("observed", "x86_64", "read")),
    capabilities=(Capability("CAP_NET_BIND_SERVICE"),),
    has_files=True,
    files=(FileRule("/etc/nginx/nginx.conf", ("read",)),),
    transitions=(Transition("/usr/sbin/nginx", None),),
)


def offered(*words: str) -> list[str]:
    return [each.value for each in complete(words)]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with files of every kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.trace.json").write_text('{\n "schema": "profgen.trace/9",\n')
    (tmp_path / "a b.trace.json").write_text('{"schema": "profgen.trace/9"}')
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "policy.yaml").write_text(document.dumps(POLICY))
    (tmp_path / "compose.yaml").write_text("services: {}")
    (tmp_path / "app.profile").mkdir()
    (tmp_path / "app.profile" / "policy.yaml").write_text(document.dumps(POLICY))
    (tmp_path / ".hidden.trace.json").write_text('{"schema": "profgen.trace/9"}')
    (tmp_path / "bad\x1b[31m.trace.json").write_text('{"schema": "profgen.trace/9"}')
    os.mkfifo(tmp_path / "pipe.json")
    return tmp_path


def test_commands() -> None:
    assert offered("") == list(COMMANDS)
    assert offered("ge") == ["generate"]
    assert offered("--debug", "ge") == ["generate"]
    assert offered("--d") == ["--debug"]
    assert offered("nothing", "") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command
    found = offered(name, "--")
    for option in command.params:
        if isinstance(option, click.Option):
            assert set(option.opts) & set(found)
            assert not option.secondary_opts or set(option.secondary_opts) & set(found)
    assert "--help" in found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["record", "--tracer", ""], ["auto", "ebpf", "ptrace"]),
        (["record", "--tracer=p"], ["--tracer=ptrace"]),
        (["diff", "--fail-on", "w"], ["widened"]),
        (["generate", "-t", "secc"], ["seccomp"]),
        (["generate", "--target=seccomp,appa"], ["--target=seccomp,apparmor"]),
        (["generate", "-t", "seccomp,secc"], []),
        (["generate", "-O", "apparmor.comp"], ["apparmor.complain"]),
        (["generate", "-O", "apparmor.complain="], ["apparmor.complain=yes", "apparmor.complain=no"]),
        (["generate", "-O", "seccomp.action=k"], ["seccomp.action=kill-process"]),
        (["generate", "--apparmor-n"], ["--apparmor-name", "--apparmor-namespace"]),
        (["targets", "oc"], ["oci", "oci-artifact"]),
        (["score", "--capabilities", "CAP_CHOWN,CAP_SYS_BOO"], ["CAP_CHOWN,CAP_SYS_BOOT"]),
        (["record", "--limit", "fil"], ["files="]),
        (["record", "--user", "roo"], ["root"]),
        (["record", "--image", "nginx", "--na"], []),
        (["record", "-o", "x", "ls", "--tra"], ["3"]),
        (["record", "--image", "nginx", "--name", "x", "--", ""], ["6"]),
        (["verify", "app.profile", "--", "a", ""], ["3"]),
        (["verify", "app.profile", ""], ["2"]),
        (["refine", "--from", "jou"], ["journal"]),
        (["record", "--metrics", ""], []),
        (["completion", "z"], ["zsh"]),
        (["verify", "app.profile", "--report", "js"], ["json:"]),
    ],
)
def test_values(words: Sequence[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_every_target_and_capability() -> None:
    assert offered("generate", "-t", "") == [target.name for target in TARGETS]
    assert set(CAPABILITIES) <= set(offered("refine", "--allow-dangerous", "CAP_"))


def test_files_of_the_right_kind(directory: Path) -> None:
    assert offered("coverage", "") == ["a b.trace.json", "app.profile/", "app.trace.json"]
    assert offered("verify", "") == ["app.profile/", "policy.yaml"]
    assert offered("lint", "pa") == ["package.json"]
    assert offered("generate", "app.trace.json", "") == offered("generate", "")
    assert offered("generate", "./app.") == ["./app.profile/", "./app.trace.json"]
    assert offered("generate", "app.profile/") == ["app.profile/policy.yaml"]
    assert offered("generate", "--templates", "") == ["app.profile/"]
    assert "notes.txt" in offered("record", "-o", "")
    assert offered("verify", "app.profile", "--report", "no") == ["notes.txt"]
    assert offered("verify", "app.profile", "--report", "junit:no") == ["junit:notes.txt"]
    assert offered("lint", "n") == ["notes.txt"], "no file of the kind begins so"
    assert offered("lint", "nowhere/") == []
    assert ".hidden.trace.json" in offered("generate", ".")


def test_home(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.chdir("/")
    assert offered("generate", "~/app.t") == ["~/app.trace.json"]


def test_entries_of_a_policy(directory: Path) -> None:
    for given_as in ("policy.yaml", "app.profile", "app.profile/"):
        assert offered("explain", given_as, "CAP_") == ["CAP_NET_BIND_SERVICE"]
        assert offered("explain", given_as, "openat", "re") == ["read"]
        assert offered("explain", given_as, "/etc") == ["/etc/nginx/nginx.conf"]
        assert offered("explain", given_as, "exec:") == ["exec:/usr/sbin/nginx"]


def test_processes() -> None:
    (own,) = complete(["record", "--pid", str(os.getpid())])[:1]
    assert "python" in own.help


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that the tests write, and no other program."""
    path = tmp_path / "docker"
    path.touch()
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PROFGEN_ENGINE", raising=False)
    return path


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a shell waits."""
    monkeypatch.setattr("profiler.cli.candidates.SECONDS", HANG_SECONDS)


@pytest.mark.usefixtures("patient")
def test_containers_and_images(engine: Path) -> None:
    engine.write_text(
        "#!/bin/sh\n[ $1 = ps ] && printf 'web\\tnginx:1.27\\n' || printf 'nginx:1.27\\t40MB\\n<none>:<none>\\t1B\\n'\n"
    )
    assert complete(["record", "--container", "w"]) == [Candidate("web", "nginx:1.27 (docker)")]
    assert offered("record", "--image", "") == ["nginx:1.27"]


def test_an_engine_that_hangs_is_not_waited_for(engine: Path) -> None:
    engine.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    before = time.monotonic()
    assert offered("record", "--container", "") == []
    assert time.monotonic() - before < HANG_SECONDS


@pytest.mark.usefixtures("patient")
def test_units(engine: Path) -> None:
    systemctl = engine.rename(engine.with_name("systemctl"))
    systemctl.write_text(
        "#!/bin/sh\necho 'web.service loaded active running The web server'\necho '● x.service loaded'\n"
    )
    assert complete(["record", "--unit", "web"]) == [Candidate("web.service", "The web server")]


@given(st.lists(st.text(max_size=12), max_size=4), st.sampled_from([*COMMANDS, "--debug", "-x", ""]))
def test_any_words(words: list[str], first: str) -> None:
    """No line raises anything but what is suppressed for unreadable files."""
    plain = [word.replace("\0", "") for word in words]
    if first != "explain":  # reads the file
        complete([first, *plain])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a\\ b", "a b"),
        ("'a b", "a b"),
        ('"a b', "a b"),
        ("", ""),
        ("a\\", "a"),
        ("--into='x y'", "--into=x y"),
        ("~/x", "~/x"),
        ("#x", "#x"),
    ],
)
def test_unquoted(word: str, expected: str) -> None:
    assert unquoted(word) == expected


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that returns what ``profgen completion`` prints, which is never a message."""
    monkeypatch.setattr("profiler.cli.completion.SECONDS", HANG_SECONDS)

    def ask(shell: str, *words: str) -> str:
        assert run(["completion", shell, "--", *words]) == 0
        shown = capfd.readouterr()
        assert shown.err == ""
        return shown.out

    return ask


def test_the_command(directory: Path, answer: Callable[..., str]) -> None:
    assert answer("bash", "generate", "'a ") == "file\ta b.trace.json\t\n"
    assert answer("fish", "generate", "'x", "'a ") == answer("bash", "generate", "'a ")
    assert answer("bash", "lin") == "word\tlint\tFind known holes and traps in a policy or profile, each with a fix\n"
    for words in (
        ["explain", "notes.txt", ""],
        ["explain", "missing", ""],
        ["nothing", "x"],
        ["record", "--nope", "x="],
    ):
        assert answer("zsh", *words) in ("", "command\t2\t\n")


def test_a_file_that_never_ends(directory: Path) -> None:
    """The time limit ends it without a message."""
    found = profgen("completion", "bash", "--", "explain", "/dev/zero", "", cwd=directory)
    assert (found.stdout, found.stderr) == ("", "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script(shell: str) -> None:
    assert profgen("completion", shell).stdout.encode() == script(shell)
