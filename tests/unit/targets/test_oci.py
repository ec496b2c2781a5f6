"""config.json: a given one is rewritten in place."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.making import call, check, trace
from unit.targets.rendered import seccomp

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.targets.base import Existing
from profiler.targets.oci.changes import MASKED
from profiler.targets.oci.changes import READ_ONLY as FIXED
from profiler.targets.rendering import render_one

POLICY = derive(trace(call("read"), capabilities=[check("CAP_KILL")]), Options())


def rewrite(text: str | bytes, policy: Policy = POLICY) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return render_one("oci", policy, existing=Existing("config.json", data)).files[0].data


def expected(document: dict[str, Any], policy: Policy = POLICY) -> dict[str, Any]:
    process, linux = document.get("process") or {}, document.get("linux") or {}
    uid = (process.get("user") or {}).get("uid", policy.workload.uid)
    needed = list(policy.needed())
    kept = needed if uid else []
    sets = {"bounding": needed, "effective": needed, "permitted": needed, "inheritable": kept, "ambient": kept}
    paths = {
        key: [*linux.get(key, []), *(path for path in every if path not in linux.get(key, []))]
        for key, every in (("maskedPaths", MASKED), ("readonlyPaths", FIXED))
    }
    return {
        **document,
        "process": {**process, "capabilities": sets, "noNewPrivileges": policy.no_new_privs},
        "linux": {**linux, "seccomp": seccomp(policy), **paths},
    }


SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": True,
        "user": {"uid": 5, "gid": 0},
        "args": ["sh", 'a"}{\\'],
        "capabilities": {"bounding": ["CAP_X"]},
        "noNewPrivileges": False,
    },
    "root": {"path": "rootfs"},
    "linux": {
        "resources": {"devices": [{"allow": False}]},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "namespaces": [],
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(FIXED),
    },
}


@pytest.mark.parametrize("indent", [None, 1, 2, 4, "\t"])
def test_rewrites_in_place(indent: int | str | None) -> None:
    text = json.dumps(SPEC, indent=indent)
    made = rewrite(text).decode()
    assert json.loads(made) == expected(SPEC)
    # Everything before, between and after the three values is the same text.
    kept = re.split(r'"capabilities": |"noNewPrivileges": |"seccomp": ', text)
    assert made.startswith(kept[0])
    assert made.endswith(text[text.index('"namespaces"') :])
    assert rewrite(made) == made.encode(), "twice is the same as once"
    assert text[text.index('"root"') : text.index('"seccomp"')] in made
    if indent is not None:
        # The new parts have the file's own indentation.
        assert made == json.dumps(json.loads(made), indent=indent)


def test_line_ends_and_odd_spacing_are_kept() -> None:
    text = (
        '\r\n{ "a" :1 ,\r\n  "process":{\r\n    "user" : {"uid":0}\r\n  },"linux" :{ } , "é\\u00e9": 1.50E+1 }\r\n\r\n'
    )
    made = rewrite(text).decode()
    assert json.loads(made) == expected(json.loads(text))
    assert made.startswith('\r\n{ "a" :1 ,\r\n  "process":{\r\n    "user" : {"uid":0}')
    assert made.endswith(' , "é\\u00e9": 1.50E+1 }\r\n\r\n')
    assert "\n" not in made.replace("\r\n", "")


def test_missing_parts_are_added() -> None:
    for text in (
        "{}",
        '{"process": {}}',
        '{\n  "linux": {}\n}',
        '{\n  "ociVersion": "1"\n}',
        "{\n}",
        ' {"a": [1, {"process": 2}]} ',
        '{"linux": null, "process": null}',
        '{"linux": {"seccomp": null}, "process": {"capabilities": null, "user": null}}',
    ):
        assert json.loads(rewrite(text)) == expected(json.loads(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be rewritten"),
        ("{", "cannot be rewritten"),
        ("[]", "not a JSON object"),
        ("5", "not a JSON object"),
        ('{"process": []}', "process is not an object"),
        ('{"defaultAction": "SCMP_ACT_ERRNO"}', "not an OCI config.json"),
        ('{"schema": "profgen.trace/1"}', "not an OCI config.json"),
        ('{"linux": 5}', "linux is not an object"),
        ('{"linux": {"resources": {"pids": {"limit": true}}}}', "linux.resources.pids.limit is not a whole number"),
        ('{"linux": {"resources": {"pids": {"limit": 1.5}}}}', "linux.resources.pids.limit is not a whole number"),
        ('{"linux": {"resources": {"devices": {}}}}', "linux.resources.devices is not a list"),
        ('{"linux": {"namespaces": [5]}}', "linux.namespaces[0] is not an object"),
        ('{"linux": {"devices": [{}, {"path": 5}]}}', "linux.devices[1].path is not text"),
        ('{"linux": {"maskedPaths": ["/a", null]}}', "linux.maskedPaths[1] is not text"),
        ('{"linux": {"seccomp": []}}', "linux.seccomp is not an object"),
        ('{"process": {"capabilities": []}}', "process.capabilities is not an object"),
        ('{"process": {"user": {"uid": true}}}', "process.user.uid is not a whole number"),
        ('{"process": {"user": {"uid": -1}}}', "process.user.uid is not from 0 to 4294967295"),
        ('{"root": {"readonly": "yes"}}', "root.readonly is not true or false"),
        ('{"linux": {"resources": []}}', "linux.resources is not an object"),
        ('{"linux": {"resources": {"pids": 5}}}', "linux.resources.pids is not an object"),
        ('{"linux": {"maskedPaths": {}}}', "linux.maskedPaths is not a list"),
        ('{"root": "rootfs"}', "root is not an object"),
        ('{"mounts": {}}', "mounts is not a list"),
        ('{"mounts": ["/proc"]}', "mounts[0] is not an object"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"process": {"user": {"uid": 1, "uid": 2}}}', "'uid' is given twice"),
        ('{"linux": {}, "Linux": {"seccomp": null}}', "runc reads Linux as linux: rename it"),
        ('{"process": {"NoNewPrivileges": false}}', "runc reads process.NoNewPrivileges as noNewPrivileges"),
        ('{"proce\u017fs": {}}', "as process: rename it"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1} x', "follows"),
        ("{'a': 1}", "cannot be rewritten"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "cannot be rewritten"),
        ("[" * 100_000, "cannot be rewritten"),
        ('{"a\\nb": 1, "a\\nb": 2}', "given twice"),
    ],
)
def test_what_cannot_be_rewritten_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rewrite(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config.json: ")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.text(max_size=8), JSON, max_size=3)


@given(
    OBJECT,
    st.none() | OBJECT,
    st.none() | OBJECT,
    st.sets(st.sampled_from(["capabilities", "noNewPrivileges", "seccomp"])),
    st.sampled_from([None, 0, 1, 3, "\t"]),
    st.booleans(),
)
@settings(deadline=None)
def test_any_document(
    outer: dict[str, Any],
    process: dict[str, Any] | None,
    linux: dict[str, Any] | None,
    present: set[str],
    indent: Any,
    ascii_only: bool,
) -> None:
    document = {key: value for key, value in outer.items() if key not in ("process", "linux", "root", "mounts")}
    if process is not None:
        old = {key: {"x": ["}"]} if key == "capabilities" else False for key in present - {"seccomp"}}
        document["process"] = {**{key: value for key, value in process.items() if key != "user"}, **old, "last": 1}
    if linux is not None:
        ours = ("devices", "maskedPaths", "readonlyPaths", "resources")
        linux = {key: value for key, value in linux.items() if key not in ours}
        document["linux"] = {**({"seccomp": {"a": '"'}} if "seccomp" in present else {}), **linux}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    data = text.encode("utf-8", "replace")
    made = rewrite(data)
    assert json.loads(made) == expected(json.loads(data))
    assert rewrite(made) == made
