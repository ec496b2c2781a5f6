"""Read the capabilities of a file, as its extended attribute security.capability holds them (capabilities(7))."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from profiler.kernel.capabilities import ALL

_VERSION_1, _VERSIONS = 0x01000000, (0x02000000, 0x03000000)  # include/uapi/linux/capability.h
_EFFECTIVE = 1


@dataclass(frozen=True)
class FileCapabilities:
    """The capabilities of a file (capabilities(7)). ``effective``: execve(2) fails unless it can give all permitted."""

    permitted: int
    effective: bool

    @property
    def needed(self) -> int:
        """The capabilities that must be in the bounding set for the file to be executed."""
        return self.permitted if self.effective else 0


def parse_file_capabilities(data: bytes) -> FileCapabilities | None:
    """Parse security.capability (struct vfs_ns_cap_data); None for another format, and for the root of another user
    namespace, for which the file has no capabilities here."""
    if len(data) not in (12, 20, 24):
        return None
    magic, low = struct.unpack_from("<II", data)
    version = magic & 0xFF000000
    if version != (_VERSION_1 if len(data) == 12 else _VERSIONS[len(data) == 24]):
        return None
    if len(data) == 24 and struct.unpack_from("<I", data, 20)[0]:
        return None
    high = 0 if len(data) == 12 else struct.unpack_from("<I", data, 12)[0]
    return FileCapabilities((low | high << 32) & ALL, bool(magic & _EFFECTIVE))
