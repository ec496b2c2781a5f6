"""Read an engine's ``inspect`` into a :class:`profiler.trace.model.Container`.

Nothing in the JSON is trusted: names, labels and paths are chosen by strangers, engines leave members out, and versions
differ. A member that is missing or has another type counts as not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from profiler.kernel.capabilities import CAPABILITIES, number_of
from profiler.kernel.data import load
from profiler.trace.model import Container, ContainerMount

_CONTAINERD_PREFIX = "io.containerd."


def documents(text: str) -> list[dict[str, Any]]:
    """Return the objects of ``inspect``'s output, a JSON list; an empty list for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def container(engine: str, data: dict[str, Any], image: dict[str, Any] | None = None) -> Container:
    """Return the container in an object of ``inspect`` of docker, podman or nerdctl. ``image``: the image's object."""
    host = _dict(data, "HostConfig")
    config = _dict(data, "Config")
    options = [word.lower() for word in _strings(host, "SecurityOpt")]
    entrypoint = _strings(config, "Entrypoint")
    command = _strings(config, "Cmd")
    if not entrypoint and not command:  # nerdctl has only the resulting command
        command = [word for word in (_text(data, "Path"), *_strings(data, "Args")) if word]
    privileged = _dict(data, "HostConfig").get("Privileged") is True
    return Container(
        engine=engine,
        runtime=_text(data, "OCIRuntime") or _runtime(_text(host, "Runtime")),
        id=_text(data, "Id"),
        name=(_text(data, "Name") or "").removeprefix("/") or None,
        image=_text(data, "ImageName") or _text(config, "Image") or _text(data, "Image"),
        digest=_digest(data, image),
        entrypoint=tuple(entrypoint),
        command=tuple(command),
        user=_text(config, "User") if isinstance(config.get("User"), str) else None,
        directory=_text(config, "WorkingDir") or None,
        network=_text(host, "NetworkMode") or None,
        mounts=tuple(sorted(_mounts(data, host))),
        ports=tuple(
            sorted(
                {
                    *_keys(config, "ExposedPorts"),
                    *_keys(host, "PortBindings"),
                    *_keys(_dict(data, "NetworkSettings"), "Ports"),
                }
            )
        ),
        capabilities=_capabilities(engine, data, host, privileged),
        privileged=privileged,
        read_only=host.get("ReadonlyRootfs") is True,
        no_new_privs=any(
            word in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true") for word in options
        ),
    )


def process(data: dict[str, Any]) -> int:
    """Return the process id of a container's first process, 0 when it does not run."""
    state = _dict(data, "State")
    pid = state.get("Pid")
    return pid if type(pid) is int and pid > 0 and state.get("Running") is not False else 0


def labels(data: dict[str, Any]) -> dict[str, str]:
    """Return the labels of a container whose values are text."""
    return {name: value for name, value in _dict(_dict(data, "Config"), "Labels").items() if isinstance(value, str)}


def exit_status(data: dict[str, Any]) -> int | None:
    """Return the exit status of a container's last run, None when it has not ended. A container that could not be
    started has a status too (127: no such program)."""
    state = _dict(data, "State")
    code = state.get("ExitCode")
    if type(code) is not int or state.get("Running") is not False or (state.get("Status") == "created" and code == 0):
        return None
    return code & 0xFF


def containerd(info: dict[str, Any]) -> Container:
    """Return the container in the output of ``ctr containers info``, which has its OCI configuration."""
    spec = _dict(info, "Spec")
    run = _dict(spec, "process")
    user = _dict(run, "user")
    uid, gid = user.get("uid"), user.get("gid")
    return Container(
        engine="ctr",
        runtime=_runtime(_text(_dict(info, "Runtime"), "Name")),
        id=_text(info, "ID"),
        name=None,
        image=_text(info, "Image"),
        command=tuple(_strings(run, "args")),
        user=f"{uid}:{gid}" if type(uid) is int and type(gid) is int else None,
        directory=_text(run, "cwd") or None,
        mounts=tuple(sorted(_spec_mounts(spec))),
        capabilities=_known(_strings(_dict(run, "capabilities"), "bounding")) if "process" in spec else None,
        read_only=_dict(spec, "root").get("readonly") is True,
        no_new_privs=run.get("noNewPrivileges") is True,
    )


def _dict(data: Any, key: str) -> dict[str, Any]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _text(data: dict[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def _strings(data: dict[str, Any], key: str) -> list[str]:
    value = data.get(key)
    if isinstance(value, str):  # podman 4 has an entry point as one string
        return [value] if value else []
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _keys(data: dict[str, Any], key: str) -> list[str]:
    return [name for name in _dict(data, key) if isinstance(name, str)]


def _runtime(name: str | None) -> str | None:
    """Return ``runc`` for ``io.containerd.runc.v2``, containerd's name for the shim that starts it."""
    if name is not None and name.startswith(_CONTAINERD_PREFIX):
        name = name.removeprefix(_CONTAINERD_PREFIX).rpartition(".")[0]
    return name or None


def _digest(data: dict[str, Any], image: dict[str, Any] | None) -> str | None:
    """Return the digest of the manifest, by which a registry knows the image, else that of the configuration."""
    if digest := _text(data, "ImageDigest"):
        return digest
    for name in _strings(image or {}, "RepoDigests"):
        if "@" in name:
            return name.rpartition("@")[2]
    identity = _text(image or {}, "Id") or _text(data, "Image")
    if identity and len(identity) == 64 and all(char in "0123456789abcdef" for char in identity):
        identity = f"sha256:{identity}"
    return identity if identity and identity.startswith("sha256:") else None


def _mounts(data: dict[str, Any], host: dict[str, Any]) -> Iterable[ContainerMount]:
    found: dict[str, ContainerMount] = {}
    rows = data.get("Mounts")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and (destination := _text(row, "Destination")):
            kind = _text(row, "Type") or "bind"
            # A volume's name stays the same, its place on the host may not.
            source = (_text(row, "Name") if kind == "volume" else None) or _text(row, "Source") or ""
            found[destination] = ContainerMount(kind, source, destination, row.get("RW") is False)
    for destination, options in _dict(host, "Tmpfs").items():
        words = options.split(",") if isinstance(options, str) else []
        found.setdefault(destination, ContainerMount("tmpfs", "", destination, "ro" in words))
    return found.values()


def _spec_mounts(spec: dict[str, Any]) -> Iterable[ContainerMount]:
    """Return the mounts that come from the host, and tmpfs mounts that the runtime does not make by itself."""
    rows = spec.get("mounts")
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or not (destination := _text(row, "destination")):
            continue
        options = _strings(row, "options")
        if "bind" in options or "rbind" in options:
            yield ContainerMount("bind", _text(row, "source") or "", destination, "ro" in options)
        elif _text(row, "type") == "tmpfs" and destination not in ("/dev", "/dev/shm", "/run"):
            yield ContainerMount("tmpfs", "", destination, "ro" in options)


def _capabilities(engine: str, data: dict[str, Any], host: dict[str, Any], privileged: bool) -> tuple[str, ...] | None:
    if isinstance(data.get("BoundingCaps"), list):  # podman
        return _known(_strings(data, "BoundingCaps"))
    if privileged:
        return tuple(sorted(CAPABILITIES))
    if engine != "docker" or "CapAdd" not in host:
        return None
    added, dropped = ({_name(word) for word in _strings(host, key)} for key in ("CapAdd", "CapDrop"))
    # moby, daemon/pkg/oci/caps: added capabilities survive dropping ALL, and dropped ones are missing after adding ALL.
    start = (
        set(CAPABILITIES)
        if "CAP_ALL" in added
        else set()
        if "CAP_ALL" in dropped
        else set(load("docker_default.yaml")["capabilities"])
    )
    return _known((start - dropped) | added if "CAP_ALL" in dropped else (start | added) - dropped)


def _name(word: str) -> str:
    return "CAP_" + word.upper().removeprefix("CAP_")


def _known(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if number_of(name) is not None}))
