"""Scores of profiles that profgen makes of a real web server: their order, and which published holes they keep out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from system.harness import Profgen
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.workloads import Nginx

from profiler.policy.document import loads
from profiler.review.rights import of_policy
from profiler.review.score import Share, score
from profiler.review.yardsticks import docker_default, unconfined

CLONE, SOCKETS, OPTIONS = ("clone", "clone3", "unshare"), ("socket", "socketpair"), ("setsockopt",)


@pytest.fixture(scope="module")
def profiles(recordings: Recordings, public_dir: Path) -> Path:  # noqa: F811
    """Directory of nginx's policies and profiles: ``names`` without argument filters, ``arguments`` with them."""
    trace = recordings.trace(Nginx, "ptrace")
    directory = public_dir / "score"
    directory.mkdir()
    for name, options in (("names", ["--no-arguments"]), ("arguments", ["-t", "seccomp,oci"])):
        done = Profgen()("generate", str(trace), "-o", str(directory / name), *options, cwd=directory)
        assert done.returncode == 0, done.stderr
    return directory


def holes(profiles: Path, filtered: Iterable[str] | None) -> Share:
    """kernelCTF's holes, with argument filters on these syscalls only; None: on all."""
    policy = loads((profiles / "arguments" / "policy.yaml").read_bytes(), "policy.yaml")
    kept = tuple(
        entry if filtered is None or entry.name in filtered else replace(entry, rules=()) for entry in policy.syscalls
    )
    return score(of_policy(replace(policy, syscalls=kept), "nginx"), frozenset()).of_source("kernelctf")


def test_each_filter_keeps_more_out(profiles: Path) -> None:
    ladder = [
        holes(profiles, names).closed for names in ((), CLONE, (*CLONE, *SOCKETS), (*CLONE, *SOCKETS, *OPTIONS), None)
    ]
    print("kernelCTF holes kept out of nginx's reach: names, + clone, + socket, + setsockopt, all:", ladder)
    assert ladder == sorted(ladder)
    assert ladder[0] < 20
    assert ladder[1] >= 60, "no user namespace, no CAP_NET_ADMIN"
    assert ladder[-1] >= 70
    assert holes(profiles, None).total == 78


def test_the_order(profiles: Path) -> None:
    beside = [word for name in ("names/policy.yaml", "docker-default", "unconfined") for word in ("--compare", name)]
    done = Profgen()("score", "arguments/policy.yaml", "--json", *beside, cwd=profiles)
    assert done.returncode == 0, done.stderr
    data: dict[str, Any] = json.loads(done.stdout)
    points = [data["score"], *(other["score"] for other in data["compared"])]
    assert points == sorted(set(points), reverse=True)
    assert points[-1] == 0
    assert data["cves"]["by_source"]["kernelctf"]["blocked"] >= 70
    assert data["compared"][1]["open_here_only"]["syscalls"] == [], "nginx needs nothing that Docker refuses"


def test_a_profile_alone_scores_as_docker_would_run_it(profiles: Path) -> None:
    done = Profgen()("score", "arguments/seccomp.json", "--json", "--compare", "docker-default", cwd=profiles)
    data: dict[str, Any] = json.loads(done.stdout)
    assert data["capabilities"]["assumed"]
    assert data["score"] > data["compared"][0]["score"]
    assert (
        data["compared"][0]["score"]
        == score(docker_default("x86_64"), frozenset()).points
        > score(unconfined("x86_64"), frozenset()).points
    )


@pytest.mark.parametrize("name", ["policy.yaml", "seccomp.json", "config.json"])
def test_lint_has_nothing_to_say_of_what_profgen_writes(profiles: Path, name: str) -> None:
    done = Profgen()("lint", f"arguments/{name}", cwd=profiles)
    assert (done.returncode, done.stdout) == (0, f"arguments/{name}: nothing found\n")


def test_lint_says_what_names_alone_leave(profiles: Path) -> None:
    done = Profgen()("lint", "names/seccomp.json", "--json", cwd=profiles)
    assert done.returncode == 1
    assert [row["rule"] for row in json.loads(done.stdout)["findings"]] == ["user-namespace"]
