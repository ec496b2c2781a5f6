"""What runtimes refuse in an artifact."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.registry.rules import RULES, broken

FIELDS = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}


def found(**members: Any) -> list[tuple[str, str]]:
    data = json.dumps({key: value for key, value in {**FIELDS, **members}.items() if value != "-"}).encode()
    return [(problem.rule.removeprefix("artifact-"), problem.where) for problem in broken(data)]


def entry(*names: str, action: str = "ALLOW", args: Any = None, **members: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **({"args": args} if args else {}), **members}


def when(index: int, value: int, op: str = "EQ", two: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}


@pytest.mark.parametrize(
    ("members", "problems"),
    [
        ({}, []),
        ({"syscalls": None, "flags": None}, []),
        ({"defaultAction": "-"}, [("value", "defaultAction")]),
        ({"defaultAction": "SCMP_ACT_MAYBE"}, [("value", "defaultAction")]),
        ({"defaultAction": 5}, [("json", "defaultAction")]),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, [("listener", "defaultAction")]),
        (
            {"listenerPath": "/run/x", "listenerMetadata": "m"},
            [("listener", "listenerPath"), ("listener", "listenerMetadata")],
        ),
        ({"listenerPath": ""}, []),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, [("listener", "flags")]),
        ({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_LOG"]}, [("value", "flags")]),
        ({"flags": ["x"]}, [("value", "flags")]),
        ({"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86_64", "amd64"]}, [("value", "architectures")] * 2),
        ({"archMap": []}, [("json", "archMap")]),
        ({"DefaultAction": "SCMP_ACT_ALLOW"}, [("json", "DefaultAction")]),
        ({"defaultErrnoRet": 4096}, [("value", "defaultErrnoRet")]),
        ({"defaultErrnoRet": -1}, [("json", "defaultErrnoRet")]),
        ({"defaultErrnoRet": True}, [("json", "defaultErrnoRet")]),
        ({"defaultErrnoRet": 1.0}, [("json", "defaultErrnoRet")]),
        ({"syscalls": [entry("read", errnoRet=1)]}, [("value", "syscalls[0].errnoRet")]),
        ({"syscalls": [entry("read", action="ERRNO", errnoRet=5000)]}, [("value", "syscalls[0].errnoRet")]),
        ({"syscalls": [entry()]}, [("value", "syscalls[0].names")]),
        ({"syscalls": [entry("")]}, [("value", "syscalls[0].names")]),
        ({"syscalls": [entry("read", comment="x")]}, [("json", "syscalls[0].comment")]),
        ({"syscalls": [entry("read", includes={})]}, [("json", "syscalls[0].includes")]),
        ({"syscalls": [5]}, [("json", "syscalls")]),
        (
            {"syscalls": [entry("read", args=[{"index": 6, "value": 1, "op": "x"}])]},
            [("value", "syscalls[0].args[0]")] * 2,
        ),
        ({"syscalls": [entry("read", args=[when(0, 1 << 64)])]}, [("json", "syscalls[0].args[0].value")]),
        ({"syscalls": [entry("read", args=[when(0, 1 << 32)])]}, []),
        (
            {"syscalls": [entry("read", args=[when(0, 1 << 32)])], "architectures": ["SCMP_ARCH_X86"]},
            [("value", "syscalls[0].args[0]")],
        ),
        ({"syscalls": [entry("read", action="NOTIFY")]}, [("listener", "syscalls[0].action")]),
        ({"syscalls": [entry("read", args=[when(0, value)]) for value in range(128)]}, []),
        ({"syscalls": [entry("read", args=[when(0, value)]) for value in range(129)]}, [("limit", "syscalls")]),
        ({"syscalls": [entry(*map(str, range(1025)))]}, [("limit", "syscalls[0].names")]),
        (
            {"syscalls": [entry("read", args=[when(0, value) for value in range(257)])]},
            [("limit", "syscalls")],
        ),
        (
            {"syscalls": [entry(*map(str, range(200)), args=[when(0, value) for value in range(100)])]},
            [("limit", "syscalls")],
        ),
        ({"syscalls": [entry("read"), entry("read")]}, []),
        ({"syscalls": [entry("read"), entry("read", action="LOG")]}, [("conflict", "syscalls")]),
        ({"syscalls": [entry("read"), entry("read", action="LOG", args=[when(0, 1)])]}, [("conflict", "syscalls")]),
        (
            {"syscalls": [entry("read", args=[when(0, 1)]), entry("read", action="LOG", args=[when(0, 2)])]},
            [],
        ),
        (
            {"syscalls": [entry("read", args=[when(0, 1)]), entry("read", action="LOG", args=[when(1, 2)])]},
            [("conflict", "syscalls")],
        ),
        # The default's answer loads no rule.
        ({"syscalls": [entry("read"), entry("read", action="ERRNO")]}, []),
    ],
)  # fmt: skip
def test_rules(members: dict[str, Any], problems: list[tuple[str, str]]) -> None:
    assert found(**members) == problems


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "Expecting value"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{} {}", "Extra data"),
        (b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}', "is given twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"defaultErrnoRet": NaN}', "not JSON"),
        (b"\x1f\x8b\x08", "an archive"),
        (b"\x28\xb5\x2f\xfd", "an archive"),
        (b"\0" * 257 + b"ustar", "an archive"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"defaultErrnoRet": ' + b"9" * 5000 + b"}", ""),
    ],
)
def test_what_is_not_one_strict_object(data: bytes, what: str) -> None:
    (problem,) = broken(data)
    assert problem.rule == "artifact-json"
    assert what in problem.what
    assert "\n" not in problem.what


def test_a_large_profile() -> None:
    (problem,) = broken(b" " * ((1 << 20) + 1))
    assert problem.rule == "artifact-size"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "names", "args", "op"]), inner)
    ),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=40))
def test_nothing_else_is_accepted(value: Any) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode("utf-8", "surrogatepass")
    for problem in broken(data):
        assert problem.rule in RULES
        assert (problem.where + problem.what).isprintable()
