"""What is asked of an engine through its client, and what becomes of the answers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import tarfile
from pathlib import Path

import pytest
from executables import write_program
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from profiler.engines import engine as engines
from profiler.engines.engine import Creation, Engine, find, help_of, images_by_id, images_of, installed
from profiler.errors import InputError, ProgramError

ID, IMAGE = "ab" * 32, "cd" * 32


def client(directory: Path, script: str, name: str = "docker") -> Engine:
    """An engine whose client notes its words and then runs ``script``."""
    directory.mkdir(exist_ok=True)
    text = f'#!/bin/sh\necho "$*" >>{directory}/asked\n{script}\n'
    return Engine(name, (str(write_program(directory / name, text)), "--context", "x"))


def asked(directory: Path) -> list[str]:
    return (directory / "asked").read_text().splitlines()


def test_details_take_one_question_for_containers_and_one_for_images(tmp_path: Path) -> None:
    row = {"Id": ID, "Name": "/web", "Image": f"sha256:{IMAGE}", "State": {"Running": True, "Pid": 7}}
    (tmp_path / "container").write_text(json.dumps([row]))
    (tmp_path / "image").write_text(json.dumps([{"Id": f"sha256:{IMAGE}", "RepoDigests": ["i@sha256:" + "11" * 32]}]))
    # Docker fails when it does not know one of them, after printing the others.
    made = client(tmp_path, f'cat {tmp_path}/$3; [ "$3" = image ]')
    (found,) = made.details(["web", "none"])
    assert (found.container.id, found.container.name, found.pid) == (ID, "web", 7)
    assert found.container.digest == "sha256:" + "11" * 32
    assert asked(tmp_path) == [
        "--context x container inspect web none",
        f"--context x image inspect sha256:{IMAGE}",
    ]
    assert made.details([]) == []
    assert len(asked(tmp_path)) == 2, "nothing is asked about nothing"


def test_a_container_is_made_from_its_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = client(tmp_path, f"echo pulling >&2; echo WARNING; echo {ID}")
    waits: list[str] = []
    monkeypatch.setattr("profiler.run.busy", lambda what: waits.append(what) or contextlib.nullcontext())
    assert Creation(made).make(["--rm"], ["image", "true"]) == ID
    assert waits == ["docker is creating the container"]
    (words,) = asked(tmp_path)
    assert re.fullmatch("--context x create --label profgen.made=[0-9a-f]{16} --rm image true", words)


@pytest.mark.parametrize("script", ["exit 1", f"echo {ID}; exit 3", "exit 0"])
def test_a_container_that_is_not_made(script: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="docker made no container"):
        Creation(client(tmp_path, script)).make([], ["image"])


@pytest.mark.parametrize("started", [False, True])
def test_a_container_is_found_by_its_label(started: bool, tmp_path: Path) -> None:
    creation = Creation(client(tmp_path, f'[ "$3" = rm ] || echo {ID}'))
    creation.make([], ["image"])
    creation.undo(started=started)
    label = asked(tmp_path)[0].split()[4]
    state = "" if started else " --filter status=created"
    assert asked(tmp_path)[1:] == [
        f"--context x ps --all --quiet --no-trunc --filter label={label}{state}",
        f"--context x rm --force --volumes {ID}",
    ]


def test_a_container_that_appears_after_the_interruption(tmp_path: Path) -> None:
    made = client(tmp_path, f"case $3 in ps) [ -e {tmp_path}/there ] && echo {ID}; touch {tmp_path}/there;; esac")
    Creation(made).undo()
    assert [words.split()[2] for words in asked(tmp_path)] == ["ps", "ps", "rm"]


def test_a_client_ends_with_profgen(tmp_path: Path) -> None:
    """Its engine must not make the container minutes later, when the image is there."""
    made = client(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60")
    child = os.fork()
    if not child:
        try:
            Creation(made).make([], ["image"])
        finally:
            os._exit(1)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the client runs")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pid = int((tmp_path / "pid").read_text())
    until(
        lambda: not os.path.exists(f"/proc/{pid}") or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(),
        "its end",
    )


def test_why_an_engine_cannot_be_used(tmp_path: Path) -> None:
    assert client(tmp_path, "exit 0").why_not() is None
    assert client(tmp_path, "echo first >&2; echo cannot connect >&2; exit 1").why_not() == "cannot connect"
    assert client(tmp_path, "exit 4").why_not() == "status 4"
    assert Engine("docker", ("/none/such",)).why_not() == "cannot execute /none/such: no such file or directory"


def test_a_container_that_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="docker did not remove abababababab: busy"):
        client(tmp_path, "echo busy >&2; exit 1").remove(ID)
    client(tmp_path, "exit 1").stop(ID)  # not an error


def test_how_a_container_is_started() -> None:
    made = Engine("podman", ("podman", "--remote"))
    assert made.start(ID, attached=True, interactive=True) == [
        "podman", "--remote", "start", "--attach", "--interactive", ID
    ]  # fmt: skip
    assert made.start(ID, attached=False, interactive=False) == ["podman", "--remote", "start", ID]


def archive(name: str, text: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        file.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


PASSWD = "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\nbroken\n"
GROUP = "root:x:0:\nweb:x:44:\n"


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", (0, 0)),
        ("33", (33, 34)),
        ("www", (33, 34)),
        ("www:web", (33, 44)),
        ("www:7", (33, 7)),
        ("5", (5, 0)),
        ("5:6", (5, 6)),
        ("5:web", (5, 44)),
        ("nobody", None),
        ("www:none", None),
        ("broken", None),
    ],
)
def test_ids_of_a_user(user: str, ids: tuple[int, int] | None, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(archive("passwd", PASSWD))
    (tmp_path / "group").write_bytes(archive("group", GROUP))
    made = client(tmp_path, f'cat {tmp_path}/$(basename "$4")')
    assert made.user_ids(ID, user) == ids


@given(st.binary(max_size=300))
def test_any_archive_can_be_read(data: bytes) -> None:
    class Fixed(Engine):
        def ask(self, *words: str, seconds: float = 0.0) -> engines.run.Ended:
            return engines.run.Ended(0, data, b"")

    assert Fixed("docker", ("docker",)).user_ids(ID, "www") is None


def test_no_archive_means_no_ids(tmp_path: Path) -> None:
    assert client(tmp_path, "exit 1").user_ids(ID, "www") is None
    assert client(tmp_path, "echo not an archive").user_ids(ID, "www") is None


def test_which_engine_makes_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("PROFGEN_ENGINE", raising=False)
    client(tmp_path, "echo no daemon >&2; exit 1", "docker")
    client(tmp_path, "exit 0", "podman")
    assert find() == Engine("podman", ("podman",))
    monkeypatch.setenv("PROFGEN_ENGINE", f"{tmp_path}/docker")
    assert find() == Engine("docker", (f"{tmp_path}/docker",))
    assert installed()[0] == Engine("docker", (f"{tmp_path}/docker",))
    assert [engine.name for engine in installed()].count("docker") == 1
    monkeypatch.setenv("PROFGEN_ENGINE", "/usr/bin/true")
    with pytest.raises(InputError, match="PROFGEN_ENGINE"):
        find()


def test_no_engine_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROFGEN_ENGINE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramError, match="none of docker, podman, nerdctl is installed"):
        find()
    assert installed() == ()
    write_program(tmp_path / "docker", "#!/bin/sh\necho no daemon >&2; exit 1\n")
    with pytest.raises(ProgramError, match=r"no container engine works here \(docker: no daemon\)"):
        find()


def test_help_is_asked_once(tmp_path: Path) -> None:
    made = client(tmp_path, "echo '  -e, --env list'")
    words = (*made.words, "run", "--help")
    assert help_of(words) == help_of(words) == "  -e, --env list\n"
    assert len(asked(tmp_path)) == 1
    assert help_of(("/none/such",)) == ""


def test_images() -> None:
    assert images_of([{"Image": "b"}, {"Image": "a"}, {"Image": "b"}, {"Image": 3}, {"Image": "--all"}, {}]) == [
        "a",
        "b",
    ]
    assert images_by_id('[{"Id": "sha256:x", "A": 1}, {"Id": 4}]') == {"x": {"Id": "sha256:x", "A": 1}}
    assert images_by_id("junk") == {}
