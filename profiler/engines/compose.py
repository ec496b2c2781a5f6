"""Compose projects: which containers an ``up`` starts."""

from __future__ import annotations

import json
import os
import re

from profiler.engines.commands import Compose, Grammar, options
from profiler.errors import ProgramError
from profiler.run import ask

_GRAMMAR = Grammar(valued=frozenset({"-f", "-p"}))
"""The options that name a project; unknown long options take a value anyway."""

PROJECT_LABEL = "com.docker.compose.project"
"""The label with the project's name on every container that compose starts."""


def project(compose: Compose) -> str:
    """Return the project's name: as compose itself reports it, else as it derives one from the directory."""
    try:
        asked = ask([*compose.project, "config", "--format", "json"])
        name = None if asked.status else json.loads(asked.text).get("name")
    except (ProgramError, ValueError, AttributeError, RecursionError):
        name = None
    if isinstance(name, str) and name:
        return name
    words = compose.project[1:]
    given, _ = options(words[words.index("compose") + 1 :] if "compose" in words else words, _GRAMMAR)
    named = [option.value for option in given if option.name in ("-p", "--project-name") and option.value]
    files = [option.value for option in given if option.name in ("-f", "--file") and option.value]
    text = named[-1] if named else os.environ.get("COMPOSE_PROJECT_NAME")
    if not text:
        text = os.path.basename(os.path.dirname(os.path.abspath(files[0])) if files else os.getcwd())
    return re.sub(r"[^-_a-z0-9]", "", text.lower())


def detached(compose: Compose) -> bool:
    """Return whether the client ends once the containers run."""
    return any(word in ("-d", "--detach") for word in compose.words)
