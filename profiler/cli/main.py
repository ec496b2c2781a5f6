"""The ``profgen`` command: find the subcommand, and turn failures into one line and an exit status."""

from __future__ import annotations

import errno
import importlib
import os
import resource
import sys
from collections.abc import Sequence

import click
from click._textwrap import TextWrapper

from profiler import __version__
from profiler.errors import FAILED, UNUSABLE, ProfgenError
from profiler.quoting.text import printable
from profiler.wording import cause, suggestion

# Help texts are broken at spaces only: --all-containers stays whole.
TextWrapper.wordsep_re = TextWrapper.wordsep_simple_re

COMMANDS = {
    "record": "Watch a command, a container or processes, and write a trace.",
    "watch": "Show what running containers, a unit or processes do, as a full-screen view.",
    "generate": "Write policy.yaml and profiles from traces, or profiles from a policy.yaml.",
    "targets": "List the files that generate can write, their options, and what they cannot express.",
    "run": "Run a command under its policy, without a container: seccomp, capabilities, Landlock.",
    "verify": "Run a command under its policy and name everything that is refused.",
    "diff": "Show which rights one trace, policy or profile has and another lacks.",
    "explain": "Explain why something is allowed: reasons, evidence, and what it opens.",
    "coverage": "Estimate how much of a workload its recordings have seen, and list what is often forgotten.",
    "merge": "Merge traces or policies; bring a new recording into a reviewed policy.",
    "lint": "Find known holes and traps in a policy or profile, each with a fix.",
    "score": "Measure how much a policy or profile leaves open: figures, published CVEs, one number.",
    "report": "Write a page about a workload for a browser: rights, evidence, plots, changes.",
    "refine": "Read what the kernel refused from a log, and propose what to add to a policy.",
    "push": "Push a seccomp profile to a registry, as an OCI artifact that runtimes pull.",
    "pull": "Pull a seccomp profile from a registry, and check it as runtimes do.",
    "hook": "Record containers that have an annotation; an OCI hook for engines.",
    "minimise": "Run a test under ever less of a policy, and keep only what it needs.",
    "doctor": "Show what works on this machine, and how to fix the rest.",
    "completion": "Print a script that completes profgen's command lines in bash, zsh or fish.",
}
"""Name to one line of help. The module ``profiler.cli.<name>`` has a command of the same name."""


class _NoReader(Exception):
    """The reader of our output closed its end (EPIPE)."""


class _Lazy(click.Group):
    """A group that imports a subcommand's module only when it is called, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"profiler.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"unknown command {args[0][:80]!a}{suggestion(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would exit with status 1, which is a verdict of some commands.
            raise _NoReader from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", "-V", prog_name="profgen")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def cli(debug: bool) -> None:
    """Give a Linux container exactly the rights it needs.

    \b
      profgen record -- ./app          watch it under normal load
      profgen generate app.trace.json  write its policy and profiles
    """


def run(arguments: Sequence[str]) -> int:
    """Run with these arguments and return the exit status. Never raises, unless ``--debug`` is given."""
    _open_standard_files()
    debug = "--debug" in arguments[: _before_command(arguments)]
    try:
        status = cli.main(args=list(arguments), prog_name="profgen", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as help_shown:
        print(help_shown.format_message())
        return UNUSABLE
    except click.ClickException as error:
        return _fail(_told(error), UNUSABLE)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except ProfgenError as error:
        if debug:
            raise
        _refused_by_standard_output()
        status = _fail(str(error), error.exit_code)
        if error.command:
            print(f"  {error.command}", file=sys.stderr)
        return status
    except (_NoReader, BrokenPipeError):
        _leave_standard_output()
        return 141
    except OSError as error:  # a limit of the host: open files, processes, memory; or standard output
        if debug:
            raise
        if (why := _refused_by_standard_output()) is not None:
            return _fail(f"cannot write to standard output: {why}", FAILED)
        if _lacks_memory(error):
            return _fail(_memory(), FAILED)
        advice = "; raise the limit: ulimit -n" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
        return _fail(f"cannot continue: {cause(error)}{advice} (profgen --debug shows where)", FAILED)
    except Exception as error:
        if debug:
            raise
        if _interrupted(error):
            return _fail("interrupted", 130)
        if _lacks_memory(error):
            return _fail(_memory(), FAILED)
        return _fail(f"internal error: {type(error).__name__}: {error} (profgen --debug shows where)", FAILED)


def _refused_by_standard_output() -> str | None:
    """Return why standard output does not take what is buffered for it, None when it does."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _leave_standard_output()
        return cause(error)
    return None


def _leave_standard_output() -> None:
    """Drop what is buffered. Python flushes standard output at exit, and would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: click.ClickException) -> str:
    """Return click's message in profgen's form, with a pointer to the command's help unless it says what to do."""
    text = error.format_message().replace("\n", " ")
    if not isinstance(error, click.UsageError) or error.ctx is None or "; " in text:
        return text
    text = (
        text.replace("a valid float range", "a number")
        .replace("a valid integer range", "a whole number")
        .replace(". Did you", ": did you")
    )
    return f"{text[:1].lower()}{text[1:].removesuffix('.')}; see {error.ctx.command_path} --help"


def _interrupted(error: BaseException | None) -> bool:
    """Return whether a Ctrl-C caused an error: Python 3.11 turns one that comes while a class is made into a
    RuntimeError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


_NO_MEMORY = ("failed to map segment", "cannot allocate memory", "can't start new thread")
"""What the loader, the C library and Python say when memory is short, each in an exception of its own."""


def _lacks_memory(error: BaseException | None) -> bool:
    """Return whether an error comes from a lack of memory. Where it strikes is chance, and so is its type."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if isinstance(error, SystemError) and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            return True  # Python could not even make the exception
        if any(words in str(error).lower() for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _memory() -> str:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return "cannot continue: not enough memory (profgen --debug shows where)"
    return f"cannot continue: its memory is limited to {limit >> 20} MiB; raise the limit (ulimit -v)"


def _open_standard_files() -> None:
    """Open standard files that the caller closed, so that no file of profgen gets their number. They close on exec.

    Standard output is opened to read only: a result that is written there is an error (EBADF), as to other programs.
    """
    for fd, access in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, access | os.O_CLOEXEC)  # gets the lowest free number, which is this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _before_command(arguments: Sequence[str]) -> int:
    """Return the index of the subcommand: options before it are profgen's own, later ones may be the workload's."""
    return next((index for index, word in enumerate(arguments) if not word.startswith("-")), len(arguments))


def _fail(message: str, status: int) -> int:
    print(f"profgen: {printable(' '.join(message.splitlines()))}", file=sys.stderr)
    return status
