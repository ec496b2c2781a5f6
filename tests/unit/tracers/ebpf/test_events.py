"""Events of uses.bpf.c as they come from the ring."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from profiler.kernel.errno import result_of
from profiler.tracers.ebpf import events
from profiler.tracers.ebpf.shared import constant, structure

names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name and b"/" not in name)
texts = st.none() | st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"") + b"\0")
paths = st.none() | st.lists(names, max_size=5)


@given(st.lists(texts, min_size=3, max_size=3), st.lists(paths, min_size=4, max_size=4), st.integers(0, 0xFFF))
def test_any_event(given_texts: list[bytes | None], given_paths: list[list[bytes] | None], error: int) -> None:
    pieces = [
        *given_texts,
        *(None if path is None else b"".join(name + b"\0" for name in reversed(path)) + b"\0" for path in given_paths),
    ]
    lengths = [0 if piece is None else len(piece) for piece in pieces]
    head = structure("use_event")(
        key=structure("use_key")(hash=1, program=2, call=1 << 16 | 257, flags=3, detail=error),
        root=4, mode=5, facts=1 << 2, fsuid=7, tgid=8, tid=9, own_tgid=10, own_tid=11,
        text_length=tuple(lengths[:3]), path_length=tuple(lengths[3:]),
    )  # fmt: skip
    event = events.parse(bytes(head) + b"".join(piece or b"" for piece in pieces))
    assert (event.program, event.abi, event.number, event.flags, event.root, event.mode, event.fsuid) == (
        2,
        1,
        257,
        3,
        4,
        5,
        7,
    )
    assert (event.tgid, event.tid, event.own_tgid, event.own_tid) == (8, 9, 10, 11)
    assert event.texts == tuple(given_texts)
    assert [None if path is None else os.fsencode(path) for path in event.paths] == [
        None if path is None else b"/" + b"/".join(path) for path in given_paths
    ]
    assert event.result == result_of(error)
    assert [event.state(piece) for piece in range(3)] == ["linked", "deleted", "linked"]


def test_memfd_has_no_slash() -> None:
    path = b"memfd:a b\0\0"
    key = structure("use_key")(detail=constant("DETAIL_PSEUDO"))
    head = structure("use_event")(key=key, facts=constant("FACT_DETACHED"), path_length=(len(path),))
    event = events.parse(bytes(head) + path)
    assert event.paths == ("memfd:a b", None, None, None)
    assert event.state(0) == "detached"
