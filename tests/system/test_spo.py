"""What the Security Profiles Operator makes of an AppArmorProfile, with the real apparmor_parser: it loads, and allows
what the policy allows."""

from __future__ import annotations

import os
import shutil

import pytest
import yaml
from system.apparmor_dfa import Compiled, parser, read
from unit.targets.policies import file, policy, transition
from unit.targets.spo.daemon import DENIED, profile, regex

from profiler.policy.model import Policy
from profiler.targets.rendering import render_one

pytestmark = pytest.mark.skipif(
    shutil.which("apparmor_parser") is None, reason="needs Debian's package apparmor (tests/packages.sh)"
)


def loaded(policy: Policy) -> tuple[Compiled, set[tuple[str, str]]]:
    """The profile as the kernel gets it, and what is declared as refused."""
    made = render_one("spo", policy, {"name": "web"})
    objects = {item["kind"]: item for item in yaml.safe_load_all(made.files[0].data)}
    text = profile("web", objects["AppArmorProfile"]["spec"]["abstract"]).encode()
    # Without --Werror: the operator's own text has neither an abi nor rules that the parser finds perfect.
    done = parser(text, "-Q", "-K", "-S")
    assert done.returncode == 0, (done.stderr, text)
    refused = {(loss.section, loss.item) for loss in made.losses if loss.effect == "refused"}
    return read(done.stdout)["web"], refused


def allows(compiled: Compiled, path: str) -> set[str]:
    return set(compiled.allows(os.fsencode(path)))


def test_no_list_takes_what_another_gives() -> None:
    """What the operator's own merging gets wrong: a pattern for reading next to a file in it that is written."""
    made = policy(
        file("/r/{name}", "read"),
        file("/r/bar", "read", "write"),
        file("/w/{name}", "append"),
        file("/w/conf", "read"),
        file("/only/read", "read"),
        file("/var/log/a b:[x].log", "create", "append"),
        file("/usr/lib/x.so", "read", "map"),
        transitions=(transition("/usr/sbin/app", None),),
    )
    compiled, refused = loaded(made)
    assert not refused
    assert {"r", "w"} <= allows(compiled, "/r/bar")
    assert "r" in allows(compiled, "/r/other")
    assert "w" not in allows(compiled, "/r/other")
    assert {"r", "w"} <= allows(compiled, "/w/conf")
    assert allows(compiled, "/only/read") == {"r"}
    assert "w" in allows(compiled, "/var/log/a b:[x].log")
    assert {"x", "m", "r"} <= allows(compiled, "/usr/sbin/app")
    assert allows(compiled, "/etc/none") == set()


def test_the_model_of_the_unit_tests_is_right_about_denied_paths() -> None:
    """The deny rules of every profile, as the parser compiles them, against the regular expressions for them."""
    text = "profile web {\n  /** rwklm,\n" + "".join(f"  deny {path} {less},\n" for path, less in DENIED) + "}\n"
    done = parser(f"#include <tunables/global>\n{text}".encode(), "-Q", "-K", "-S")
    assert done.returncode == 0, done.stderr
    compiled = read(done.stdout)["web"]
    for path in [
        "/proc/x", "/proc/1/oom_score_adj", "/proc/12/x", "/proc/1234/x", "/proc/fs/x", "/proc/irq/1/x", "/proc/self/x",
        "/proc/sys/kernel/shmmax", "/proc/sys/kernel/hostname", "/proc/sys/kernel/sem", "/proc/sys/net/x",
        "/proc/sys/kx", "/proc/sysrq-trigger", "/proc/kcore", "/proc/mem", "/sys/firmware/efi/efivars/x", "/etc/x",
    ]:  # fmt: skip
        for letter in "rw":
            taken = any(letter in less and regex(glob).fullmatch(path) for glob, less in DENIED)
            assert (letter in allows(compiled, path)) is not taken, (path, letter)
