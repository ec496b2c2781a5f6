"""Talking to an engine through its own command: Docker's, Podman's or nerdctl's, which understand the same words; and
ctr."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.engines import inspect
from profiler.engines.commands import CLIENTS
from profiler.errors import InputError, ProfgenError
from profiler.trace.model import Container

ASK_SECONDS = 30.0
"""For a question to an engine. Making a container may take as long as its image takes to come."""

STOP_SECONDS = 10
"""Between asking a container to end and ending it: the engines' own default, said aloud."""

_PASSWD_LIMIT_BYTES = 1 << 20


class EngineError(ProfgenError):
    """An engine refused, or did not answer."""


@cache
def help_of(words: tuple[str, ...]) -> str:
    """What a command prints when asked for its options; empty when it cannot be asked."""
    try:
        # pflag wraps at the terminal's width, or at 80 columns; what is wrapped are descriptions only.
        asked = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout


@dataclass(frozen=True)
class Details:
    """What an engine says of a container. ``pid``: of its first process, 0 when it does not run. ``status``: of a run
    that has ended."""

    container: Container
    pid: int
    status: int | None
    restarts: bool
    labels: dict[str, str]


CONTAINERS, IMAGES = ("container", "inspect"), ("image", "inspect")
"""The questions, before the names."""


def images_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Ids of the images of these containers."""
    return sorted(
        {image for row in rows if isinstance(image := row.get("Image"), str) and image and not image.startswith("-")}
    )


def images_by_id(text: str) -> dict[str, dict[str, Any]]:
    """What ``image inspect`` answered, by id without ``sha256:``."""
    rows = inspect.documents(text)
    return {identity.removeprefix("sha256:"): row for row in rows if isinstance(identity := row.get("Id"), str)}


class Inquiry:
    """A question under way, so that one who has to keep up with the kernel need not wait for an engine."""

    def __init__(self, words: Sequence[str]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives this call
        self._until = time.monotonic() + ASK_SECONDS
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=self._file, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._file.close()
            raise EngineError(f"cannot execute {words[0]}: {(error.strerror or str(error)).lower()}") from error

    def answer(self) -> str | None:
        """What it printed, None while it is still asked. Once only."""
        if self._process.poll() is None:
            if time.monotonic() < self._until:
                return None
            self.drop()
            return ""
        self._file.seek(0)
        with self._file as file:
            return file.read().decode("utf-8", "surrogateescape")

    def drop(self) -> None:
        """Ask no more."""
        self._process.kill()
        self._process.wait()
        self._file.close()


@dataclass(frozen=True)
class Engine:
    """``words``: the client and its global options (``docker --host tcp://...``)."""

    name: str
    words: tuple[str, ...]

    def ask(self, *words: str, seconds: float | None = ASK_SECONDS) -> subprocess.CompletedProcess[str]:
        """The answer of a command of the client. Raises EngineError when it cannot be executed or takes too long."""
        try:
            return subprocess.run(
                [*self.words, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self.name} {words[0]} did not answer within {ASK_SECONDS:.0f} s") from error
        except OSError as error:
            raise EngineError(f"cannot execute {self.words[0]}: {(error.strerror or str(error)).lower()}") from error

    def why_not(self) -> str | None:
        """Why it cannot be used, None when it answers."""
        try:
            asked = self.ask("version")
        except EngineError as error:
            return str(error)
        return None if asked.returncode == 0 else _last_line(asked.stderr) or f"status {asked.returncode}"

    def details(self, names: Sequence[str]) -> list[Details]:
        """Of the containers of these names or ids that it knows; one question for all, one more for their images."""
        if not names:
            return []
        # Docker prints what it found before it fails for what it did not find.
        found = inspect.documents(self.ask(*CONTAINERS, *names).stdout)
        wanted = images_of(found)
        images = images_by_id(self.ask(*IMAGES, *wanted).stdout) if wanted else {}
        return [self.read(row, images) for row in found]

    def inquire(self, words: Sequence[str]) -> Inquiry:
        """Ask without waiting. Raises EngineError when the client cannot be executed."""
        return Inquiry([*self.words, *words])

    def read(self, row: dict[str, Any], images: Mapping[str, dict[str, Any]]) -> Details:
        """One object of ``inspect``, with that of its image."""
        restart = row["HostConfig"].get("RestartPolicy") if isinstance(row.get("HostConfig"), dict) else None
        name = restart.get("Name") if isinstance(restart, dict) else None
        return Details(
            inspect.container(self.name, row, images.get(str(row.get("Image", "")).removeprefix("sha256:"))),
            inspect.process(row),
            inspect.exit_status(row),
            name not in (None, "", "no"),
            inspect.labels(row),
        )

    def running(self) -> list[str]:
        """Full ids of the containers that run."""
        asked = self.ask("ps", "--quiet", "--no-trunc")
        return asked.stdout.split() if asked.returncode == 0 else []

    def create(self, options: Sequence[str], image_and_command: Sequence[str]) -> str:
        """Make a container and return its id; what the engine says meanwhile goes to standard error. Raises
        EngineError."""
        try:
            made = subprocess.run(
                [*self.words, "create", *options, *image_and_command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sys.stderr.fileno(),
                text=True,
                errors="surrogateescape",
            )
        except OSError as error:
            raise EngineError(f"cannot execute {self.words[0]}: {(error.strerror or str(error)).lower()}") from error
        identity = made.stdout.split()[-1] if made.stdout.split() else ""
        if made.returncode != 0 or not identity:
            raise EngineError(f"{self.name} made no container (status {made.returncode}); its reason stands above")
        return identity

    def start(self, identity: str, attached: bool, interactive: bool) -> list[str]:
        """The command that starts a container; attached, it passes on output, signals and status as ``run`` does."""
        return [
            *self.words,
            "start",
            *(["--attach"] if attached else []),
            *(["--interactive"] if interactive else []),
            identity,
        ]

    def stop(self, identity: str) -> None:
        """Ask a container to end, and end it when it does not. No error if it is gone."""
        with contextlib.suppress(EngineError):
            self.ask("stop", "-t", str(STOP_SECONDS), identity, seconds=ASK_SECONDS + STOP_SECONDS)

    def stop_later(self, identity: str) -> None:
        """As ``stop``, without waiting for it."""
        with contextlib.suppress(EngineError):
            self.inquire(["stop", "-t", str(STOP_SECONDS), identity])

    def remove(self, identity: str) -> None:
        """Remove a container and the volumes that nobody named. Raises EngineError."""
        asked = self.ask("rm", "--force", "--volumes", identity)
        if asked.returncode != 0:
            raise EngineError(f"{self.name} did not remove {identity[:12]}: {_last_line(asked.stderr)}")

    def user_ids(self, identity: str, user: str) -> tuple[int, int] | None:
        """(uid, gid) of a container's user as ``docker run --user`` takes it, by the container's own /etc; None:
        unknown."""
        name, _, group = user.partition(":")
        if not name:
            return 0, 0
        uid, gid = _number(name), _number(group)
        if uid is None or (gid is None and not group):
            row = _row(self._file(identity, "/etc/passwd"), name, 2)
            if row is not None and len(row) > 3:
                uid, own = _number(row[2]), _number(row[3])
                gid = own if not group else gid
            elif uid is not None and not group:
                gid = 0  # a number that passwd does not list has the group 0 (moby, libcontainer/user)
        if (
            group
            and gid is None
            and (row := _row(self._file(identity, "/etc/group"), group, 2)) is not None
            and len(row) > 2
        ):
            gid = _number(row[2])
        return None if uid is None or gid is None else (uid, gid)

    def _file(self, identity: str, path: str) -> str:
        """A small file of a container, running or not; empty when there is none."""
        try:
            asked = subprocess.run(
                [*self.words, "cp", f"{identity}:{path}", "-"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ASK_SECONDS,
            )
            with tarfile.open(fileobj=io.BytesIO(asked.stdout)) as archive:
                for member in archive:
                    if (
                        member.isfile()
                        and member.size <= _PASSWD_LIMIT_BYTES
                        and (file := archive.extractfile(member)) is not None
                    ):
                        return file.read().decode("utf-8", "surrogateescape")
        except (OSError, subprocess.TimeoutExpired, tarfile.TarError, ValueError):
            pass
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < (1 << 32) - 1 else None


def _row(text: str, name: str, number: int) -> list[str] | None:
    """The row of passwd(5) or group(5) with this name, or this number."""
    rows = [line.split(":") for line in text.splitlines()]
    by_name = (row for row in rows if row[0] == name)
    by_number = (row for row in rows if len(row) > number and row[number] == name and _number(name) is not None)
    return next(by_name, None) or next(by_number, None)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def find() -> Engine:
    """The engine to make containers with: that of PROFGEN_ENGINE, else the first that answers. Raises EngineError when
    none does."""
    named = os.environ.get("PROFGEN_ENGINE")
    if named:
        if os.path.basename(named) not in CLIENTS:
            raise InputError(f"PROFGEN_ENGINE is {named!a}: it names one of {', '.join(CLIENTS)}")
        return Engine(os.path.basename(named), (named,))
    reasons = []
    for name in CLIENTS:
        if shutil.which(name) is None:
            continue
        engine = Engine(name, (name,))
        reason = engine.why_not()
        if reason is None:
            return engine
        reasons.append(f"{name}: {reason}")
    told = "; ".join(reasons) or f"none of {', '.join(CLIENTS)} is installed"
    raise EngineError(f"no container engine to be had here ({told}); PROFGEN_ENGINE names one")


def installed() -> tuple[Engine, ...]:
    """Every engine whose client is here, the one of PROFGEN_ENGINE first. Whether it answers is not asked."""
    named = os.environ.get("PROFGEN_ENGINE")
    found = [Engine(os.path.basename(named), (named,))] if named and os.path.basename(named) in CLIENTS else []
    taken = {engine.name for engine in found}
    return (*found, *(Engine(name, (name,)) for name in CLIENTS if name not in taken and shutil.which(name)))
