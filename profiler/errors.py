"""The exceptions that reach a user, each one clear line and an exit status (docs/tutorial.md lists the statuses)."""

from profiler.quoting.text import printable


class ProfgenError(Exception):
    """Something the user can act on. ``str()`` is the one line printed after ``profgen: ``.

    ``exit_code`` is the status profgen ends with: 125 when profgen itself failed, 126 when the command cannot be
    executed, 127 when it was not found (as docker(1) and env(1) do), 2 for input that cannot be used.
    """

    exit_code = 125

    def __init__(self, message: str) -> None:
        # Names in a message may be a stranger's.
        super().__init__(printable(message))


class InputError(ProfgenError):
    """A file or an argument that the user gave cannot be used."""

    exit_code = 2


class OutputError(ProfgenError):
    """A result cannot be written where it was asked for."""


class TracerError(ProfgenError):
    """A tracer cannot work on this host, or stopped working."""


class CommandNotFound(ProfgenError):
    """The workload's program does not exist."""

    exit_code = 127


class CommandNotExecutable(ProfgenError):
    """The workload's program exists but the kernel will not run it."""

    exit_code = 126
