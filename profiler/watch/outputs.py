"""Choose the file of each recording."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from profiler.files import STANDARD_OUTPUT, write_atomic
from profiler.trace.model import Container

SUFFIX = ".trace.json"

_NAME_MAX = 100
_KUBERNETES_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
"""A DNS subdomain: it has no ``_``."""


def plain_name(text: str) -> str:
    """Return a file name for a name that a stranger may have chosen: letters, digits and ``._+-``, with no ``.`` or
    ``-`` at the start. It may be empty."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", os.path.basename(text))[:_NAME_MAX].lstrip(".-")


def default_output(command: str) -> Path:
    """Return ``NAME.trace.json`` in the working directory."""
    return Path(f"{plain_name(command) or 'workload'}{SUFFIX}")


def output_for(name: str, output: Path | None) -> Path:
    """Return the file of a trace: ``output``, or the default name in a directory that ``output`` names, or here."""
    if output is not None and not output.is_dir():
        return output
    return (output or Path()) / default_output(name)


def image_output(image: str, output: Path | None) -> Path:
    """Return the trace file for an image; its default name is the image's, without registry, tag and digest."""
    return output_for(plain_name(re.sub(r"[@:].*", "", image.rsplit("/", 1)[-1])), output)


def workload_name(container: Container) -> str | None:
    """Return the name of a container's files: ``NAMESPACE_WORKLOAD_CONTAINER`` in a pod, else its own.

    Two pods get the same name only when they are replicas of one workload: where a name of Kubernetes is not plain, or
    too long, a digest tells it from others.
    """
    pod = container.pod
    if pod is None:
        return container.name
    parts = [text or "" for text in (pod.namespace, pod.workload, container.name)]
    name = "_".join(parts)
    if all(_KUBERNETES_NAME.fullmatch(part) for part in parts) and len(name) <= _NAME_MAX:
        return name
    digest = hashlib.sha256(os.fsencode("\0".join(parts))).hexdigest()[:12]
    return f"{plain_name(name.replace('/', '_'))[: _NAME_MAX - 13]}-{digest}"


def numbered(path: Path, number: int) -> Path:
    """Return ``app.2.trace.json`` for the second run of ``app.trace.json``."""
    if number == 1:
        return path
    suffix = next((ending for ending in (SUFFIX, path.suffix) if ending and path.name.endswith(ending)), "")
    return path.with_name(f"{path.name.removesuffix(suffix)}.{number}{suffix}")


class Outputs:
    """Gives each session a file.

    With ``file``, the first session gets it, and each further one (a restart) gets a number. Otherwise a session gets
    ``NAME-SHORTID.trace.json`` in ``directory``, but not a file that exists, which may hold a start that this recording
    missed. With ``merge``, all runs of the same name share one file.

    ``chosen``: a name that a stranger chose in place of the container's own. The whole id is then in the name of the
    file, and no file is ever replaced.
    """

    def __init__(self, file: Path | None, directory: Path | None, merge: bool, chosen: str | None = None) -> None:
        self.file = file
        self.directory = directory
        self.merge = merge
        self.chosen = chosen
        self._given: set[Path] = set()

    def claim(self, name: str | None, identity: str) -> Path:
        """Return the file for a session that begins. ``name``: the container's, if it has one; ``identity``: its id, or
        the session's subject."""
        if self.file is not None:
            base = self.file
        else:
            assert self.directory is not None
            plain = plain_name(self.chosen if self.chosen is not None else name or "")
            short = plain_name(identity)[: None if self.chosen is not None else 12]
            parts = [plain] if self.merge and plain else [part for part in (plain, short) if part]
            base = self.directory / f"{'-'.join(parts) or 'workload'}{SUFFIX}"
        return base if self.merge else self._unused(base)

    def write(self, path: Path, data: bytes) -> Path:
        """Write a trace to the file of its session, and return the file. Raises OutputError."""
        if self.chosen is None:
            write_atomic(path, data)
            return path
        while True:
            try:
                write_atomic(path, data, replace=False)
                return path
            except FileExistsError:  # it was written after this session began
                path = self._unused(path)

    def _unused(self, base: Path) -> Path:
        """Return the file, or the first of its numbered ones that does not exist and was not given to a session."""
        number = 1
        while (path := numbered(base, number)) in self._given or (self.directory is not None and os.path.lexists(path)):
            number += 1
        self._given.add(path)
        return path


class Nowhere(Outputs):
    """For recordings that are only looked at: writes nothing. The name of the file is that of standard output."""

    def __init__(self) -> None:
        super().__init__(STANDARD_OUTPUT, None, merge=False)

    def write(self, path: Path, data: bytes) -> Path:
        """See Outputs."""
        return path
