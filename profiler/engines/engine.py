"""Use a container engine through its client: docker, podman or nerdctl, which understand the same words."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler import run
from profiler.engines import inspect
from profiler.engines.commands import CLIENTS
from profiler.errors import InputError, ProgramError
from profiler.trace.model import Container

STOP_SECONDS = 10
"""Seconds between asking a container to end and killing it: the engines' default, stated explicitly."""

_MAKING_SECONDS = 1.0
"""How long an engine may go on making a container after its client was interrupted."""

_PASSWD_LIMIT_BYTES = 1 << 20


@cache
def help_of(words: tuple[str, ...]) -> str:
    """Return what a command such as ``docker run --help`` prints; empty when it cannot be executed."""
    try:
        return run.ask(words).text  # pflag wraps at the terminal's width; only descriptions are wrapped
    except ProgramError:
        return ""


@dataclass(frozen=True)
class Details:
    """What an engine knows of a container. ``pid``: its first process, 0 when it does not run. ``status``: of a run
    that has ended. ``pause``: it only holds the namespaces of a pod."""

    container: Container
    pid: int
    status: int | None
    labels: dict[str, str]
    pause: bool = False


CONTAINERS, IMAGES = ("container", "inspect"), ("image", "inspect")
"""Commands that take names of containers, and of images."""


def images_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the ids of these containers' images."""
    return sorted(
        {image for row in rows if isinstance(image := row.get("Image"), str) and image and not image.startswith("-")}
    )


def images_by_id(text: str) -> dict[str, dict[str, Any]]:
    """Return the objects of ``image inspect``, by id without ``sha256:``."""
    rows = inspect.documents(text)
    return {identity.removeprefix("sha256:"): row for row in rows if isinstance(identity := row.get("Id"), str)}


@dataclass(frozen=True)
class Engine:
    """A container engine. ``words``: its client with global options (``docker --host tcp://...``)."""

    name: str
    words: tuple[str, ...]

    def ask(self, *words: str, seconds: float = run.ASK_SECONDS) -> run.Ended:
        """Run a command of the client and return what it printed. Raises ProgramError when the client cannot be
        executed or takes too long."""
        return run.ask([*self.words, *words], seconds=seconds)

    def why_not(self) -> str | None:
        """Return why it cannot be used, None when it answers."""
        try:
            asked = self.ask("version")
        except ProgramError as error:
            return str(error)
        return asked.reason if asked.status else None

    def details(self, names: Sequence[str]) -> list[Details]:
        """Return the details of the containers with these names or ids that the engine knows. Raises ProgramError."""
        if not names:
            return []
        # Docker prints the containers that it found before it fails for the others.
        found = inspect.documents(self.ask(*CONTAINERS, *names).text)
        wanted = images_of(found)
        images = images_by_id(self.ask(*IMAGES, *wanted).text) if wanted else {}
        return [self.read(row, images) for row in found]

    def inquire(self, words: Sequence[str]) -> run.Inquiry:
        """Ask without waiting. Raises ProgramError when the client cannot be executed."""
        return run.Inquiry([*self.words, *words], run.ASK_SECONDS)

    def read(self, row: dict[str, Any], images: Mapping[str, dict[str, Any]]) -> Details:
        """Return the details in an object of ``container inspect``. ``images``: objects of ``image inspect`` by id."""
        return Details(
            inspect.container(self.name, row, images.get(str(row.get("Image", "")).removeprefix("sha256:"))),
            inspect.process(row),
            inspect.exit_status(row),
            inspect.labels(row),
        )

    def running(self) -> list[str]:
        """Full ids of the containers that run."""
        asked = self.ask("ps", "--quiet", "--no-trunc")
        return [] if asked.status else asked.text.split()

    def start(self, identity: str, attached: bool, interactive: bool) -> list[str]:
        """Return the command that starts a container; attached, it forwards output, signals and status as ``run``
        does."""
        return [
            *self.words,
            "start",
            *(["--attach"] if attached else []),
            *(["--interactive"] if interactive else []),
            identity,
        ]

    def stop(self, identity: str) -> None:
        """Ask a container to end, and kill it when it does not. A missing container is not an error."""
        with contextlib.suppress(ProgramError):
            self.ask("stop", "-t", str(STOP_SECONDS), identity, seconds=run.ASK_SECONDS + STOP_SECONDS)

    def stop_later(self, identity: str) -> None:
        """Do as ``stop``, without waiting."""
        with contextlib.suppress(ProgramError):
            self.inquire(["stop", "-t", str(STOP_SECONDS), identity])

    def remove(self, identity: str) -> None:
        """Remove a container and its unnamed volumes. Raises ProgramError."""
        asked = self.ask("rm", "--force", "--volumes", identity)
        if asked.status:
            raise ProgramError(f"{self.name} did not remove {identity[:12]}: {asked.reason}")

    def user_ids(self, identity: str, user: str) -> tuple[int, int] | None:
        """Return (uid, gid) of a user as ``docker run --user`` takes it, from the container's /etc/passwd and
        /etc/group; None when it is not known."""
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
                gid = 0  # the group of a number that passwd does not list (moby, libcontainer/user)
        if (
            group
            and gid is None
            and (row := _row(self._file(identity, "/etc/group"), group, 2)) is not None
            and len(row) > 2
        ):
            gid = _number(row[2])
        return None if uid is None or gid is None else (uid, gid)

    def _file(self, identity: str, path: str) -> str:
        """Return a small file of a container, which need not run; empty when it does not exist."""
        try:
            asked = self.ask("cp", f"{identity}:{path}", "-")
            with tarfile.open(fileobj=io.BytesIO(asked.output), mode="r:") as archive:
                for member in archive:
                    if (
                        member.isfile()
                        and member.size <= _PASSWD_LIMIT_BYTES
                        and (file := archive.extractfile(member)) is not None
                    ):
                        return file.read().decode("utf-8", "surrogateescape")
        except (EOFError, OSError, ProgramError, tarfile.TarError, ValueError):
            pass
        return ""


class Creation:
    """A container that profgen makes, and can remove even if it was interrupted before it knew the id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._label = f"profgen.made={os.urandom(8).hex()}"
        self._under_way = True

    def make(self, options: Sequence[str], image_and_command: Sequence[str]) -> str:
        """Make the container and return its id; the engine's messages go to standard error. Raises ProgramError."""
        engine = self._engine
        words = [*engine.words, "create", "--label", self._label, *options, *image_and_command]
        doing = f"{engine.name} is creating the container"
        made = run.ask(words, seconds=None, show_errors=True, ends_with_us=True, doing=doing)
        self._under_way = False
        identity = made.text.split()[-1] if made.text.split() else ""
        if made.status or not identity:
            raise ProgramError(f"{engine.name} made no container (status {made.status}); see the reason above")
        return identity

    def undo(self, *, started: bool = True) -> None:
        """Remove the container, if there is one; without ``started`` only if it was never started. Raises
        ProgramError."""
        words = ["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={self._label}"]
        words += [] if started else ["--filter", "status=created"]
        found = self._engine.ask(*words).text.split()
        if not found and self._under_way:
            time.sleep(_MAKING_SECONDS)
            found = self._engine.ask(*words).text.split()
        for identity in found:
            self._engine.remove(identity)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < (1 << 32) - 1 else None


def _row(text: str, name: str, number: int) -> list[str] | None:
    """Return the row of passwd(5) or group(5) with this name, or this number."""
    rows = [line.split(":") for line in text.splitlines()]
    by_name = (row for row in rows if row[0] == name)
    by_number = (row for row in rows if len(row) > number and row[number] == name and _number(name) is not None)
    return next(by_name, None) or next(by_number, None)


def find() -> Engine:
    """Return the engine to make containers with: that of PROFGEN_ENGINE, else the first that answers. Raises
    ProgramError when none does."""
    named = os.environ.get("PROFGEN_ENGINE")
    if named:
        if os.path.basename(named) not in CLIENTS:
            raise InputError(f"PROFGEN_ENGINE is {named!a}: set it to one of {', '.join(CLIENTS)}")
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
    raise ProgramError(f"no container engine works here ({told}); PROFGEN_ENGINE selects one")


def installed() -> tuple[Engine, ...]:
    """Return every engine with an installed client, that of PROFGEN_ENGINE first. They may not answer."""
    named = os.environ.get("PROFGEN_ENGINE")
    found = [Engine(os.path.basename(named), (named,))] if named and os.path.basename(named) in CLIENTS else []
    taken = {engine.name for engine in found}
    return (*found, *(Engine(name, (name,)) for name in CLIENTS if name not in taken and shutil.which(name)))
