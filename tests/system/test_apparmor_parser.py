"""Hostile file names against the real apparmor_parser: profiles load, and mean the named file and no other."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from system.apparmor_dfa import STRICT, Compiled, compiled, parser
from unit.targets.policies import CLASSES, SIZED, file, policies, policy, subset
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy, Variable
from profiler.quoting import apparmor as quoting_apparmor
from profiler.targets.apparmor.naming import profile_name
from profiler.targets.apparmor.rules import modes_of
from profiler.targets.rendering import render_one
from profiler.trace.model import FILES_FEATURE, Trace

pytestmark = pytest.mark.skipif(
    shutil.which("apparmor_parser") is None, reason="needs Debian's package apparmor (tests/packages.sh)"
)

AWKWARD = [
    b" ",
    b'"',
    b"'",
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b"*",
    b"**",
    b"?",
    b"^",
    b",",
    b"#",
    b"!",
    b"@",
    b"@{",
    b"@{HOME}",
    b"@{PROC}",
    b"${x}",
    b"$",
    b"|",
    b"(",
    b")",
    b"+",
    b".",
    b"-",
    b"->",
    b"=",
    b"&",
    b":",
    b";",
    b"<",
    b">",
    b"~",
    b"\n",
    b"\r",
    b"\t",
    b"\x01",
    b"\x1b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\x98\x80",
    b" (deleted)",
    b"deleted",
    b"\\012",
    b"\\x41",
    b"\\d65",
    b"\\*",
    b'\\"',
    b'"\\',
    b"a",
    b"1",
    b"0",
    b" r,\n  /** rw,\n",
    b'" rw,\n  "/**',
    b"{a,b}",
    b"[a-z]",
    b"include <x>",
    b"#include",
    b"/",
    b"//deleted",
]
NAMES = st.lists(st.sampled_from(AWKWARD) | st.binary(min_size=1, max_size=3), min_size=1, max_size=6).map(b"".join)
PATHS = NAMES.map(lambda raw: b"/" + b"/".join(part for part in raw.replace(b"\0", b"\n").split(b"/") if part)).filter(
    lambda path: path != b"/"
)
"""Paths as the kernel names files: any bytes but NUL, no two slashes in a row, none at the end."""
PROBES = (
    b"/",
    b"/x",
    b"/etc/shadow",
    b"/etc/passwd",
    b"/root/.ssh/id_rsa",
    b"/proc/1/mem",
    b"/home/user/file",
    b"/bin/sh",
    b"/tmp/",
    b"/ ",
    b"/\n",
)


def profile(paths: list[bytes]) -> bytes:
    rules = "".join(f"  {quoting_apparmor.apparmor(os.fsdecode(path))} r,\n" for path in paths)
    text = (
        "abi <abi/3.0>,\ninclude <tunables/global>\nprofile t "
        f"{{\n  /the/last/rule w,\n{rules}  /after/all/of/them w,\n}}\n"
    )
    return text.encode("utf-8")


def siblings(path: bytes, place: int, byte: int) -> set[bytes]:
    """The same name with one byte more, one less, one changed; and what a reader who did not unescape, or did so twice,
    would match."""
    at = 1 + place % (len(path) - 1)
    changed = path[:at] + bytes([byte]) + path[at + 1 :]
    more = {
        path + b"x",
        path + b"/",
        path + b"\n",
        path + bytes([byte]),
        path[:-1],
        path[:at] + path[at + 1 :],
        changed,
        b"/" + path,
    }
    more |= {
        path.replace(b"\\", b""),
        path.replace(b"\\", b"\\\\"),
        path[:at] + b"\\" + path[at:],
        path + b" (deleted)",
        path + b"//deleted",
    }
    return more


def check(paths: list[bytes], others: set[bytes]) -> Compiled:
    found = compiled(profile(paths))["t"]
    for path in paths:
        assert found.allows(path) == "r", path
        assert found.allows(path, owner=True) == "r", path
    for path in others - set(paths):
        assert found.allows(path) == "", path
    assert found.allows(b"/the/last/rule") == found.allows(b"/after/all/of/them") == "aw"
    assert found.others is None or not found.other(b"\x0a\x0funconfined")  # no rule of another class came from a name
    return found


@given(st.lists(st.tuples(PATHS, st.integers(0, 200), st.integers(1, 255)), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_any_name_means_itself(drawn: list[tuple[bytes, int, int]]) -> None:
    paths = list(dict.fromkeys(path for path, _, _ in drawn))
    check(paths, {sibling for path, place, byte in drawn for sibling in siblings(path, place, byte)} | set(PROBES))


@pytest.mark.parametrize(
    "form",
    [
        b"/%s",
        b"/a%sb",
        b"/a%s",
        b"/%s%s",
        b"/a%s1",
        b"/a\\%s",
        b"/@%s",
        b"/@{%s}",
        b'/%s"',
        b"/[%s]",
        b"/{%s,b}",
        b"/%s (deleted)",
    ],
)
def test_every_byte(form: bytes) -> None:
    paths = list(dict.fromkeys(form.replace(b"%s", bytes([byte])) for byte in range(1, 256) if byte != ord("/")))
    check(paths, {path + b"x" for path in paths} | {path[:-1] for path in paths} | set(PROBES))


def test_the_awkward_in_pairs() -> None:
    clean = [piece for piece in AWKWARD if b"/" not in piece]
    paths = list(dict.fromkeys(b"/d/" + one + two for one in clean for two in clean))
    check(paths, {path + b"." for path in paths} | set(PROBES))


@pytest.mark.parametrize("byte", [b"a", b"*", b"\n", b"\xff", b'"'])
def test_the_longest_path(byte: bytes) -> None:
    """4,095 bytes are the longest path a call can name (PATH_MAX, limits.h, with the NUL); the parser's buffer is what
    bounds it."""
    path = (b"/" + byte * 255) * 15 + b"/" + byte * 254
    assert len(path) == 4095
    check([path], {path[:-1], path + b"x", path[:-1] + b"b"})


def test_what_cannot_be_said() -> None:
    for text in ("/a//b", "//deleted", "/a\0b", "/" + "\n" * 4096):
        with pytest.raises(quoting_apparmor.Inexpressible):
            quoting_apparmor.apparmor(text)


def test_two_readings_of_one_pattern() -> None:
    """Text next to a piece of pattern stays text."""
    path = quoting_apparmor.apparmor(["/d/[", quoting_apparmor.Glob("[0-9]"), "]{", quoting_apparmor.Glob("?*"), "}"])
    found = compiled(f"abi <abi/3.0>,\nprofile t {{\n  {path} r,\n}}\n".encode())["t"]
    assert found.allows(b"/d/[7]{name}") == "r"
    assert [found.allows(other) for other in (b"/d/7name", b"/d/[x]{name}", b"/d/[7]{}", b"/d/[7]{a/b}")] == [
        "",
        "",
        "",
        "",
    ]


# Whole profiles


@given(policies(), st.booleans(), st.booleans(), st.sampled_from([None, "/usr/sbin/app", '/o "p" {t}/*']))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_any_policy_makes_a_profile_that_loads(
    made: Policy, complain: bool, children: bool, attach: str | None
) -> None:
    options = {"attach": attach, "complain": complain, "children": children and not made.no_new_privs}
    text = profile_of(made, **options)
    done = parser(text, *STRICT)
    assert done.returncode == 0, (done.stderr.decode("utf-8", "replace"), text.decode())
    assert not done.stderr
    names = parser(text, "-N").stdout.decode().split()
    assert names[0] == profile_name(made)
    assert all(name.startswith(names[0] + "//") for name in names[1:])
    assert text == profile_of(made, **options)


@given(traces(), st.sampled_from(["none", "any"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_any_trace_makes_a_profile_that_loads(recording: Trace, runtime: str) -> None:
    recording = replace(recording, meta=replace(recording.meta, features=(*recording.meta.features, FILES_FEATURE)))
    try:
        made = derive(recording, Options(runtime=runtime))
    except InputError:
        return
    done = parser(profile_of(made), *STRICT)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")


def profile_of(made: Policy, **options: object) -> bytes:
    return render_one("apparmor", made, options).files[0].data


def rules_of(made: Policy, **options: object) -> Compiled:
    return compiled(profile_of(made, **options))[profile_name(made)]


PLACES = {"alone": "/x/%s", "inside": "/x/a%sb", "below": "/x/%s/b", "first": "/x/%sb", "last": "/x/a%s"}
REACH = {"pid": "[1-9][0-9]{0,3}", "tid": "[1-9][0-9]{0,3}"}
"""@{pid} of AppArmor ends at 4,999,999: more than any process has, less than seven nines."""


@pytest.mark.parametrize(
    "name", [*sorted(set(patterns.CLASSES) - {"home", "name", "tree"}), *SIZED, "random:6", "upper:1-128"]
)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_class_means_what_its_regular_expression_means(name: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(sorted(PLACES.values())))
    pattern = place.replace("%s", f"{{{name}}}")
    found = rules_of(policy(file(pattern, "read")))
    regex = st.from_regex(
        REACH.get(name, (patterns.sort_of(name) or patterns.CLASSES["name"]).regex),
        fullmatch=True,
        alphabet=st.characters(max_codepoint=127),
    )
    inside = data.draw(st.lists(regex, min_size=10, max_size=30))
    for text in inside:
        assert found.allows(place.replace("%s", text).encode()) == "r", (pattern, text)
    changes = st.tuples(
        st.sampled_from(inside),
        st.integers(0, 200),
        st.sampled_from(["", "0", "g", "_", "-", ".", "ff", "/", " ", "00", "é"]),
    )
    for text, at, change in data.draw(st.lists(changes, min_size=20, max_size=60)):
        at %= len(text) + 1
        for other in (text[:at] + change + text[at:], text[:at] + change + text[at + 1 :]):
            path = place.replace("%s", other)
            assert (found.allows(path.encode()) == "r") == patterns.matches(pattern, path), (pattern, path)


@pytest.mark.parametrize("name", ["name", "tree"])
@pytest.mark.parametrize("place", sorted(PLACES.values()))
def test_open_classes(name: str, place: str) -> None:
    pattern = place.replace("%s", f"{{{name}}}")
    found = rules_of(policy(file(pattern, "read")))
    for text in ("", "c", "c d", "c/d", "\n", "é", ".", "cc/d/e", "b", "/", "c/"):
        path = place.replace("%s", text)
        if "//" in path or path.endswith("/"):
            continue  # no file is named so
        assert (found.allows(path.encode()) == "r") == patterns.matches(pattern, path), (pattern, path)


def test_homes() -> None:
    found = rules_of(policy(file("{home}/.config/{name}", "read"), file("{home}", "list", kinds=("directory",))))
    allowed = {b"/root/.config/a", b"/home/user/.config/a", b"/root/", b"/home/u/"}
    refused = {
        b"/root",
        b"/home/",
        b"/home/a/b/.config/a",
        b"/root/.config/",
        b"/root/.config/a/b",
        b"/.config/a",
        b"/home/.config/a",
    }
    assert {path for path in allowed | refused if found.allows(path)} == allowed


def test_directories_end_with_a_slash() -> None:
    found = rules_of(
        policy(
            file("/d", "list", kinds=("directory",)),
            file("/f", "read"),
            file("/u", "read", kinds=("unknown",)),
            file("/", "list"),
        )
    )
    assert [found.allows(path) for path in (b"/d/", b"/d", b"/f", b"/f/", b"/u", b"/u/", b"/", b"//")] == [
        "r",
        "",
        "r",
        "",
        "r",
        "r",
        "r",
        "",
    ]


@given(
    PATHS.filter(lambda path: not path.endswith(b"/")),
    PATHS,
    NAMES.filter(lambda name: b"/" not in name and b"\0" not in name),
)
@settings(max_examples=25, deadline=None)
def test_a_place_with_a_variable_means_its_paths(one: bytes, other: bytes, name: bytes) -> None:
    places = sorted({os.fsdecode(one), os.fsdecode(other)})
    rules = [file(patterns.literal(f"{place}/{os.fsdecode(name)}"), "read", "execute") for place in places]
    made = policy(*rules, variables=(Variable("volume_x", tuple(places), ("volume x",)),))
    text = profile_of(made)
    assert text.count(b'"@{volume_x}/') == 1
    found = rules_of(made)
    for place in (one, other):
        assert "r" in found.allows(place + b"/" + name)
        assert found.allows(place) == ""
        assert found.allows(place + b"/" + name + b"x") == ""
    assert found.allows(b"/other/" + name) == "" or b"/other" in (one, other)


MOUNTED = ["/v", "/v/w", "/v/w/a,b", "/srv/x y", "/srv/{a}*"]
TEXTS = {
    "date": "2026-01-31",
    "digits": "12",
    "hex": "0123456789abcdef",
    "name": "q {r}",
    "pid": "7",
    "tid": "7",
    "random": "passwd",
    "hex:2": "a0",
    "hex:1-16": "a0",
    "lower:7-13": "abcdefg",
    "base64:3": "a-_",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "version": "1.2",
}
PIECES = (
    st.sampled_from(["w", "a,b", "a", "1", "{a}*", "@{HOME}", "é", "\udcff", "x y", "[r]"]).map(patterns.Literal)
    | CLASSES
)
WORDS = subset(("read", "write", "append", "execute", "map", "lock", "list", "rename_from", "times"), 1)
KINDS = st.sampled_from([("file",), ("directory",), ("file", "directory"), ("unknown",)])


@st.composite
def below_mounts(draw: st.DrawFn) -> Policy:
    """Rules below mounts that lie in one another, of variables with several places."""
    places = st.sets(st.sampled_from(MOUNTED), min_size=1, max_size=2).map(lambda found: tuple(sorted(found)))
    variables = tuple(Variable(name, draw(places), ()) for name in ("mount_v", "volume_x"))
    rules: dict[str, FileRule] = {}
    for _ in range(draw(st.integers(1, 8))):
        tail = patterns.dumps([patterns.Literal("/"), *draw(st.lists(PIECES, min_size=1, max_size=2))])
        row = file(tail, *draw(WORDS), kinds=draw(KINDS), owner=draw(st.booleans()))
        for place in draw(
            st.sampled_from([*(variable.paths for variable in variables), *((place,) for place in MOUNTED)])
        ):
            pattern = patterns.literal(place) + tail
            rules.setdefault(pattern, replace(row, pattern=pattern))
    return policy(*rules.values(), variables=variables)


def letters(made: Policy, path: str, owner: bool) -> set[str]:
    """What the policy says of a path, a directory's with a slash at its end."""
    found: set[str] = set()
    for rule in made.files:
        if patterns.matches(rule.pattern, path.removesuffix("/")):
            as_directory = rule.kinds == ("unknown",) or "directory" in rule.kinds
            modes = (
                set(modes_of(rule)) if (as_directory if path.endswith("/") else rule.kinds != ("directory",)) else set()
            )
            modes = modes - {"x"} | (
                {"x", "m"} if "execute" in rule.access and not path.endswith("/") else set()
            )  # ix maps as well
            found |= modes if owner or not rule.owner else {"w"} & modes if "append" in rule.access else set()
    return found


@given(below_mounts())
@settings(max_examples=60, deadline=None)
def test_file_rules_mean_what_the_policy_says(made: Policy) -> None:
    found = rules_of(made)
    tails = {
        "".join(
            TEXTS[part.name] if isinstance(part, patterns.Class) else part.text for part in patterns.parse(rule.pattern)
        )
        for rule in made.files
    }
    tails = {text[len(place) :] for text in tails for place in MOUNTED if text.startswith(place + "/")}
    for path in {place + tail + more for place in MOUNTED for tail in tails for more in ("", "/", "x", "/a")}:
        for owner in (False, True):
            got = set(found.allows(path.encode("utf-8", "surrogateescape"), owner=owner)) - {"a"}
            assert got == letters(made, path, owner), (path, owner)


def test_owners_only() -> None:
    found = rules_of(
        policy(file("/a", "read", "write", owner=True), file("/a", "read"), file("/b", "write", owner=True))
    )
    assert (found.allows(b"/a"), found.allows(b"/a", owner=True)) == ("r", "arw")
    assert (found.allows(b"/b"), found.allows(b"/b", owner=True)) == ("", "aw")


def test_links_name_both_ends() -> None:
    found = rules_of(policy(file("/a/new", "link", existing=("/b/old", "/b/{digits}"))))
    assert found.link(b"/a/new", b"/b/old")
    assert found.link(b"/a/new", b"/b/12")
    assert not found.link(b"/a/new", b"/etc/shadow")
    assert not found.link(b"/b/old", b"/a/new")
    assert set(found.allows(b"/a/new")) <= {"l"}


def test_paths_below_proc() -> None:
    found = rules_of(
        policy(
            file("/proc/{pid}/status", "read"),
            file("/proc/sys/kernel/{name}", "read"),
            file("/proc", "list", kinds=("directory",)),
        )
    )
    allowed = {b"/proc/1/status", b"/proc/4194304/status", b"/proc/sys/kernel/x", b"/proc/"}
    refused = {
        b"/proc/self/status",
        b"/proc/0/status",
        b"/proc/1/stat",
        b"/proc//1/status",
        b"/proc/sys/kernel/",
        b"/proc/sys/x/y",
    }
    assert {path for path in allowed | refused if found.allows(path)} == allowed
