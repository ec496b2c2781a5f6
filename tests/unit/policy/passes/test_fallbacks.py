"""Calls that programs do without after ENOSYS."""

from __future__ import annotations

from unit.policy.making import call, derived


def test_fallbacks_get_enosys_unless_allowed() -> None:
    policy = derived(call("statx"))
    refused = {row.name: row.errno for row in policy.refused}
    assert "statx" not in refused
    assert refused["faccessat2"] == refused["openat2"] == refused["close_range"] == "ENOSYS"
    assert all(row.because for row in policy.refused)
