"""Which directories are made writable together, because files are moved between them."""

from __future__ import annotations

import pytest
from unit.targets.policies import file

from profiler.policy.model import FileRule
from profiler.policy.writable import Places, changes, gathered, place_of


def of(*rules: FileRule, mounted: tuple[str, ...] = ()) -> Places:
    return gathered(rules, {place for rule in rules if changes(rule) and (place := place_of(rule))}, mounted)


def test_a_file_without_a_name_is_in_its_directory() -> None:
    assert of(file("/srv/#{digits}", "read", "write", states=("deleted",))) == Places(("/srv",))
    assert of(file("/memfd:x", "read", "write", states=("detached",))) == Places(())


def renamed(old: str, new: str, **fields: tuple[str, ...]) -> tuple[FileRule, FileRule]:
    return file(old, "rename_from", **fields), file(new, "rename_to", **fields)


def test_a_rename_between_two_directories() -> None:
    assert of(*renamed("/srv/app/in/x", "/srv/app/out/x")) == Places(("/srv/app",))
    assert of(file("/srv/app/in/x", "create"), file("/srv/app/out/y", "create")).writable == (
        "/srv/app/in",
        "/srv/app/out",
    )


def test_files_that_are_renamed_in_place_keep_their_directories_apart() -> None:
    rules = (*renamed("/srv/a/x.new", "/srv/a/x"), *renamed("/srv/b/y{random}", "/srv/b/y"))
    assert of(*rules) == Places(("/srv/a", "/srv/b"))


def test_a_file_that_keeps_its_name_was_moved() -> None:
    rules = (*renamed("/srv/a/x.new", "/srv/a/x"), *renamed("/srv/b/y.new", "/srv/b/y"), file("/srv/b/x", "rename_to"))
    assert of(*rules, file("/srv/a/x", "rename_from")) == Places(("/srv",))


def test_a_maildir_stays_together() -> None:
    rules = (
        file("/srv/mail/tmp/{name}", "create", "rename_from"),
        file("/srv/mail/new/{name}", "rename_from", "rename_to"),
        file("/srv/mail/cur/{name}", "rename_from", "rename_to"),
        file("/srv/index/{name}", "create"),
    )
    assert of(*rules).writable == ("/srv/index", "/srv/mail")


def test_programs_that_rename_on_their_own() -> None:
    a, _ = renamed("/srv/a/x", "/srv/a/y", programs=("/a",))
    _, b = renamed("/srv/b/x", "/srv/b/y", programs=("/b",))
    assert of(a, b) == Places(("/srv/a", "/srv/b"))
    _, either = renamed("/srv/b/x", "/srv/b/y", programs=("/a", "/b"))
    assert of(a, either) == Places(("/srv",))


def test_a_link_to_a_file_that_is_only_read() -> None:
    assert of(file("/srv/a/out/x", "link", existing=("/srv/a/in/x",))) == Places(("/srv/a",))
    assert of(file("/srv/a/out/x", "link")) == Places(("/srv/a/out",)), "of what is not known"
    assert of(file("/srv/a/out/x", "link", existing=("x",))) == Places(("/srv/a/out",)), "a file without a directory"


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        ("/var/lib/a/x", "/var/cache/b/x", ("/var/cache/b", "/var/lib/a")),
        ("/var/lib/a/x", "/var/lib/b/x", ("/var/lib/a", "/var/lib/b")),
        ("/etc/a/x", "/etc/b/x", ("/etc/a", "/etc/b")),
        ("/tmp/x", "/srv/x", ("/srv", "/tmp")),
    ],
)
def test_what_is_shared_with_others_is_not_made_writable(old: str, new: str, places: tuple[str, ...]) -> None:
    pair = (old.rpartition("/")[0], new.rpartition("/")[0])
    assert of(*renamed(old, new)) == Places(places, (pair,))


def test_nothing_is_moved_into_what_is_mounted() -> None:
    assert of(*renamed("/data/x", "/srv/x"), mounted=("/data",)).apart == ()


def test_joined_directories_take_others_with_them() -> None:
    rules = (*renamed("/srv/a/x", "/srv/b/x"), file("/srv/c/x", "link", existing=("/srv/b/x",)), file("/srv/d", "make"))
    assert of(*rules) == Places(("/srv",))
