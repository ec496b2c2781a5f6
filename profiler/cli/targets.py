"""``profgen targets``: what generate can write, with which options, and what it cannot express."""

from __future__ import annotations

from collections.abc import Iterator

import click

from profiler.cli.options import coloured, output_format
from profiler.cli.results import print_json
from profiler.style import Style
from profiler.targets import catalogue
from profiler.targets.base import SECTIONS, Target


@click.command("targets")
@click.argument("name", required=False, metavar="[TARGET]")
@output_format()
@coloured()
def targets(name: str | None, form: str, style: Style) -> None:
    """List the targets of generate, or describe one.

    \b
      profgen targets
      profgen targets apparmor
    """
    chosen = catalogue.TARGETS if name is None else (catalogue.find(name),)
    if form == "json":
        print_json("targets", {"targets": [_data(target) for target in chosen]})
    elif name is None:
        width = max(len(target.name) for target in chosen)
        for target in chosen:
            head = f"{target.name:<{width}}  {_sort(target)}  "
            print(style.wrapped(target.summary, " " * len(head), head))
    else:
        print("\n".join(_description(chosen[0], style)))


def _sort(target: Target) -> str:
    return "launcher" if target.launches else "artifact"


def _in_order(sections: frozenset[str]) -> list[str]:
    return [section for section in SECTIONS if section in sections]


def _description(target: Target, style: Style) -> Iterator[str]:
    def row(label: str, words: str) -> str:
        return style.wrapped(words, " " * 19, f"{label:<19}")

    yield f"{style('title', target.name)} ({_sort(target)})"
    yield style.wrapped(target.summary, "  ")
    yield row("expresses:", ", ".join(_in_order(target.says)))
    yield row("does not express:", ", ".join(_in_order(frozenset(SECTIONS) - target.says)) or "nothing")
    if target.launches:
        yield row("names:", ", ".join(sorted(target.launches.names)))
        yield row("replaces:", ", ".join(sorted(target.launches.engines)))
    if target.rewrites:
        yield row("rewrites (--into):", target.rewrites)
    for setting in target.settings:
        yield f"  -O {target.name}.{setting.name}={setting.metavar}"
        yield style.wrapped(setting.help, "      ")


def _data(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "sort": _sort(target),
        "summary": target.summary,
        "says": _in_order(target.says),
        "names": sorted(target.launches.names) if target.launches else [],
        "engines": sorted(target.launches.engines) if target.launches else [],
        "rewrites": target.rewrites,
        "settings": [
            {"name": setting.name, "help": setting.help, "metavar": setting.metavar, "default": setting.default}
            for setting in target.settings
        ],
    }
