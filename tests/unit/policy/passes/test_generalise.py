"""What becomes of paths: every class, every tier, every reason for a directory rule, and what is never widened."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import file, touching, uses

from profiler.policy.chance import CAMEL, looks_random
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options
from profiler.policy.patterns import is_literal, matches, opens
from profiler.policy.reasons import said
from profiler.policy.tiers import tier_of
from profiler.trace.model import File

WIDE = Options(runtime="none")
UUID = "123e4567-e89b-12d3-a456-426614174000"
MD5 = "0123456789abcdef" * 2


def rules_of(*files: File, options: Options = WIDE, **meta: Any) -> dict[str, FileRule]:
    found = derive(touching(*files, **meta), options).files
    assert len({rule.pattern for rule in found}) == len(found)
    return {rule.pattern: rule for rule in found}


def patterns(*files: File, **meta: Any) -> set[str]:
    return set(rules_of(*files, **meta))


def made(path: str, words: str = "create write", **fields: Any) -> list[File]:
    return uses(path, words, own=True, **fields)


# Tiers.


@pytest.mark.parametrize(
    ("path", "tier"),
    [
        ("/etc/nginx/conf.d", "guarded"),
        ("/run/secrets/x", "guarded"),
        ("/run/app", "data"),
        ("/running/app", "guarded"),
        ("/dev/shm/x", "temporary"),
        ("/dev/sda", "guarded"),
        ("/proc/sys", "kernel"),
        ("/usr/bin", "guarded"),
        ("/usr/lib/x", "installed"),
        ("/usr/libexec/x", "guarded"),
        ("/somewhere/else", "guarded"),
        ("/", "guarded"),
        ("{home}/x", "guarded"),
        ("/var/lib/docker/x", "guarded"),
        ("/var/lib/{uuid}/x", "data"),
        ("/tmp", "temporary"),
    ],
)
def test_tiers(path: str, tier: str) -> None:
    assert tier_of(path)[0] == tier


GUARDED = [
    "/etc/app",
    "/proc/sys/app",
    "/sys/app",
    "/root/app",
    "/home/anna/app",
    "/run/secrets",
    "/var/run/secrets/x",
    "/boot/app",
    "/dev/app",
]
GUARDED += ["/usr/bin", "/bin", "/sbin", "/usr/sbin", "/usr/local/bin", "/elsewhere/app", "/var/lib/docker/app"]


@pytest.mark.parametrize("directory", GUARDED)
@pytest.mark.parametrize("words", ["read", "read write create"])
def test_never_by_directory(directory: str, words: str) -> None:
    names = [f"{a}{b}" for a in "abcdef" for b in "pqrst"]
    files = [row for name in names for row in uses(f"{directory}/{name}", words, own=True)]
    listing = uses(directory, "read list", kind="directory", own=True)
    trees = [row for sub in "xyzw" for name in names for row in uses(f"{directory}/{sub}/{name}", words, own=True)]
    found = rules_of(*files, *listing, *trees, runs=2)
    assert not any("{name}" in pattern or "{tree}" in pattern for pattern in found)
    assert len(found) == len(names) * 5 + 1


def test_two_files_in_etc_stay_two_rules() -> None:
    files = [*uses("/etc/a.conf", "read write"), *uses("/etc/b.conf", "read write")]
    rules = rules_of(*files)
    assert set(rules) == {"/etc/a.conf", "/etc/b.conf"}
    assert all(is_literal(pattern) for pattern in rules)


# Classes.


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        # everywhere, only used
        (f"/etc/app/{UUID}.json", "/etc/app/{uuid}.json"),
        (f"/etc/app/x-{UUID.upper()}/y", "/etc/app/x-{uuid}/y"),
        (f"/usr/share/app/main.{MD5}.js", "/usr/share/app/main.{hex}.js"),
        (f"/dev/mapper/{MD5}", "/dev/mapper/{hex}"),
        ("/etc/app/2026-01-31.conf", "/etc/app/2026-01-31.conf"),
        ("/etc/app/port1234.conf", "/etc/app/port1234.conf"),
        ("/etc/ssl/certs/5ed36f99.0", "/etc/ssl/certs/5ed36f99.0"),
        ("/usr/share/i18n/charmaps/ISO-8859-1.gz", "/usr/share/i18n/charmaps/ISO-8859-1.gz"),
        ("/usr/share/x/aB3dE9", "/usr/share/x/aB3dE9"),
        ("/etc/deadbeefdeadbeef", "/etc/deadbeefdeadbeef"),
        ("/etc/x" + MD5, "/etc/x" + MD5),
        # data, only used
        ("/var/log/app/2026-01-31.log", "/var/log/app/{date}.log"),
        ("/var/log/app/20260131T235959-5.log", "/var/log/app/{date}-5.log"),
        ("/var/lib/postgresql/15/main/base/16384/2619_fsm", "/var/lib/postgresql/15/main/base/{digits}/{digits}_fsm"),
        ("/var/lib/postgresql/15/main/pg_wal/000000010000000000000001", "/var/lib/postgresql/15/main/pg_wal/{hex}"),
        ("/var/lib/app/20261301", "/var/lib/app/{digits}"),
        ("/var/lib/app/9c8e1eb20260131e" + "0a" * 12, "/var/lib/app/{hex}"),
        ("/var/lib/app/v2/x1", "/var/lib/app/v2/x1"),
        ("/srv/repo/objects/ab/" + "c1" * 19, "/srv/repo/objects/{hex:2}/{hex}"),
        ("/var/lib/app/" + "1" * 30, "/var/lib/app/" + "1" * 30),
        # libraries
        ("/usr/lib/x86_64-linux-gnu/libz.so.1.2.13", "/usr/lib/x86_64-linux-gnu/libz.so.{version}"),
        ("/lib/ld-linux.so.2", "/lib/ld-linux.so.{version}"),
        ("/usr/lib/x86_64-linux-gnu/gconv/ISO8859-1.so", "/usr/lib/x86_64-linux-gnu/gconv/ISO8859-1.so"),
        ("/usr/lib/python3.11/os.py", "/usr/lib/python3.11/os.py"),
        ("/usr/share/perl/5.36.0/x.pm", "/usr/share/perl/5.36.0/x.pm"),
        ("/srv/libz.so.1.2.13", "/srv/libz.so.1.2.13"),
        # kept as they are
        ("/tmp/settings", "/tmp/settings"),
        ("/tmp/given.aB3dE9", "/tmp/given.aB3dE9"),
        ("/", "/"),
    ],
)
def test_names_only_used(path: str, pattern: str) -> None:
    assert patterns(file(path)) == {pattern}
    assert matches(pattern, path)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/etc/app/2026-01-31.conf", "/etc/app/{date}.conf"),
        ("/etc/app/port1234.conf", "/etc/app/port{digits}.conf"),
        ("/opt/app/run/worker20817.sock", "/opt/app/run/worker{digits}.sock"),
        ("/opt/app/run/worker7.sock", "/opt/app/run/worker7.sock"),
        ("/run/postgresql/.s.PGSQL.5432.lock", "/run/postgresql/.s.PGSQL.{digits}.lock"),
    ],
)
def test_names_the_workload_makes(path: str, pattern: str) -> None:
    assert patterns(*made(path)) == {pattern}


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/etc/sedaB3dE9", "/etc/sed{random:6}"),
        ("/etc/app/x.aB3dE9", "/etc/app/x.{random:6}"),
        ("/etc/aB3dE9", "/etc/aB3dE9"),  # or /etc/shadow
        ("/etc/aB3dE9.conf", "/etc/aB3dE9.conf"),  # or /etc/resolv.conf
        ("/root/aB3dE9", "{home}/aB3dE9"),
        ("/var/lib/aB3dE9", "/var/lib/aB3dE9"),  # or /var/lib/docker
        ("/var/lib/app/aB3dE9", "/var/lib/app/{random:6}"),
        ("/var/lib/app/temp-17.rdb", "/var/lib/app/temp-{digits}.rdb"),
        ("/srv/upload_qWeRtY.txt", "/srv/upload_{random:6}.txt"),
        ("/srv/tmpabcdefgh", "/srv/tmp{random:8}"),
        ("/srv/tmp.abcdefghij", "/srv/tmp.{random:10}"),
        ("/srv/settings.socket", "/srv/settings.socket"),
        ("/srv/README", "/srv/README"),
    ],
)
@pytest.mark.parametrize("words", ["create write remove", "create write rename_from"])
def test_names_made_and_taken_away(path: str, pattern: str, words: str) -> None:
    assert patterns(*made(path, words)) == {pattern}


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/tmp/php-aB3dE9", "/tmp/php-{random:6}"),
        ("/tmp/phpaB3dE9", "/tmp/php{random:6}"),
        ("/tmp/tmpab_defgh.sock", "/tmp/tmp{random:8}.sock"),
        ("/tmp/tmp.aaaaaaaaaa", "/tmp/tmp.{random:10}"),
        ("/dev/shm/sem.aB3dE9", "/dev/shm/sem.{random:6}"),
        ("/tmp/settings.socket", "/tmp/settings.socket"),
    ],
)
def test_temporary_names_left_behind(path: str, pattern: str) -> None:
    rule = rules_of(*made(path))[pattern]
    assert rule.owner
    assert matches(rule.pattern, path)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        # eight of Python's, with a prefix that ends in any way, or none
        ("foo_ab1_cdef", "foo_{random:8}"),
        ("foo1x8slnl4", "foo{random:8}"),
        ("1x8slnl4", "{random:8}"),
        ("fwzbxkqj", "{random:8}"),
        ("foo-abcdefgh.txt", "foo-{random:8}.txt"),
        # six of mkstemp(3), ten of mktemp(1)
        ("my_ab_Xy12Zq", "my_ab_{random:6}"),
        ("sedXy12Zq", "sed{random:6}"),
        ("x-Xy12ZqAAAA", "x-{random:10}"),
        ("x.AbCdEf", "x.{random:6}"),
        # suffixes of mkstemps(3): collect2 of gcc
        ("ccIXxISN.cdtor.c", "cc{random:6}.cdtor.c"),
        ("x-Xy12Zq.tar.gz", "x-{random:6}.tar.gz"),
        # sem_open(3): one of 60 names is all capitals, or all lower case
        ("sem.XVNIHQ", "sem.{random:6}"),
        ("sem.abcdef", "sem.{random:6}"),
        # none
        ("x-Tnsckv", "x-{random:6}"),
        ("work-Hrnxdg", "work-{random:6}"),
        ("sem.workers", "sem.workers"),
        ("work-server", "work-server"),
        ("work-Config", "work-Config"),
        ("passwd", "passwd"),
        ("lockfile.d", "lockfile.d"),
        ("lock", "lock"),
        ("server", "server"),
        ("Server", "Server"),
        ("a_b_c_d", "a_b_c_d"),
    ],
)
def test_where_the_random_part_begins(name: str, pattern: str) -> None:
    assert patterns(*made(f"/tmp/{name}", "create write remove")) == {f"/tmp/{pattern}"}


def test_a_semaphore_that_stays() -> None:
    assert patterns(*made("/dev/shm/sem.worker", "create write")) == {"/dev/shm/sem.worker"}


def test_numbers_are_not_random() -> None:
    """PostgreSQL's shared memory and its tables' free space maps."""
    assert patterns(*made("/dev/shm/PostgreSQL.1098765432")) == {"/dev/shm/PostgreSQL.{digits}"}
    tables = [f"/var/lib/pg/base/5/{number}_{word}" for number in (13397, 13398, 13412) for word in ("fsm", "vm")]
    found = patterns(*[row for path in tables for row in made(path)])
    assert found == {"/var/lib/pg/base/5/{digits}_fsm", "/var/lib/pg/base/5/{digits}_vm"}


def test_a_directory_made_gives_its_class_to_all_below() -> None:
    rules = rules_of(
        file("/tmp/tmp.aB3dE9xY12", "make", kind="directory"),
        file("/tmp/tmp.aB3dE9xY12", "remove", kind="directory", own=True),
        *made("/tmp/tmp.aB3dE9xY12/data"),
        file("/tmp/tmp.aB3dE9xY12/nothing", "look", "ENOENT"),
    )
    assert set(rules) == {"/tmp/tmp.{random:10}", "/tmp/tmp.{random:10}/data"}


def test_numbered_siblings() -> None:
    assert patterns(*[file(f"/var/lib/app/part{n}.db") for n in (1, 2)]) == {
        "/var/lib/app/part1.db",
        "/var/lib/app/part2.db",
    }
    assert patterns(*[file(f"/var/lib/app/part{n}.db") for n in (1, 2, 3)]) == {"/var/lib/app/part{digits}.db"}
    assert len(patterns(*[file(f"/etc/app/part{n}.db") for n in range(9)])) == 9
    cpus = [file(f"/sys/devices/system/cpu/cpu{n}/online") for n in range(2)]
    assert patterns(*cpus) == {"/sys/devices/system/cpu/cpu{digits}/online"}
    assert len(patterns(*[file(f"/dev/tty{n}", kind="char") for n in range(9)])) == 9


def test_random_siblings() -> None:
    names = ["aB3dE9", "xY7zQ2", "Pq8rS4"]
    assert patterns(*[file(f"/var/cache/x/sess_{name}") for name in names]) == {"/var/cache/x/sess_{random:6}"}
    assert len(patterns(*[file(f"/var/cache/x/sess_{name}") for name in names[:2]])) == 2
    assert patterns(*[file(f"/var/cache/x/sess_{name}", runs=1) for name in names[:2]], runs=2) == {
        "/var/cache/x/sess_{random:6}"
    }
    assert len(patterns(*[file(f"/var/cache/x/sess_{name}", runs=2) for name in names[:2]], runs=2)) == 2
    assert len(patterns(*[file(f"/etc/x/sess_{name}") for name in names])) == 3


def digest(number: int, length: int) -> str:
    return hashlib.sha512(str(number).encode()).hexdigest()[:length]


SPREADING: dict[str, Callable[[int], str]] = {
    "git": lambda n: f"/srv/r.git/objects/{digest(n, 2)}/{digest(n, 40)[2:]}",
    "git, in /etc": lambda n: f"/etc/.git/objects/{digest(n, 2)}/{digest(n, 40)[2:]}",
    "Go": lambda n: f"/root/.cache/go-build/{digest(n, 2)}/{digest(n, 64)}-a",
    "npm": lambda n: f"/srv/_cacache/content/sha512/{digest(n, 2)}/{digest(n, 4)[2:]}/{digest(n, 128)[4:]}",
    "nginx": lambda n: f"/var/cache/nginx/{digest(n, 32)[-1]}/{digest(n, 32)[-3:-1]}/{digest(n, 32)}",
    "nginx, being written": lambda n: f"/var/cache/nginx/{digest(n, 32)[-1]}/{digest(n, 32)}.{n:010}",
    "nginx, temporary": lambda n: f"/var/lib/nginx/proxy/{n % 10}/{n // 10 % 100:02}/{n:010}",
    "squid": lambda n: f"/var/spool/squid/{n % 16:02X}/{n % 256:02X}/{n:08X}",
}


@pytest.mark.parametrize("maker", SPREADING)
@pytest.mark.parametrize("count", [1, 5])
def test_directories_that_spread_files(maker: str, count: int) -> None:
    make = SPREADING[maker]
    paths = [make(n) for n in range(700, 700 + count)]
    files = [
        row
        for path in paths
        for row in (*made(path), file(path.rpartition("/")[0], "make", kind="directory", own=True))
    ]
    found = patterns(*files)
    for n in range(800, 840):
        assert any(matches(pattern, make(n)) for pattern in found), make(n)
        assert any(matches(pattern, make(n).rpartition("/")[0]) for pattern in found)
    top = paths[0].split("/")[:4]
    for alien in ("info/packs", "pack/x.pack", "zz/" + "0" * 38, "secret", "../etc/shadow"):
        assert not any(matches(pattern, "/".join([*top, alien])) for pattern in found)


def test_directories_that_only_look_so() -> None:
    assert patterns(file("/srv/db/" + "0f" * 16)) == {"/srv/db/{hex}"}
    assert patterns(file("/srv/ab/data")) == {"/srv/ab/data"}
    assert patterns(file("/srv/add/" + "0f" * 20)) == {"/srv/add/{hex}"}


def test_one_recording_or_five() -> None:
    """Recordings of one application, apart and together, give the same rules."""
    apart = derive(touching(*recording(1)), WIDE).files
    rows = {row.key: row for seed in range(5) for row in recording(seed)}
    differing = [dataclasses.replace(row, runs=5 if row.path == "/etc/app/conf" else 1) for row in rows.values()]
    together = derive(touching(*differing, runs=5), WIDE).files
    assert {rule.pattern for rule in together} == {rule.pattern for rule in apart}


def test_home() -> None:
    rules = rules_of(
        file("/home/anna/.config/x", own=True),
        file("/root/.config/x", own=True),
        file("/root", own=True, kind="directory"),
    )
    assert set(rules) == {"{home}/.config/x", "{home}"}
    assert rules["{home}/.config/x"].owner
    assert opens("{home}/.config/x") == "any user's home directory"
    # somebody else's home is no variable
    assert patterns(file("/home/anna/.config/x"), file("/home", own=True), file("/rooted/x", own=True)) == {
        "/home/anna/.config/x",
        "/home",
        "/rooted/x",
    }
    assert patterns(file("/root/.x", "read", own=True)) == {"{home}/.x"}


def test_executables_and_links_follow() -> None:
    files = [
        *made("/tmp/build.aB3dE9/prog", "create write execute map remove"),
        file("/tmp/build.aB3dE9", "make", kind="directory"),
    ]
    rules = rules_of(*files, file("/tmp/b", "link", existing="/tmp/build.aB3dE9/prog"))
    assert set(rules) == {"/tmp/build.{random:6}/prog", "/tmp/build.{random:6}", "/tmp/b"}
    assert rules["/tmp/b"].existing == ("/tmp/build.{random:6}/prog",)


# Directories.

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
WORDS += [
    "lambda",
    "mu",
    "nu",
    "xi",
    "omikron",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
    "digamma",
]


def in_directory(directory: str, count: int, words: str = "read", **fields: Any) -> list[File]:
    return [row for name in WORDS[:count] for row in uses(f"{directory}/{name}", words, **fields)]


def test_many_files_of_a_directory_become_one_rule() -> None:
    rules = rules_of(*in_directory("/var/lib/x", 20))
    assert set(rules) == {"/var/lib/x/{name}"}
    rule = rules["/var/lib/x/{name}"]
    assert all(matches(rule.pattern, f"/var/lib/x/{name}") for name in WORDS[:20])
    assert opens(rule.pattern) == "any name in this directory"
    assert rule.access == ("read",)
    assert rule.because == (said("generalised", "10 or more names of this directory were used alike"),)
    assert len(rules_of(*in_directory("/var/lib/x", 9))) == 9


def test_threshold() -> None:
    files = in_directory("/var/lib/x", 5)
    assert len(rules_of(*files, options=Options(runtime="none", generalise_threshold=5))) == 1
    assert len(rules_of(*files, options=Options(runtime="none", generalise_threshold=6))) == 5
    assert len(rules_of(*in_directory("/var/lib/x", 20), options=Options(runtime="none", generalise=False))) == 20


@pytest.mark.parametrize("directory", ["/var/lib", "/usr/share", "/usr/lib/x86_64-linux-gnu", "/run", "/srv", "/opt"])
def test_not_in_directories_that_many_share(directory: str) -> None:
    assert len(rules_of(*in_directory(directory, 20))) == 20


def test_temporary_directories_themselves_only_for_own_files() -> None:
    assert set(rules_of(*in_directory("/tmp", 20, "create write", own=True))) == {"/tmp/{name}"}
    assert len(rules_of(*in_directory("/tmp", 20))) == 20


def test_a_listing_and_three_files() -> None:
    listing = uses("/usr/share/fonts/x", "read list", kind="directory")
    assert set(rules_of(*listing, *in_directory("/usr/share/fonts/x", 3))) == {
        "/usr/share/fonts/x",
        "/usr/share/fonts/x/{name}",
    }
    assert len(rules_of(*listing, *in_directory("/usr/share/fonts/x", 2))) == 3
    assert len(rules_of(*listing, *in_directory("/usr/share/fonts/x", 3, "create write", own=True))) == 4


def test_runs_that_differ() -> None:
    assert set(rules_of(*in_directory("/var/lib/x", 3, runs=1), runs=2)) == {"/var/lib/x/{name}"}
    assert len(rules_of(*in_directory("/var/lib/x", 3, runs=2), runs=2)) == 3
    assert len(rules_of(*in_directory("/var/lib/x", 3, runs=1), runs=1)) == 3


@pytest.mark.parametrize("words", ["read map", "execute", "read map execute"])
def test_executables_never_by_directory(words: str) -> None:
    files = in_directory("/opt/app/bin", 25, words)
    assert len(rules_of(*files, *in_directory("/opt/app/x/y", 25, words), runs=2)) == 50


def test_no_rule_that_writes_takes_in_code_of_others() -> None:
    names = in_directory("/var/lib/x", 12, "read write create", own=True)
    trees = [row for place in "abcd" for row in in_directory(f"/opt/app/{place}", 6, "read write create", own=True)]
    assert len(rules_of(*names, *trees)) == 2
    plugins = [*uses("/var/lib/x/plugin.so", "read map"), *uses("/opt/app/a/tool", "execute")]
    assert len(rules_of(*names, *trees, *plugins)) == 12 + 24 + 2
    built = [row for path in ("/var/lib/x/a.so", "/opt/app/a/tool") for row in uses(path, "write create map", own=True)]
    assert len(rules_of(*names, *trees, *built)) == 4, "what it wrote itself it may write"


def test_writing_only_where_the_workload_makes_files() -> None:
    assert len(rules_of(*in_directory("/var/lib/x", 20, "read write"))) == 20
    rules = rules_of(*in_directory("/var/lib/x", 20, "read write"), file("/var/lib/x/new", "create"))
    assert rules["/var/lib/x/{name}"].access == ("read", "write")
    assert "/var/lib/x/new" in rules, "creating was seen of one name only"


def test_what_needs_more_stays_apart() -> None:
    rules = rules_of(
        *in_directory("/var/lib/x", 20), *uses("/var/lib/x/journal", "read write"), *uses("/var/lib/x/tool", "read map")
    )
    assert rules["/var/lib/x/{name}"].access == ("read",)
    assert set(rules) == {"/var/lib/x/{name}", "/var/lib/x/journal", "/var/lib/x/tool"}


def test_own_files_do_not_open_those_of_others() -> None:
    own = in_directory("/var/lib/x", 12, "create write", own=True)
    others = [file(f"/var/lib/x/other-{name}", "write") for name in WORDS[:11]]
    rules = rules_of(*own, *others)
    assert rules["/var/lib/x/{name}"].owner
    assert len(rules) == 12


def test_trees() -> None:
    zones = [
        row
        for place in ("Africa", "America", "Asia", "Europe")
        for row in in_directory(f"/usr/share/zoneinfo/{place}", 6)
    ]
    listings = [
        file(f"/usr/share/zoneinfo/{place}", word, kind="directory")
        for place in ("Africa", "Asia")
        for word in ("read", "list")
    ]
    rules = rules_of(*zones, *listings, file("/usr/share/zoneinfo/tzdata"))
    assert set(rules) == {"/usr/share/zoneinfo/{tree}"}
    assert opens("/usr/share/zoneinfo/{tree}") == "everything below this directory"
    assert rules["/usr/share/zoneinfo/{tree}"].kinds == ("file", "directory")
    two = [row for place in ("Africa", "Asia") for row in in_directory(f"/usr/share/zoneinfo/{place}", 9)]
    assert len(rules_of(*two)) == 18
    written = [row for place in "abcd" for row in in_directory(f"/var/lib/x/{place}", 6, "read write")]
    assert len(rules_of(*written)) == 24
    created = [row for place in "abcd" for row in in_directory(f"/var/lib/x/{place}", 6, "create write", own=True)]
    assert set(rules_of(*created)) == {"/var/lib/x/{tree}"}
    assert len(rules_of(*[row for place in "abcd" for row in in_directory(f"/srv/{place}", 6)])) == 24, (
        "not in /srv itself"
    )


def test_no_directory_rule_opens_what_is_never_widened() -> None:
    files = [
        row for place in ("dfs", "netlogon", "printing", "sysvol") for row in in_directory(f"/var/lib/samba/{place}", 6)
    ]
    assert len(rules_of(*files)) == 24, "/var/lib/samba/private is below the same directory"
    listed = [row for name in WORDS[:12] for row in uses(f"/var/lib/samba/{name}", "read list", kind="directory")]
    assert len(rules_of(*listed)) == 12


def test_trees_hold_directory_rules() -> None:
    files = [row for place in "abcd" for row in in_directory(f"/srv/www/{place}", 12)]
    rules = rules_of(*files)
    assert set(rules) == {"/srv/www/{tree}"}
    assert not any("names of this directory" in reason.text for reason in rules["/srv/www/{tree}"].because)


def test_missing_files_open_nothing() -> None:
    assert rules_of(*in_directory("/var/lib/x", 20, results="ENOENT")) == {}


# Two recordings of one application.


def recording(seed: int) -> list[File]:
    """The same application with other pids, temporary names, dates and identifiers."""
    chance = random.Random(seed)

    def name(length: int) -> str:
        # as mkstemp(3) makes them, but for the few that look like a word, with a number or without
        while True:
            text = "".join(chance.choice(string.ascii_letters + string.digits) for _ in range(length))
            if looks_random(text, CAMEL) and re.search("[A-Z]", text) and re.search("[0-9].*[a-z]", text):
                return text

    pid, child = chance.randrange(2, 99), chance.randrange(100, 4_000_000)
    day = f"20{chance.randrange(20, 40)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
    uuid = f"{chance.getrandbits(128):032x}"
    uuid = "-".join([uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]])
    folder = f"/tmp/app-{name(8)}"
    return [
        file(f"/proc/{pid}/maps", whose="self"),
        file(f"/proc/{child}/task/{child}/stat", whose="workload"),
        *made(f"/etc/app/sed{name(6)}", "create write rename_from"),
        file("/etc/app/conf", "rename_to", own=True),
        *made(f"/tmp/x.{name(6)}", "create write remove"),
        file(folder, "make", kind="directory"),
        *made(f"{folder}/socket", "bind remove", kind="socket"),
        *made(f"/var/log/app/{day}.log"),
        *made(f"/var/log/app/{day.replace('-', '')}T235959.{chance.randrange(1000, 99999)}.log"),
        *made(f"/var/lib/app/{uuid}/state"),
        *made(f"/run/app/{name(10)}.sock", "bind remove", kind="socket"),
        *made(f"/var/lib/app/temp-{pid}.rdb", "create write rename_from"),
        file(f"/var/lib/app/{chance.getrandbits(160):040x}.blob"),
        file(f"/usr/lib/libx.so.{chance.randrange(9)}.{chance.randrange(99)}", "map"),
        file(f"/dev/pts/{chance.randrange(9)}", "write", kind="char"),
    ]


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_two_recordings_give_the_same_rules(one: int, other: int) -> None:
    def plain(seed: int) -> list[tuple[object, ...]]:
        rules = derive(touching(*recording(seed)), WIDE).files
        return [dataclasses.astuple(rule) for rule in rules]

    assert plain(one) == plain(other)


@given(st.integers(0, 1 << 32))
def test_every_path_fits_its_rule(seed: int) -> None:
    rows = recording(seed)
    rules = derive(touching(*rows), WIDE).files
    assert all(any(matches(rule.pattern, row.path) for rule in rules) for row in rows)
