"""Rendering through the templates of templates/, with one quoting filter for each syntax."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.quoting import apparmor, json, shell, text, yaml

if TYPE_CHECKING:
    from jinja2 import Environment


def template_directory() -> Path:
    """Inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template_directory()),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for module in (apparmor, json, shell, text, yaml):
        environment.filters.update(module.FILTERS)
    return environment


def render_template(name: str, **values: object) -> bytes:
    """A template of templates/ filled in. Text goes through its filters json, yaml, shell, comment and apparmor,
    nothing else."""
    rendered = _environment().get_template(name).render(**values)
    return rendered.encode("utf-8", "surrogateescape")
