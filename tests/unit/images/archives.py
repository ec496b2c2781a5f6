"""Images in every form, from a list of entries."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CAPABILITY = "SCHILY.xattr.security.capability"


def attribute(*numbers: int, effective: bool = True) -> bytes:
    """security.capability of a file with these capabilities (version 2)."""
    mask = sum(1 << number for number in numbers)
    return struct.pack("<5I", 0x02000000 | effective, mask & 0xFFFFFFFF, 0, mask >> 32, 0)


@dataclass(frozen=True)
class Entry:
    """A member of a layer. ``type``: of tarfile."""

    name: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    type: bytes = tarfile.REGTYPE
    target: str = ""
    capabilities: bytes | None = None
    size: int = 0


def directory(name: str, mode: int = 0o755, **members: Any) -> Entry:
    return Entry(name, mode, type=tarfile.DIRTYPE, **members)


def link(name: str, target: str, **members: Any) -> Entry:
    return Entry(name, 0o777, type=tarfile.SYMTYPE, target=target, **members)


def archive(members: Iterable[Entry | tuple[str, bytes]], mode: str = "w") -> bytes:
    """A tar archive of entries, and of files with content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode, format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for member in members:
            if isinstance(member, tuple):
                info, data = tarfile.TarInfo(member[0]), member[1]
                info.size = len(data)
            else:
                info, data = tarfile.TarInfo(member.name), bytes(member.size)
                info.mode, info.uid, info.gid, info.size = member.mode, member.uid, member.gid, member.size
                info.type, info.linkname = member.type, member.target
                if member.capabilities is not None:
                    text = member.capabilities.decode("utf-8", "surrogateescape")
                    info.pax_headers = {CAPABILITY: text}
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def configuration(user: str = "", layers: Iterable[bytes] = ()) -> bytes:
    """``layers``: uncompressed."""
    root = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {"User": user}, "rootfs": root}).encode()


def saved(*layers: Iterable[Entry], user: str = "", mode: str = "w") -> bytes:
    """What docker save writes."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]).encode()
    made = [archive(layer) for layer in layers]
    files = [("manifest.json", manifest), ("config.json", configuration(user, made))]
    return archive([*files, *zip(names, made, strict=True)], mode)


def layout(*layers: Iterable[Entry], user: str = "", mode: str = "w:gz") -> dict[str, bytes]:
    """The files of an OCI image layout, by name."""
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def add(data: bytes, **members: Any) -> Mapping[str, Any]:
        files[f"blobs/{digest(data).replace(':', '/')}"] = data
        return {"digest": digest(data), "size": len(data), **members}

    plain = [archive(layer) for layer in layers]
    manifest = {"config": add(configuration(user, plain)), "layers": [add(archive(layer, mode)) for layer in layers]}
    platform = {"os": "linux", "architecture": "amd64"}
    index = {"manifests": [add(json.dumps(manifest).encode(), platform=platform)]}
    files["index.json"] = json.dumps(index).encode()
    return files
