"""How a container is set up: by a policy, by a Compose service and by a Quadlet unit, in one form to compare."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unit.targets import quadlets

from profiler.policy.model import Policy
from profiler.policy.posture import posture
from profiler.quoting.text import escaped
from profiler.targets.base import Loss

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


@dataclass(frozen=True)
class Setup:
    """``temporary``: the directories in memory, and whether they are noexec. ``mounts``: kind, source, target,
    read-only; a volume without a source has no name."""

    user: str | None
    directory: str | None
    network: str | None
    command: tuple[str, ...]
    read_only: bool
    temporary: tuple[tuple[str, bool], ...]
    mounts: tuple[tuple[str, str, str, bool], ...]
    devices: tuple[tuple[str, str], ...]
    ports: tuple[str, ...]
    tasks: int | None
    capabilities: tuple[str, ...]
    no_new_privs: bool
    image: str | None


def of_policy(policy: Policy, losses: Sequence[Loss], write: Callable[[str], str] = str) -> Setup:
    """The setup of the policy, without the devices that are declared as lost. ``write``: how a text comes out of a file
    that cannot hold every character."""
    stance, image = posture(policy), policy.workload.image
    lost = {loss.item for loss in losses if loss.section == "files" and loss.effect == "refused"}
    devices = [(row.path, row.access) for row in stance.devices if row.path not in lost and "m" not in row.access]
    memory = [row for row in stance.temporary if ":" not in row.path] if stance.read_only else []
    kept = [*stance.kept, *(row.path for row in stance.temporary if ":" in row.path)] if stance.read_only else []
    return Setup(
        user=write(stance.user) if stance.user and stance.sure else None,
        directory=write(stance.directory) if stance.directory and stance.sure else None,
        network=stance.network,
        command=tuple(map(write, stance.command)) if stance.sure else (),
        read_only=stance.read_only,
        temporary=tuple((write(row.path), not row.executed) for row in memory),
        mounts=(
            *((row.kind, write(row.source), write(row.destination), row.read_only) for row in stance.mounts),
            *(("volume", "", write(path), False) for path in kept),
        ),
        devices=tuple((write(path), access) for path, access in devices),
        ports=() if stance.network else tuple(f"{port}:{port}/{protocol}" for port, protocol in stance.ports),
        tasks=stance.tasks,
        capabilities=policy.needed(),
        no_new_privs=policy.no_new_privs,
        image=image if image and _IMAGE.fullmatch(image) else None,
    )


def in_yaml(text: str) -> str:
    """A text as YAML can hold it."""
    return "".join(escaped(char) if 0xD800 <= ord(char) <= 0xDFFF else char for char in text)


def of_service(document: Any) -> tuple[Setup, str]:
    """The setup of the one service of a Compose file, and the name of its seccomp profile."""
    (service,) = document["services"].values()
    assert service["cap_drop"] == ["ALL"]
    options = {
        key: value for key, _, value in (re.split("([=:])", text, maxsplit=1) for text in service["security_opt"])
    }
    rows = service.get("volumes", ())
    memory = [_plain(text).split(":") for text in service.get("tmpfs", ())]
    assert all(flags.startswith("rw,nosuid,nodev,") for _, flags in memory)
    devices = [_plain(text).split(":") for text in service.get("devices", ())]
    assert all(inside == outside for outside, inside, _ in devices)
    named = {_plain(row["source"]) for row in rows if row["type"] == "volume" and "source" in row}
    assert {_plain(row["name"]) for row in document.get("volumes", {}).values()} == named
    image = re.fullmatch(r"\$\{IMAGE:(-(.+)|\?set IMAGE to the image to run)\}", service["image"])
    assert image is not None
    setup = Setup(
        user=_plain(service["user"]) if "user" in service else None,
        directory=_plain(service["working_dir"]) if "working_dir" in service else None,
        network=service.get("network_mode"),
        command=tuple(map(_plain, [*service.get("entrypoint", ()), *service.get("command", ())])),
        read_only=service.get("read_only", False),
        temporary=tuple((path, flags.endswith(",noexec")) for path, flags in memory),
        mounts=tuple(
            (row["type"], _plain(row.get("source", "")), _plain(row["target"]), row.get("read_only", False))
            for row in rows
        ),
        devices=tuple((path, access) for path, _, access in devices),
        ports=tuple(service.get("ports", ())),
        tasks=service.get("pids_limit"),
        capabilities=tuple(f"CAP_{name}" for name in service.get("cap_add", ())),
        no_new_privs=options.get("no-new-privileges") == "true",
        image=image[2],
    )
    return setup, options["seccomp"].removeprefix("./")


def _plain(text: str) -> str:
    return text.replace("$$", "$")


def of_unit(text: str) -> tuple[Setup, str]:
    """The setup of a Quadlet unit, and the path of its seccomp profile."""
    options, image, arguments = quadlets.parts(text)
    given = [option.partition("=") for option in options]

    def every(key: str) -> list[str]:
        return [value for one, _, value in given if one == key]

    def only(key: str) -> str | None:
        return next(iter(every(key)), None)

    assert every("--cap-drop") == ["all"]
    mounts = [
        {key: value for key, _, value in (word.partition("=") for word in next(csv.reader([row])))}
        for row in every("--mount")
    ]
    memory = [row.split(":") for row in every("--tmpfs")]
    assert all(flags.startswith("rw,nosuid,nodev,") for _, flags in memory)
    devices = [row.split(":") for row in every("--device")]
    assert all(inside == outside for outside, inside, _ in devices)
    tasks = only("--pids-limit")
    setup = Setup(
        user=only("--user"),
        directory=only("--workdir"),
        network=only("--network"),
        command=(*every("--entrypoint"), *arguments),
        read_only=only("--read-only") == "true",
        temporary=tuple((path, flags.endswith(",noexec")) for path, flags in memory),
        mounts=tuple(
            (row["type"], row.get("source", ""), row["target"], row.get("readonly") == "true") for row in mounts
        ),
        devices=tuple((path, access) for path, _, access in devices),
        ports=tuple(every("--publish")),
        tasks=None if tasks is None else int(tasks),
        capabilities=tuple(f"CAP_{each}" for each in every("--cap-add")),
        no_new_privs="no-new-privileges" in every("--security-opt"),
        image=image,
    )
    (profile,) = (text.removeprefix("seccomp=") for text in every("--security-opt") if text.startswith("seccomp="))
    return setup, profile
