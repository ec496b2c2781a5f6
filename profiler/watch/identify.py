"""Identify a session: by its first process, and by what engines know of its container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from profiler.engines import inspect
from profiler.engines.engine import CONTAINERS, IMAGES, Details, Engine, images_by_id, images_of
from profiler.errors import ProgramError
from profiler.run import Inquiry
from profiler.trace.model import Container
from profiler.tracers.process import Process
from profiler.watch.finish import Origin
from profiler.wording import UNKNOWN


def origin(
    process: Process | None,
    container: Container | None,
    watched: str | None,
    user: tuple[int, int] | None = None,
    whole: bool = True,
    program: str | None = None,
) -> Origin:
    """Return the origin of a recording. ``user``: ids of the container's user, if they were looked up before it ran.
    ``whole``: all of the container is recorded, not only a process or a part of it. ``program``: the first word of the
    command line, if the process ended before it could be looked at."""
    if user is None and process is None and container is not None:
        user = _ids(container.user)
    uid, gid = (process.uid, process.gid) if process is not None else user or (0, 0)
    started = (*container.entrypoint, *container.command) if container is not None and whole else ()
    return Origin(
        argv=started or (process.argv if process is not None else ()) or (program or UNKNOWN,),
        cwd=process.cwd if process is not None else "/",
        uid=uid,
        gid=gid,
        groups=process.groups if process is not None else (gid,),
        no_new_privs=container.no_new_privs if container is not None else process is not None and process.no_new_privs,
        container=container,
        watched=watched,
    )


def _ids(user: str | None) -> tuple[int, int] | None:
    """Return (uid, gid) of a user given as numbers, those of root for none, and None for a name."""
    uid, _, gid = (user or "0:0").partition(":")
    numbers = [int(text) for text in (uid, gid or "0") if text.isascii() and text.isdigit() and len(text) <= 10]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def unknown_container(engine: str | None, identity: str) -> Container:
    """Return a container that no engine here knows."""
    return Container(engine=engine, runtime=None, id=identity, name=None)


@dataclass
class _Asking:
    """A round of questions to one engine: about containers, then about images that are not known yet."""

    engine: Engine
    inquiry: Inquiry
    names: frozenset[str]
    rows: list[dict[str, Any]] | None = None


@dataclass
class Identifier:
    """Asks engines about containers, a batch at a time and without waiting: call ``work`` often.

    The next engine is asked about an id that the first one does not know.
    """

    engines: tuple[Engine, ...]
    _waiting: dict[str, list[Engine]] = field(default_factory=dict)
    _asking: dict[str, _Asking] = field(default_factory=dict)
    _images: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def want(self, identity: str) -> None:
        """Ask about this container at the next opportunity."""
        self._waiting[identity] = list(self.engines)

    def work(self) -> Mapping[str, Details | None]:
        """Return the answers that have arrived: None for a container that no engine knows."""
        answers: dict[str, Details | None] = {}
        for name, asking in list(self._asking.items()):
            text = asking.inquiry.answer()
            if text is None:
                continue
            del self._asking[name]
            self._answered(asking, text, answers)
        for engine in self.engines:
            if engine.name not in self._asking:
                self._ask(engine)
        for identity in [
            identity for identity, engines in self._waiting.items() if not engines and not self._asked(identity)
        ]:
            del self._waiting[identity]
            answers[identity] = None
        return answers

    def close(self) -> None:
        """Drop all questions."""
        for asking in self._asking.values():
            asking.inquiry.drop()
        self._asking.clear()

    def _asked(self, identity: str) -> bool:
        return any(identity in asking.names for asking in self._asking.values())

    def _ask(self, engine: Engine) -> None:
        names = [
            identity
            for identity, engines in self._waiting.items()
            if engines[:1] == [engine] and not self._asked(identity)
        ]
        if not names:
            return
        for identity in names:
            self._waiting[identity].pop(0)
        try:
            self._asking[engine.name] = _Asking(engine, engine.inquire([*CONTAINERS, *names]), frozenset(names))
        except ProgramError:
            pass  # the next engine is asked

    def _answered(self, asking: _Asking, text: str, answers: dict[str, Details | None]) -> None:
        images = self._images.setdefault(asking.engine.name, {})
        if asking.rows is None:
            asking.rows = inspect.documents(text)
            unknown = [image for image in images_of(asking.rows) if image.removeprefix("sha256:") not in images]
            if unknown:
                try:
                    asking.inquiry = asking.engine.inquire([*IMAGES, *unknown])
                except ProgramError:
                    pass
                else:
                    self._asking[asking.engine.name] = asking
                    return
        else:
            images |= images_by_id(text)
        known = [asking.engine.read(row, images) for row in asking.rows]
        for identity in asking.names:
            found = next((row for row in known if row.container.id == identity), None)
            if found is not None:
                self._waiting.pop(identity, None)
                answers[identity] = found


def first_known(engines: Iterable[Engine], name: str) -> tuple[Engine, Details] | None:
    """Return the container of this name or id, from the first engine that knows it, and that engine."""
    for engine in engines:
        try:
            found = engine.details([name])
        except ProgramError:
            continue
        if found:
            return engine, found[0]
    return None
