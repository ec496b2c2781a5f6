"""Open an image: a root directory, an OCI image layout, what ``docker save`` wrote, or an archive of a root directory.

Sources: the OCI image-spec (image-layout.md, image-index.md, config.md), and moby's image/tarexport for manifest.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

from profiler.errors import InputError
from profiler.images import directory
from profiler.images.files import Files
from profiler.images.layers import DECOMPRESSED_MAX, Budget, compression, entries, members, plain
from profiler.kernel.abi import native_abi
from profiler.quoting.text import printable
from profiler.wording import cause, counted

JSON_MAX = 4 << 20
"""Bytes of an index, a manifest or a configuration."""
LAYERS_MAX = 1000
_NESTED_MAX = 4
"""Indexes inside of indexes."""
_DIGEST = re.compile(r"sha(256|512):([0-9a-f]{64,128})")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image that was read. ``user``: as its configuration has it, empty for root or when there is none. ``notes``:
    what the reader of a result should know."""

    name: str
    files: Files
    user: str = ""
    notes: tuple[str, ...] = ()


class _Store(Protocol):
    """Files by name: a directory, or an archive."""

    def open(self, name: str) -> BinaryIO | None: ...


def open_image(path: str) -> Image:
    """Read an image from a directory or a file. Raises InputError."""
    with _named(path):
        if os.path.isdir(path):
            return _of_directory(path)
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError("neither a directory nor a regular file")
            return read_archive(file, path)


def read_archive(file: BinaryIO, name: str) -> Image:
    """Read an image from an archive, which can be sought. ``name`` is for messages. Raises InputError."""
    with _named(name):
        return _of_archive(file, name)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the image in errors, once."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name} cannot be read: {cause(error)}") from error
    except InputError as error:
        if isinstance(error, _Named):
            raise
        raise _Named(f"{name} cannot be read as an image: {error}") from error


class _Named(InputError):
    """An error that names the image."""


def _of_archive(file: BinaryIO, name: str) -> Image:
    budget = Budget()
    with _seekable(file, budget) as archive:
        image = _of_store(_Archive(archive, budget), name, budget)
        if image is not None:
            return image
        archive.seek(0)
        files = Files()
        files.apply(entries(archive, budget))
        return Image(name, files, notes=_notes(files, []))


def _of_directory(path: str) -> Image:
    budget = Budget()
    if os.path.isfile(f"{path}/oci-layout"):
        image = _of_store(_Directory(path), path, budget)
        if image is not None:
            return image
    files, unreadable = Files(), list[str]()
    files.apply(directory.entries(path, budget, unreadable))
    return Image(path, files, notes=_notes(files, unreadable))


def _notes(files: Files, unreadable: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if files.left_out:
        notes.append(
            f"{counted(files.left_out, 'entry', 'entries')} left out: the path leads out of the image or is "
            "too long, or a hard link has no file"
        )
    if unreadable:
        what = counted(len(unreadable), "directory", "directories")
        notes.append(f"{what} cannot be read by this user, such as {printable(unreadable[0] or '/')}")
    return tuple(notes)


@contextmanager
def _seekable(file: BinaryIO, budget: Budget) -> Iterator[BinaryIO]:
    """Give the file, or what it holds when it is compressed as a whole."""
    if compression(file) is None:
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        stream = plain(file)
        try:
            while data := stream.read(1 << 20):
                budget.decompressed(len(data))
                copy.write(data)
        except InputError:
            raise
        except Exception as error:  # each decompressor raises its own kinds
            raise InputError(f"cannot be decompressed: {str(error)[:80]}") from error
        copy.seek(0)
        yield cast(BinaryIO, copy)


class _Directory:
    """The files of a layout in a directory. Links in it are not followed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, name: str) -> BinaryIO | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        *above, last = posixpath.normpath(name).split("/")
        if ".." in above or last in ("..", "."):
            return None
        at = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for word in above:
                below = os.open(word, flags | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            descriptor = os.open(last, flags, dir_fd=at)
        except FileNotFoundError:
            return None
        finally:
            os.close(at)
        file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise InputError(f"{printable(name)[:80]} is not a regular file")
        return file


class _Archive:
    """The files of a layout in a tar archive, by where their content is."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file = file
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in members(file, budget):
            if member.isfile() or member.issym() or member.islnk():
                self._members[posixpath.normpath(member.name)] = member

    def open(self, name: str) -> BinaryIO | None:
        name = posixpath.normpath(name)
        for _ in range(10):
            member = self._members.get(name)
            if member is None:
                return None
            if member.isfile():
                if member.issparse():
                    return None
                return cast(BinaryIO, _Part(self._file, member.offset_data, member.size))
            # docker save links layers that several images of an archive share
            above = posixpath.dirname(name) if member.issym() else ""
            name = posixpath.normpath(posixpath.join(above, member.linkname))
        return None


class _Part:
    """A part of a file, as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _of_store(store: _Store, name: str, budget: Budget) -> Image | None:
    """Read an image from a layout; None when the files are not one."""
    described = _saved(store) or _layout(store)
    if described is None:
        return None
    if not described.layers:
        raise InputError("its image has no layers, so there are no files to compare with")
    if len(described.layers) > LAYERS_MAX:
        raise InputError(f"more than {LAYERS_MAX} layers")
    files = Files()
    for layer, content in zip(described.layers, described.contents(), strict=True):
        with _existing(store, layer) as file:
            _check_layer(file, layer, content)
            files.apply(entries(file, budget))
    settings = described.config.get("config")
    user = settings.get("User") if isinstance(settings, dict) else None
    return Image(name, files, user if isinstance(user, str) else "", (*described.notes, *_notes(files, [])))


@dataclass(frozen=True)
class _Described:
    """An image of a layout: its configuration, the names of its layers, and notes."""

    config: Mapping[str, Any]
    layers: Sequence[str]
    notes: Sequence[str] = ()

    def contents(self) -> Sequence[str | None]:
        """Return the digest of each layer when it is decompressed, as the configuration has it; None where it says
        nothing. Raises InputError when it is for another number of layers."""
        root = self.config.get("rootfs")
        digests = root.get("diff_ids") if isinstance(root, dict) else None
        if digests is None:
            return [None] * len(self.layers)
        if not _texts(digests) or len(digests) != len(self.layers):
            raise InputError(f"its configuration is not for {counted(len(self.layers), 'layer')}")
        return cast(Sequence[str], digests)


def _check_layer(file: BinaryIO, name: str, content: str | None) -> None:
    """Check the digest of a layer, by its name and by the configuration, and go back to its start. What the name says
    of a compressed layer is enough: the manifest that has it was checked too. Raises InputError."""
    wanted = _digest_in(name)
    if wanted is not None:
        _check(wanted, _hashed(file, wanted), name)
        file.seek(0)
    if content is None or (wanted is not None and compression(file) is not None):
        return
    found = _DIGEST.fullmatch(content)
    if found is None:
        raise InputError("its configuration names a layer without a digest")
    _check(content, _hashed(_bounded(file), content), name)
    file.seek(0)


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    """Yield what a layer holds when it is decompressed. Raises InputError when it is too much, or damaged."""
    budget = Budget()
    try:
        stream = plain(file)
        while data := stream.read(1 << 20):
            budget.decompressed(len(data))
            yield data
    except InputError:
        raise
    except Exception as error:  # each decompressor raises its own kinds
        raise InputError(f"a layer cannot be decompressed: {str(error)[:80]}") from error


def _hashed(data: BinaryIO | Iterable[bytes], digest: str) -> str:
    """Return the digest of data with the algorithm of another one."""
    made = hashlib.new(digest.partition(":")[0])
    for part in data if not hasattr(data, "read") else iter(lambda: data.read(1 << 20), b""):
        made.update(part)
    return f"{digest.partition(':')[0]}:{made.hexdigest()}"


def _check(wanted: str, found: str, name: str) -> None:
    if wanted != found:
        raise InputError(f"{printable(name)[:80]} is damaged or was changed: its digest is {found}, not {wanted}")


_NAMED = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})|([0-9a-f]{64})\.json")
"""Names of files that have the digest of their content: blobs, and configurations of docker save."""


def _digest_in(name: str) -> str | None:
    """Return the digest in the name of a file, None when there is none."""
    found = _NAMED.fullmatch(name)
    return None if found is None else f"{found[1] or 'sha256'}:{found[2] or found[3]}"


def _saved(store: _Store) -> _Described | None:
    """Read what ``docker save`` wrote; None for a file of that name in an archive of a root directory."""
    try:
        document = _json(store, "manifest.json", object)
    except InputError:
        return None
    if document == []:
        raise InputError("its manifest.json lists no image")
    rows = document if isinstance(document, list) else []
    images = [row for row in rows if isinstance(row, dict) and _is_image(row)]
    if not images:
        return None
    if len(images) > 1:
        raise InputError(f"it holds {len(images)} images: save one alone")
    name, layers = images[0].get("Config"), images[0].get("Layers") or []
    if not isinstance(name, str) or not _texts(layers):
        raise InputError("its manifest.json has an image without a configuration, or without names of layers")
    return _Described(_present(store, name), layers)


def _is_image(row: Mapping[str, Any]) -> bool:
    layers = row.get("Layers", 0)
    return layers is None or _texts(layers) or isinstance(row.get("Config"), str)


def _present(store: _Store, name: str) -> Mapping[str, Any]:
    """Return a configuration. Raises InputError."""
    found = _json(store, name, dict)
    if found is None:
        raise InputError(f"its configuration {printable(name)[:80]} is missing")
    return cast(Mapping[str, Any], found)


def _layout(store: _Store) -> _Described | None:
    """Read an OCI image layout."""
    if _json(store, "oci-layout", dict) is None:
        return None
    document, notes = _json(store, "index.json", dict), list[str]()
    for _ in range(_NESTED_MAX):
        if document is None:
            raise InputError("the layout lacks its index, or a file that the index names")
        rows = document.get("manifests")
        if not isinstance(rows, list):
            break
        document = _json(store, _blob(_chosen(rows, notes)), dict)
    config, layers = document.get("config") if document else None, document.get("layers") if document else None
    if not isinstance(config, dict) or not isinstance(layers, list):
        raise InputError("the layout has no manifest of an image")
    return _Described(_present(store, _blob(config)), [_blob(row) for row in layers], notes)


def _chosen(rows: Sequence[Any], notes: list[str]) -> Any:
    """Return the image of an index for this machine, or the first."""
    images = [row for row in rows if isinstance(row, dict)]
    platforms = [row.get("platform") for row in images]
    known = [
        (row, platform.get("architecture"))
        for row, platform in zip(images, platforms, strict=True)
        if isinstance(platform, dict) and platform.get("os") == "linux"
    ]
    wanted = _ARCHITECTURES.get(native_abi())
    found = next((row for row, architecture in known if architecture == wanted), None)
    if found is None and known:
        found, architecture = known[0]
        notes.append(f"it has no image for {wanted}: that for {printable(str(architecture))[:40]} was read")
    if found is None and len(images) > 1:
        raise InputError(f"the index lists {len(images)} images without their platforms: copy one alone")
    return found if found is not None or not images else images[0]


def _blob(row: Any) -> str:
    digest = row.get("digest") if isinstance(row, dict) else None
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if found is None:
        raise InputError("the layout names a file without a digest")
    return f"blobs/sha{found[1]}/{found[2]}"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _existing(store: _Store, name: str) -> BinaryIO:
    file = store.open(name)
    if file is None:
        raise InputError(f"{printable(name)[:80]} is missing")
    return file


def _json(store: _Store, name: str, kind: type) -> Any:
    """Return a JSON file of a layout; None when it is missing. Raises InputError for another kind of value, and for
    another content than the digest in its name says."""
    file = store.open(name)
    if file is None:
        return None
    with file:
        data = file.read(JSON_MAX + 1)
    try:
        value = json.loads(data) if len(data) <= JSON_MAX else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(name)[:80]} cannot be read as JSON: {str(error)[:80]}") from error
    if not isinstance(value, kind):
        raise InputError(f"{printable(name)[:80]} is not what an image has there")
    if (wanted := _digest_in(name)) is not None:
        _check(wanted, _hashed([data], wanted), name)
    return value


def spooled(stream: BinaryIO) -> BinaryIO:
    """Copy a stream to a file that has no name, and return it at its start. Raises InputError when it is too long."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    while data := stream.read(1 << 20):
        if copy.tell() + len(data) > DECOMPRESSED_MAX:
            copy.close()
            raise InputError(f"an image of more than {DECOMPRESSED_MAX >> 30} GiB is not read")
        copy.write(data)
    copy.seek(0)
    return cast(BinaryIO, copy)
