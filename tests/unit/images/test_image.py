"""Images in all their forms, and archives made to harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.images.archives import (
    CAPABILITY,
    Entry,
    archive,
    attribute,
    configuration,
    digest,
    directory,
    layout,
    link,
    saved,
)

from profiler.errors import InputError
from profiler.images import layers
from profiler.images.files import Node
from profiler.images.image import Image, open_image, read_archive, spooled
from profiler.kernel.file_capabilities import FileCapabilities

LAYER = [
    directory("usr/bin"),
    Entry("usr/bin/su", 0o4755),
    Entry("usr/bin/ping", capabilities=attribute(13), size=3000),
    link("bin", "usr/bin"),
    Entry("usr/bin/passwd", 0o755, type=tarfile.LNKTYPE, target="usr/bin/su"),
    Entry("dev/null", 0o666, type=tarfile.CHRTYPE),
    Entry("srv/data", 0o640, uid=33, gid=70_000),
]
CONFIG = ("c", b"{}")
SECOND = [Entry("usr/bin/.wh.su"), Entry("usr/bin/new", 0o2755)]
PING = Node("file", 0o755, 0, 0, "", FileCapabilities(1 << 13, True))


def check(image: Image, user: str = "www") -> None:
    found = dict(image.files)
    assert found["/usr/bin/ping"] == PING
    assert found["/usr/bin/passwd"].mode == 0o4755
    assert found["/usr/bin/new"].mode == 0o2755
    assert "/usr/bin/su" not in found
    assert found["/dev/null"].kind == "device"
    assert (found["/srv/data"].uid, found["/srv/data"].gid) == (33, 70_000)
    assert image.files.find("/bin/ping") == ("/usr/bin/ping", PING)
    assert image.user == user


def read(data: bytes) -> Image:
    return read_archive(io.BytesIO(data), "image")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_what_docker_saves(mode: str) -> None:
    check(read(saved(LAYER, SECOND, user="www", mode=mode)))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_layout(mode: str, tmp_path: Path) -> None:
    made = layout(LAYER, SECOND, user="www", mode=mode)
    check(read(archive(list(made.items()))))
    for name, data in made.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    check(open_image(str(tmp_path)))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_of_a_layout_have_the_digests_of_their_names(mode: str) -> None:
    made = layout(LAYER, SECOND, mode=mode)
    for name in [name for name in made if name.startswith("blobs/")]:
        with pytest.raises(InputError, match=r"blobs/sha256/\w+ is damaged or was changed: its digest is sha256:"):
            read(archive([*(made | {name: made[name] + b"\n"}).items()]))


@pytest.mark.parametrize("compressed", [False, True])
def test_layers_of_docker_save_have_the_digests_of_their_configuration(compressed: bool) -> None:
    layer = archive(LAYER)
    stored = gzip.compress(layer) if compressed else layer

    def image(data: bytes, config: bytes, name: str = "c.json") -> bytes:
        manifest = json.dumps([{"Config": name, "Layers": ["a/layer.tar"]}]).encode()
        return archive([("manifest.json", manifest), (name, config), ("a/layer.tar", data)])

    config = configuration("", [layer])
    name = f"{digest(config)[7:]}.json"
    assert read(image(stored, config, name)).files.find("/bin/ping") == ("/usr/bin/ping", PING)
    with pytest.raises(InputError, match=r"layer\.tar is damaged or was changed"):
        read(image(archive(SECOND), config))
    with pytest.raises(InputError, match=r"\.json is damaged or was changed"):
        read(image(stored, config + b" ", name))
    with pytest.raises(InputError, match="its configuration is not for 1 layer"):
        read(image(stored, configuration("", [layer, layer])))
    with pytest.raises(InputError, match="names a layer without a digest"):
        read(image(stored, config.replace(b"sha256:", b"")))


def test_archive_of_a_root_directory() -> None:
    for manifest in (b"", b"{}", b"[" * 50_000, b'[{"Layers": 1}]'):
        image = read(archive([*LAYER[:1], *LAYER[2:4], ("manifest.json", manifest)]))
        assert image.files.find("/bin/ping") == ("/usr/bin/ping", PING)


@pytest.mark.parametrize("damage", ["checksum", "number", "cut"])
def test_a_damaged_header_is_an_error(damage: str) -> None:
    """What follows it is not seen, so nothing could be said of the image."""
    data = bytearray(archive([Entry("a", 0o755), Entry("su", 0o4755)]))
    if damage == "cut":
        data = data[: tarfile.BLOCKSIZE + 300]
    elif damage == "checksum":
        data[tarfile.BLOCKSIZE + 1] ^= 1
    else:  # of a device, which the file is not
        header = data[tarfile.BLOCKSIZE : 2 * tarfile.BLOCKSIZE]
        header[329:337], header[148:156] = b"zzzzzzz\0", b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[tarfile.BLOCKSIZE : 2 * tarfile.BLOCKSIZE] = header
    with pytest.raises(InputError, match="damaged"):
        read(bytes(data))


def test_a_layer_that_several_images_share_is_a_link() -> None:
    manifest = json.dumps([{"Config": "c", "Layers": ["a/layer.tar"]}]).encode()
    shared = archive([Entry("x", 0o4755)])
    members = [
        ("manifest.json", manifest),
        ("c", b"{}"),
        ("b/layer.tar", shared),
        link("a/layer.tar", "../b/layer.tar"),
    ]
    assert [path for path, _ in read(archive(members)).files] == ["/x"]


def test_root_directory(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/tool"
    program.parent.mkdir(parents=True)
    program.touch()
    program.chmod(0o4711)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / os.fsdecode(b"\xff")).touch()
    os.mkfifo(tmp_path / "pipe")
    image = open_image(str(tmp_path))
    found = image.files.find("/bin/tool")
    assert found is not None
    assert (found[0], found[1].mode) == ("/usr/bin/tool", 0o4711)
    assert image.files.find("/out/passwd") is None
    assert dict(image.files)["/pipe"].kind == "other"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("manifest.json", b'[{"Config": "c", "Layers": ["../../etc/passwd"]}]'), CONFIG], "passwd is missing"),
        ([("manifest.json", b"[]")], "its manifest.json lists no image"),
        ([("manifest.json", b'[{"Config": "c", "Layers": null}]'), CONFIG], "its image has no layers"),
        ([("manifest.json", b'[{"Config": "c"}]'), CONFIG], "its image has no layers"),
        ([("manifest.json", b'[{"Config": "c", "Layers": [1]}]'), CONFIG], "without names of layers"),
        ([("manifest.json", b'[{"Layers": ["a"]}]')], "an image without a configuration"),
        ([("manifest.json", b'[{"Config": "c", "Layers": ["a"]}]')], "its configuration c is missing"),
        ([("manifest.json", b'[{"Layers": []}, {"Layers": []}]')], "it holds 2 images: save one alone"),
        ([("oci-layout", b"[" * 50_000)], "cannot be read as JSON"),
        ([("oci-layout", b"{}")], "lacks its index"),
        ([("oci-layout", b"{}"), ("index.json", b'{"manifests": []}')], "a file without a digest"),
        ([("oci-layout", b"{}"), ("index.json", b'{"manifests": [{"digest": "sha256:../x"}]}')], "without a digest"),
        ([("oci-layout", b"{}"), ("index.json", b"[]")], "is not what an image has there"),
        ([("oci-layout", b"{}"), ("index.json", b'{"manifests": [{}, {}]}')], "without their platforms"),
        ([("manifest.json", b'[{"Config": "c", "Layers": ["a"]}]'), CONFIG, link("a", "a")], "a is missing"),
        (
            [("manifest.json", b'[{"Config": "c", "Layers": ["a"]}]'), CONFIG, ("a", b"no archive" * 99)],
            "not a tar archive",
        ),
        ([("manifest.json", b'[{"Config": "c", "Layers": ["a"]}]'), CONFIG, ("a", b"\x28\xb5\x2f\xfd...")], "zstd"),
        (
            [("manifest.json", b'[{"Config": "c", "Layers": ["a"]}]'), CONFIG, ("a", gzip.compress(b"x" * 600)[:-9])],
            "not a tar archive",
        ),
    ],
)
def test_what_cannot_be_read_is_said(members: list[tuple[str, bytes]], why: str) -> None:
    with pytest.raises(InputError, match="image cannot be read as an image: ") as caught:
        read(archive(members))
    assert why in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd" + bytes(99), b"PK\x03\x04" + bytes(2000)])
def test_no_archive(data: bytes) -> None:
    if data:
        with pytest.raises(InputError):
            read(data)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a directory nor a regular file"):
        open_image(str(tmp_path / "pipe"))
    with pytest.raises(InputError, match="cannot be read: no such file"):
        open_image(str(tmp_path / "none"))


def test_links_of_a_layout_in_a_directory_are_not_followed(tmp_path: Path) -> None:
    made = layout(LAYER)
    (tmp_path / "blobs").symlink_to("/etc")
    (tmp_path / "index.json").write_bytes(made["index.json"])
    (tmp_path / "oci-layout").write_bytes(made["oci-layout"])
    with pytest.raises(InputError, match="cannot be read"):
        open_image(str(tmp_path))


# Sizes.


def header(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_long_headers_are_refused(kind: bytes) -> None:
    with pytest.raises(InputError, match="too long"):
        read(header(1 << 40, kind) + bytes(10_000))


def test_many_headers_in_a_row_are_refused() -> None:
    one = header(600, tarfile.GNUTYPE_LONGNAME) + b"n" * 600 + bytes(424)
    with pytest.raises(InputError):
        read(one * 10_000)


def test_what_decompresses_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "DECOMPRESSED_MAX", 1 << 20)
    bomb = archive([Entry("x", size=3 << 20)], "w:gz")
    assert len(bomb) < 10_000
    with pytest.raises(InputError, match="when it is decompressed"):
        read(bomb)
    inside = archive([("manifest.json", b'[{"Config": "c", "Layers": ["a"]}]'), CONFIG, ("a", bomb)])
    with pytest.raises(InputError, match="when it is decompressed"):
        read(inside)


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "ENTRIES_MAX", 10)
    with pytest.raises(InputError, match="more than 10 files"):
        read(archive([Entry(f"f{number}") for number in range(20)]))


def test_a_stream_is_kept_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with spooled(io.BytesIO(b"data")) as copy:
        assert copy.read() == b"data"
    monkeypatch.setattr("profiler.images.image.DECOMPRESSED_MAX", 3)
    with pytest.raises(InputError):
        spooled(io.BytesIO(b"data"))


# Anything at all.

WHOLE = saved(LAYER, SECOND), archive(list(layout(LAYER, SECOND).items())), archive(LAYER)


@given(st.sampled_from(WHOLE), st.randoms(use_true_random=False), st.integers(1, 40))
@settings(max_examples=examples(60), deadline=None)
def test_a_damaged_archive_is_read_or_refused(data: bytes, chance: random.Random, times: int) -> None:
    broken = bytearray(data)
    for _ in range(times):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    before = threading.active_count()
    for damaged in (bytes(broken), data[: chance.randrange(1, len(data))]):
        try:
            list(read(damaged).files)
        except InputError:
            pass
    assert threading.active_count() == before


@given(st.binary(max_size=40))
@settings(max_examples=examples(50), deadline=None)
def test_any_value_of_the_attribute(value: bytes) -> None:
    value = value.replace(b"\0\0", b"\0")
    made = archive([Entry("x", capabilities=value)])
    assert CAPABILITY.encode() in made
    assert [path for path, _ in read(made).files] == ["/x"]
