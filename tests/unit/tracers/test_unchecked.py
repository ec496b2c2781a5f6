"""Capabilities that the kernel takes without a check."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.kernel.capabilities import ALL, CAPABILITIES, names_in
from profiler.tracers.unchecked import (
    Claim,
    Sets,
    bits_of,
    claim_of_ambient,
    claim_of_capset,
    file_capabilities,
    gained_by_ids,
)

RAW, ADMIN, SETPCAP = (bits_of(f"CAP_{name}") for name in ("NET_RAW", "NET_ADMIN", "SETPCAP"))
ROOT = Sets(ALL, ALL, 0)
MASKS = st.integers(0, ALL)


@given(st.sets(st.sampled_from(CAPABILITIES)))
def test_names_and_bits(names: set[str]) -> None:
    assert set(names_in(bits_of(*names))) == names


@pytest.mark.parametrize(
    ("asked", "had", "looked", "needed"),
    [
        (Sets(RAW, RAW, 0), ROOT, False, RAW),
        (Sets(0, RAW, 0), ROOT, False, RAW),
        (Sets(0, RAW, 0), ROOT, True, 0),
        (Sets(RAW, RAW | ADMIN, 0), ROOT, True, RAW),
        (Sets(0, RAW, RAW), ROOT, True, RAW),
        (Sets(ALL & ~RAW, ALL & ~RAW, 0), ROOT, True, 0),
        (Sets(ALL, ALL, ALL), ROOT, False, 0),
        (Sets(0, 0, RAW), Sets(0, 0, RAW), False, 0),
        (Sets(0, 0, RAW), Sets(SETPCAP, SETPCAP, 0), False, RAW | SETPCAP),
        (Sets(0, 0, 0), ROOT, False, 0),
    ],
)
def test_capset(asked: Sets, had: Sets, looked: bool, needed: int) -> None:
    assert claim_of_capset(asked, had, ALL, looked=looked) == Claim(needed, 0)


@given(MASKS, MASKS, MASKS, MASKS, st.booleans())
def test_a_capset_that_was_allowed_needs_only_what_it_asked_for(
    permitted: int, effective: int, inheritable: int, had: int, looked: bool
) -> None:
    asked = Sets(effective & permitted & had, permitted & had, inheritable)
    claim = claim_of_capset(asked, Sets(had, had, 0), 0, looked=looked)
    assert not claim.needed & ~(asked.permitted | asked.inheritable | SETPCAP)
    assert not claim.missing


def test_refused() -> None:
    asked, had = Sets(RAW, RAW | ADMIN, 0), Sets(RAW, RAW, 0)
    assert claim_of_capset(asked, had, RAW, looked=False).missing == ADMIN
    assert not claim_of_capset(asked, had, ALL, looked=False).missing, "it has given that up itself"
    assert claim_of_ambient(RAW, Sets(ADMIN, ADMIN, RAW), ADMIN).missing == RAW


def test_ambient() -> None:
    assert claim_of_ambient(RAW, Sets(ALL, ALL, RAW), ALL) == Claim(RAW)
    assert claim_of_ambient(RAW, Sets(ALL, ALL, ALL), ALL) == Claim(0), "it raises all that it has"


def test_a_file_without_capabilities(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert file_capabilities(str(tmp_path / "file")) is None
    assert file_capabilities(str(tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("mode", "uids", "gids", "gained"),
    [
        (0o4755, (1000, 0), (7, 7), ["setuid"]),
        (0o4755, (0, 0), (7, 7), []),
        (0o4755, (1000, 1000), (7, 7), []),
        (0o755, (1000, 0), (7, 7), []),
        (0o2755, (1000, 1000), (7, 5), ["setgid"]),
        (0o2745, (1000, 1000), (7, 5), []),
        (0o6755, (1000, 0), (7, 5), ["setuid", "setgid"]),
    ],
)
def test_set_ids(mode: int, uids: tuple[int, int], gids: tuple[int, int], gained: list[str]) -> None:
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, 0, 5, 0, 0, 0, 0))
    assert gained_by_ids(status, uids, gids) == gained
