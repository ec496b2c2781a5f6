"""Where volumes are mounted: named once, written with the name, read back to the same rules, and never more than was
there before."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import file, touching, uses

from profiler.errors import InputError
from profiler.policy import document
from profiler.policy.derive import derive
from profiler.policy.merge import intersect, merge
from profiler.policy.model import FileRule, MountRule, Options, Policy, SocketRule, Transition, Variable
from profiler.policy.patterns import literal, matches
from profiler.policy.reasons import said
from profiler.policy.threeway import three_way
from profiler.policy.variables import folded, unfolded
from profiler.review import rights
from profiler.review.diff import compare
from profiler.review.explain import Explainer
from profiler.targets.rendering import render_one
from profiler.trace import merge as traces
from profiler.trace.model import Container, ContainerMount, Exec, File, Trace

BARE = Options(runtime="none")
WHY = (said("mounted", "volume db"),)


def volume(destination: str, name: str = "db", kind: str = "volume", read_only: bool = False) -> ContainerMount:
    return ContainerMount(kind, name, destination, read_only)


def recorded(*files: File, mounts: tuple[ContainerMount, ...] = (), execs: tuple[Exec, ...] = (), **meta: Any) -> Trace:
    return touching(*files, container=Container("docker", "runc", "ab" * 32, "db", mounts=mounts), execs=execs, **meta)


def derived(*files: File, mounts: tuple[ContainerMount, ...] = (), **meta: Any) -> Policy:
    return derive(recorded(*files, mounts=mounts, **meta), BARE)


def files_of(policy: Policy) -> list[str]:
    """The lines of the written policy that name files."""
    text = document.dumps(policy)
    return [
        line.strip().partition(": {")[0].rstrip(":").strip('"')
        for line in text.split("\nfiles:\n")[1].partition("\n\n")[0].splitlines()
        if line.startswith("  ") and line[2] != " "
    ]


def again(policy: Policy) -> Policy:
    text = document.dumps(policy)
    found = document.loads(text.encode(), "policy.yaml")
    assert document.dumps(found) == text
    assert set(found.files) == set(policy.files)
    assert set(found.transitions) == set(policy.transitions)
    assert set(found.sockets) == set(policy.sockets)
    assert set(found.mounts) == set(policy.mounts)
    return found


def allows(policy: Policy, path: str, access: str) -> bool:
    return any(access in rule.access and matches(rule.pattern, path) for rule in policy.files)


def test_one_line_moves_a_mount() -> None:
    made = derived(
        *uses("/data/a.db", "read write"),
        file("/data", "list", kind="directory"),
        file("/database", "read"),
        mounts=(volume("/data/"),),
    )
    assert made.variables == (Variable("volume_db", ("/data",), WHY),)
    assert files_of(made) == ["/database", "{@volume_db}", "{@volume_db}/a.db"]
    text = document.dumps(made)
    assert text.count("/data") - text.count("/database") == 1
    assert allows(again(made), "/data/a.db", "write")
    moved = document.loads(text.replace("paths: [/data]", "paths: [/srv/data]").encode(), "policy.yaml")
    assert allows(moved, "/srv/data/a.db", "write")
    assert allows(moved, "/srv/data", "list")
    assert not any(rule.pattern.startswith("/data/") for rule in moved.files)
    two = document.loads(text.replace("paths: [/data]", "paths: [/srv/data, /data]").encode(), "policy.yaml")
    assert allows(two, "/srv/data/a.db", "write")
    assert allows(two, "/data/a.db", "write")
    assert files_of(again(two)) == files_of(made)
    assert files_of(document.loads(text.replace("volume_db", "volume_x").encode(), "policy.yaml")) == [
        "/database", "{@volume_x}", "{@volume_x}/a.db"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mount", "name", "why"),
    [
        (volume("/data", "my.app-db"), "volume_my_app_db", "volume my.app-db"),
        (volume("/var/lib/mysql", "ab" * 32), "mount_var_lib_mysql", "volume without a name"),
        (volume("/var/lib/mysql", ""), "mount_var_lib_mysql", "volume without a name"),
        (volume("/etc/nginx/conf.d", "/srv/conf", "bind", True), "mount_etc_nginx_conf_d", "bind mount, read-only"),
        (volume("/\u8cc7", "/srv", "bind"), "mount_path", "bind mount"),
        (volume("/a b\n{x}\udcff", "/srv", "bind"), "mount_a_b_x", "bind mount"),
        (volume("/" + "long/" * 30 + "x", "/srv", "bind"), ("mount_" + "long_" * 10), "bind mount"),
    ],
)
def test_names(mount: ContainerMount, name: str, why: str) -> None:
    made = derived(file(f"{mount.destination}/f", "read"), mounts=(mount,))
    assert [(row.name, row.because) for row in made.variables] == [(name, (said("mounted", why),))]
    assert files_of(again(made)) == [f"{{@{name}}}/f"]


@pytest.mark.parametrize(
    "mount",
    [
        volume("/cache", "", "tmpfs"),
        volume("/sys/fs/cgroup", "/sys/fs/cgroup", "bind"),
        volume("/dev", "/dev", "bind"),
        volume("/", "/x", "bind"),
        volume("/proc", "/proc", "bind"),
        volume("relative"),
        volume("/unused"),
        volume("/a\0b"),
        volume("/a\ud800"),
    ],
)
def test_what_is_no_place_of_the_deployment(mount: ContainerMount) -> None:
    paths = ("/cache/f", "/sys/fs/cgroup/f", "/dev/f", "/f", "/proc/f")
    made = derived(*(file(path, "read") for path in paths), mounts=(mount,))
    assert made.variables == ()
    assert "variables" not in document.dumps(made)


def test_places_within_places_and_names_twice() -> None:
    mounts = (volume("/d", "a.b"), volume("/d/in", "a-b"), volume("/d/in/x", "/h", "bind"))
    made = derived(*(file(path, "read") for path in ("/d/f", "/d/in/f", "/d/in/x/f", "/d/inx")), mounts=mounts)
    assert [row.name for row in made.variables] == ["mount_d_in_x", "volume_a_b", "volume_a_b_2"]
    assert {row.name: row.paths for row in made.variables}["volume_a_b"] == ("/d/in",)
    assert files_of(again(made)) == ["{@mount_d_in_x}/f", "{@volume_a_b_2}/f", "{@volume_a_b_2}/inx", "{@volume_a_b}/f"]


def test_no_rule_reaches_over_the_edge_of_a_mount() -> None:
    many = [
        row
        for name in "abcdefghijkl"
        for sub in "xyz"
        for row in uses(f"/srv/app/{sub}/{name}", "read write create", own=True)
    ]
    inside = [
        row
        for name in "abcdefghijkl"
        for sub in "xyz"
        for row in uses(f"/srv/app/data/{sub}/{name}", "read write create", own=True)
    ]
    without = derived(*many, *inside)
    assert "/srv/app/{tree}" in {rule.pattern for rule in without.files}
    made = derived(*many, *inside, mounts=(volume("/srv/app/data"),))
    assert all(allows(made, row.path, row.access) for row in (*many, *inside))
    assert files_of(made) == ["/srv/app/x/{name}", "/srv/app/y/{name}", "/srv/app/z/{name}", "{@volume_db}/{tree}"]
    aside = derived(*many, *inside, file("/srv/app/data", "list", kind="directory"), mounts=(volume("/srv/app/data"),))
    assert "{@volume_db}" in files_of(aside)
    home = derived(*uses("/home/anna/w/f", "read write", own=True), mounts=(volume("/home/anna/w", "/x", "bind"),))
    assert files_of(home) == ["{@mount_home_anna_w}/f"]
    dated = derived(
        *uses("/srv/2026-01-31/2026-01-31.log", "read write create", own=True), mounts=(volume("/srv/2026-01-31"),)
    )
    assert files_of(again(dated)) == ["{@volume_db}/{date}.log"]


def test_a_volume_at_two_places_in_two_recordings_is_one() -> None:
    one = recorded(*uses("/data/a", "read write"), file("/etc/x", "read"), mounts=(volume("/data"),), argv=("a",))
    other = recorded(
        *uses("/srv/data/a", "read"), file("/srv/data/b", "read"), mounts=(volume("/srv/data"),), argv=("b",)
    )
    made = derive(traces.merge([one, other]), BARE)
    assert made.variables == (Variable("volume_db", ("/data", "/srv/data"), WHY),)
    assert files_of(made) == ["/etc/x", "{@volume_db}/a", "{@volume_db}/b"]
    rules = {rule.pattern: rule for rule in made.files}
    assert rules["/data/a"].access == rules["/srv/data/a"].access == ("read", "write")
    # The traces first or the policies first, and in which order, makes no difference.
    policies = [derive(one, BARE), derive(other, BARE)]
    for order in (policies, policies[::-1]):
        joined = merge(order)
        assert joined.variables == made.variables
        assert {(rule.pattern, rule.access) for rule in again(joined).files} == {
            (rule.pattern, rule.access) for rule in made.files
        }
    # What is the same is told so, and that it moved.
    diff = compare(rights.of_policy(policies[0], "old"), rights.of_policy(policies[1], "new"))
    assert sorted((row.change, row.subject, row.name) for row in diff.changes if row.subject == "path") == [
        ("added", "path", "/data/b"), ("narrowed", "path", "/data/a"), ("removed", "path", "/etc/x")
    ]  # fmt: skip
    assert [note for note in diff.notes if "no syscall seen" not in note] == [
        "volume_db is at /data in old and at /srv/data in new; what is below is compared as if it had not moved"
    ]
    read = compare(rights.of_policy(made, "old"), rights.of_trace(traces.merge([one, other]), "new"))
    assert {row.subject for row in read.changes} == {"syscall"}  # of the runtime's own


def test_a_volume_at_two_places_in_one_recording_is_two() -> None:
    made = derived(file("/data/a", "read"), file("/copy/b", "write"), mounts=(volume("/data"), volume("/copy")))
    assert files_of(again(made)) == ["{@mount_copy}/b", "{@mount_data}/a"]
    assert not allows(made, "/copy/a", "read")
    assert not allows(made, "/data/b", "write")


def test_a_moved_mount_in_a_reviewed_policy() -> None:
    base = derived(file("/data/a", "read"), file("/data/old", "read"), mounts=(volume("/data"),))
    text = document.dumps(base).replace("access: [read]", "access: [read], because: wanted", 1)
    ours = document.loads(text.encode(), "policy.yaml")
    theirs = derived(file("/srv/a", "read"), file("/srv/new", "read"), mounts=(volume("/srv"),))
    found = three_way(base, ours, theirs)
    assert not found.conflicts
    assert found.policy.variables[0].paths == ("/srv",)
    assert files_of(again(found.policy)) == ["{@volume_db}/a", "{@volume_db}/new"]
    assert "because: wanted" in document.dumps(found.policy)
    edited = replace(ours, variables=(Variable("volume_db", ("/data", "/mnt"), WHY),))
    edited = document.loads(
        document.dumps(replace(edited, files=unfolded(folded(ours.files, ours.variables), edited.variables))).encode(),
        "policy.yaml",
    )
    assert three_way(base, edited, theirs).policy.variables[0].paths == ("/mnt", "/srv")
    # A recording outside of a container knows no variables, and a path is a path.
    plain = derived(file("/data/a", "read"), file("/data/old", "read"))
    same = three_way(base, base, plain)
    assert not same.conflicts
    assert files_of(same.policy) == files_of(base)


def test_executions_sockets_links_and_mounts() -> None:
    variable = (Variable("volume_db", ("/d", "/e"), WHY),)
    rows: dict[str, Any] = {
        "files": tuple(
            FileRule(f"{at}/n", ("link",), ("file",), WHY, existing=(f"{at}/o",), programs=("/bin/x", f"{at}/p"))
            for at in ("/d", "/e")
        ),
        "transitions": tuple(Transition(f"{at}/p", f"{at}/q", WHY) for at in ("/d", "/e")),
        "sockets": (SocketRule("unix", "stream", 0, ("bind",), WHY, addresses=(("bind", ("/d/s", "/e/s", "@x")),)),),
        "mounts": tuple(MountRule("bind", f"{at}/p", "/m", None, (), WHY) for at in ("/d", "/e")),
    }
    for section, several in rows.items():
        (row,) = folded(several, variable)
        assert set(unfolded((row,), variable)) == set(unfolded(several, variable))
        assert "{@volume_db}" in repr(row), section
        assert "'/d" not in repr(row) + repr(row).replace("/e", "/d"), section
    # What is at one of the places only is written as it is.
    for several in rows.values():
        if len(several) > 1:
            assert folded(several[:1], variable) == several[:1]
    detached = (replace(rows["files"][0], states=("detached",)),)
    assert folded(detached, variable[:1]) == detached


def test_apparmor_has_the_variable() -> None:
    made = derived(
        *uses("/data/a", "read write"),
        file("/data", "list", kind="directory"),
        file("/x", "read"),
        *uses("/data/run", "execute map read"),
        mounts=(volume("/data"),),
        execs=(Exec(0, None, 1),),
    )
    text = render_one("apparmor", made).files[0].data.decode()
    assert '\n@{volume_db}="/data"\n' in text
    assert '"@{volume_db}/" r,' in text
    assert '"@{volume_db}/a" rw,' in text
    assert '"@{volume_db}/run" mrix,' in text
    assert text.count("/data") == 1
    moved = replace(made, variables=(Variable("volume_db", ('/a "b', "/data"), WHY),))
    text = render_one("apparmor", moved).files[0].data.decode()
    assert "@{volume_db}" not in text
    assert '"/data/a" rw,' in text
    both = replace(moved, files=unfolded(folded(made.files, made.variables), moved.variables))
    text = render_one("apparmor", both).files[0].data.decode()
    assert '\n@{volume_db}="/a \\042b" "/data"\n' in text
    assert '"@{volume_db}/a" rw,' in text
    other = (
        render_one("apparmor", derived(file("/x", "read"), file("/data/@{volume_db}", "read"))).files[0].data.decode()
    )
    assert "@{volume" not in other


def test_explained_by_its_path() -> None:
    made = derived(*uses("/data/a", "read write"), mounts=(volume("/data"),))
    (found,) = Explainer(made, None, "policy.yaml").explain("/data/a")
    assert found.allowed
    assert ("mounted", "{@volume_db} at /data: volume db") in found.facts


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{@volume_db}/a", "{@volume_x}/a", "there is no variable 'volume_x'"),
        ("{@volume_db}/a", "{@volume_db}a", "a brace of the path itself"),
        ("{@volume_db}/a", "{@volume_db}/../a", "not a path as the kernel writes it"),
        ("{@volume_db}/a", "{@volume_db}/", "no / at the end"),
        ("{@volume_db}/a", "/x/{@volume_db}/a", "a brace of the path itself"),
        ("{@volume_db}/b", "/data/a", "is listed twice, once with a variable"),
        ("[/data]", "[]", "variables.volume_db.paths: needs at least one"),
        ("[/data]", "[/]", "must be the path"),
        ("[/data]", "[data]", "is not an absolute path"),
        ("[/data]", '["/x{tree}"]', "without classes"),
        ("[/data]", '["{@volume_db}"]', "there is no variable"),
        ("[/data]", "[/data/]", "no / at the end"),
        ("volume_db:", "HOME:", "is not a name for a variable"),
        ("{paths:", "{path:", "'paths' is missing"),
    ],
)
def test_one_line_that_names_file_and_key(old: str, new: str, message: str) -> None:
    text = document.dumps(derived(file("/data/a", "read"), file("/data/b", "read"), mounts=(volume("/data"),)))
    assert old in text
    with pytest.raises(InputError) as error:
        document.loads(text.replace(old, new).encode(), "policy.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("policy.yaml: ")
    assert "\n" not in str(error.value)


PLACES = ["/d", "/d/in", "/srv/d", "/e{x}", "/home/a/d", "/tmp/w", "/etc/app"]
NAMES = ["a", "b", "c.db", "sub/x", "sub/y", "run\n", "2026-01-31.log", "tmpab12cd34"]


@st.composite
def recordings(draw: st.DrawFn) -> Trace:
    """A container with volumes at some places, and uses below these and elsewhere."""
    chosen = draw(st.lists(st.sampled_from(PLACES), unique=True, max_size=3))
    mounts = tuple(
        volume(
            path, draw(st.sampled_from(["db", "log", "ab" * 32, "/host"])), draw(st.sampled_from(["volume", "bind"]))
        )
        for path in chosen
    )
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from(PLACES), st.sampled_from(NAMES), st.sampled_from(["read", "write", "create"])),
            max_size=10,
        )
    )
    rows = {
        (f"{place}/{name}", access): file(f"{place}/{name}", access, own=draw(st.booleans()))
        for place, name, access in pairs
    }
    return recorded(*(rows[key] for key in sorted(rows)), mounts=mounts)


def probes() -> list[tuple[str, str]]:
    return [
        (f"{place}/{name}", access)
        for place in PLACES
        for name in (*NAMES, "sub/other")
        for access in ("read", "write")
    ]


@given(recordings(), st.booleans())
@settings(max_examples=examples(40))
def test_a_name_for_a_place_widens_nothing(trace: Trace, general: bool) -> None:
    options = replace(BARE, generalise=general)
    made = derive(trace, options)
    plain = derive(replace(trace, meta=replace(trace.meta, container=None)), options)
    read = again(made)
    for path, access in probes():
        assert allows(read, path, access) == allows(made, path, access)
        assert allows(plain, path, access) or not allows(made, path, access)
    assert all(allows(made, row.path, row.access) for row in trace.files)
    assert derive(trace, options) == made


@given(recordings(), recordings(), recordings())
@settings(max_examples=examples(40))
def test_unions_hold_what_each_allows_in_any_order(a: Trace, b: Trace, c: Trace) -> None:
    policies = [derive(trace, BARE) for trace in (a, b, c)]
    whole = merge(policies)
    read = again(whole)
    places = [path for row in whole.variables for path in row.paths]
    overlapping = any((one + "/").startswith(other + "/") for one, other in itertools.permutations(places, 2))
    for order in itertools.permutations(policies):
        other = merge(order) if overlapping else merge([merge(order[:2]), order[2]])
        assert other.variables == whole.variables
        assert {(rule.pattern, rule.access, rule.owner) for rule in other.files} == {
            (rule.pattern, rule.access, rule.owner) for rule in whole.files
        }
    common = intersect(policies)
    again(common)
    # A path below a volume is allowed where one policy allows it at a place of that volume.
    moves = {row.name: row.paths for row in whole.variables}
    for path, access in probes():
        allowed = [allows(policy, path, access) for policy in policies]
        assert allows(read, path, access) or not any(allowed)
        assert all(allowed) or not allows(common, path, access)
        if allows(whole, path, access) and not any(allowed):
            elsewhere = [
                path.replace(here, there, 1)
                for paths in moves.values()
                for here in paths
                for there in paths
                if path.startswith(here + "/")
            ]
            assert any(allows(policy, moved, access) for policy in policies for moved in elsewhere)


@given(recordings(), recordings(), recordings())
@settings(max_examples=examples(40))
def test_three_ways_end_in_a_policy_that_reads_back(a: Trace, b: Trace, c: Trace) -> None:
    base, ours, theirs = (derive(trace, BARE) for trace in (a, b, c))
    again(three_way(base, ours, theirs).policy)
    kept = three_way(base, ours, base).policy
    assert {rule.pattern for rule in kept.files} >= {rule.pattern for rule in ours.files}
    assert literal("/e{x}") == "/e\\{x\\}"
