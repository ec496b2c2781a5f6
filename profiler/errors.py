"""The exceptions that reach a user, each one clear line and an exit status (docs/tutorial.md lists the statuses)."""

from profiler.quoting.text import printable

UNUSABLE, FAILED, NOT_EXECUTABLE, NOT_FOUND = 2, 125, 126, 127
"""Exit statuses: input that cannot be used; profgen itself failed; the command cannot be executed; it was not found. As
those of docker(1) and env(1)."""


class ProfgenError(Exception):
    """A failure that the user can act on. ``str()`` is the one line printed after ``profgen: ``, and ``exit_code`` is
    the status that profgen ends with. ``command``: a command line that helps, which is printed on a line of its own."""

    exit_code = FAILED

    def __init__(self, message: str, command: str = "") -> None:
        # A name in the message may be chosen by a stranger.
        super().__init__(printable(message))
        self.command = printable(command)


class InputError(ProfgenError):
    """A file or an argument that the user gave cannot be used."""

    exit_code = UNUSABLE


class OutputError(ProfgenError):
    """A result cannot be written to its file."""


class TracerError(ProfgenError):
    """A tracer cannot work on this host, or stopped working."""


class ProgramError(ProfgenError):
    """Another program, such as a container engine, cannot be executed, failed, or did not answer."""


class ExtraMissing(ProgramError):
    """A Python package that only one feature needs is not installed. ``what``: the feature, ``extra``: the name of the
    extra that brings the package (pyproject.toml)."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the Python package {package}, which is not installed; in a checkout of profgen:",
            command=f"pip install '.[{extra}]'",
        )


class CommandNotFound(ProfgenError):
    """The workload's program does not exist."""

    exit_code = NOT_FOUND


class CommandNotExecutable(ProfgenError):
    """The workload's program exists but the kernel will not run it."""

    exit_code = NOT_EXECUTABLE
