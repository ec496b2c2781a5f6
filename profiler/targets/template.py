"""Rendering through the templates of templates/, with one quoting filter for each syntax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.errors import InputError
from profiler.quoting import apparmor, cil, csv, ima, json, lxc, python, shell, smack, systemd, text, tomoyo, xml, yaml
from profiler.quoting.text import printable
from profiler.targets.bounded import bounded, check

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.runtime import Context

TEMPLATE_MAX = 1 << 20
"""Bytes of a user's template."""
REPEAT_MAX = 10_000
"""The largest factor of a multiplication in a template."""


@dataclass(frozen=True)
class Templates:
    """Where templates come from. A file in ``directory`` stands in for the built-in template of the same name."""

    directory: Path | None = None

    def render(self, name: str, **values: object) -> bytes:
        """Return a template filled in. Text goes through the filters of profiler/quoting/ and nothing else.

        Raises InputError when a user's template cannot be used, or its result cannot be parsed.
        """
        if self.directory is None:
            return _filled(_environment(None), name, values)
        title = f"{self.directory}: the template {name} cannot be used"

        def work() -> bytes:
            try:
                made = _filled(_environment(self.directory), name, values)
                check(name.removesuffix(".j2"), made)
            except Exception as error:  # a user's template can fail in any way that an expression can
                raise InputError(f"{title}: {_reason(error)}") from error
            return made

        return bounded(work, title)

    def own(self) -> list[str]:
        """Return the names of the built-in templates that the directory replaces."""
        names = sorted(path.name for path in template_directory().glob("*.j2"))
        return [name for name in names if self.directory is not None and (self.directory / name).exists()]


BUILT_IN = Templates()


def _filled(environment: Environment, name: str, values: dict[str, object]) -> bytes:
    return environment.get_template(name).render(**values).encode("utf-8", "surrogateescape")


def template_directory() -> Path:
    """Return the directory inside an installed package, or the one next to the package in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


@cache
def _environment(directory: Path | None) -> Environment:
    """Return the environment for a user's directory, in Jinja's sandbox: a template that came with a repository can
    print values, and do nothing else."""
    from jinja2 import ChoiceLoader, FileSystemLoader, FunctionLoader, StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """The sandbox limits range(), but not the other ways to fill the memory."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or abs(left if isinstance(right, (str, list, tuple)) else right) > REPEAT_MAX:
                raise SecurityError(f"{operator} is limited to a factor of {REPEAT_MAX}")
            return super().call_binop(context, operator, left, right)

    built_in = FileSystemLoader(template_directory())
    environment = Sandbox(
        loader=built_in if directory is None else ChoiceLoader([FunctionLoader(_reader(directory)), built_in]),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for module in (apparmor, cil, csv, ima, json, lxc, python, shell, smack, systemd, text, tomoyo, xml, yaml):
        environment.filters.update(module.FILTERS)
    return environment


def _reader(directory: Path) -> Callable[[str], str | None]:
    """Return a function that reads a template of the directory, or None when it has none of that name."""

    def read(name: str) -> str | None:
        path = directory / Path(name).name
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would be waited for
            raise InputError(f"{printable(str(path))} is not a regular file")
        with path.open("rb") as file:
            data = file.read(TEMPLATE_MAX + 1)
        if len(data) > TEMPLATE_MAX:
            raise InputError(f"{printable(str(path))} is larger than {TEMPLATE_MAX >> 20} MiB, so it is not a template")
        return data.decode("utf-8")

    return read


def _reason(error: Exception) -> str:
    """Return what is wrong, and the line when it is known."""
    line = getattr(error, "lineno", None)
    said = printable(getattr(error, "message", None) or str(error) or type(error).__name__)
    return f"line {line}: {said}" if line else said
