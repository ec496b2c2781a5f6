"""Options that choose targets and set them up, and those that say how a recording becomes a policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from profiler.cli.derive_options import DeriveOptions
from profiler.cli.generate import generate
from profiler.cli.target_options import GivenTargets
from profiler.errors import InputError
from profiler.policy.model import Options

NONE = GivenTargets((), (), None, None)


def names(given: GivenTargets, engine: str | None = None) -> list[str]:
    return [target.name for target in given.parsed().chosen(engine)]


def test_a_file_without_an_end_is_not_rewritten() -> None:
    given = GivenTargets(("compose",), (), "/dev/zero", None)
    with pytest.raises(InputError, match="larger than 256 MiB; profgen reads no such file"):
        given.parsed()


def test_targets_are_repeated_or_separated_by_commas() -> None:
    assert names(replace(NONE, targets=("seccomp, docker", "oci", "docker"))) == ["seccomp", "docker", "oci"]
    assert names(NONE) == ["seccomp", "capabilities", "apparmor", "docker", "compose"]
    assert names(NONE, "runc") == ["seccomp", "capabilities", "apparmor", "oci"]


def test_a_launcher_brings_the_settings_of_what_it_requires() -> None:
    assert names(replace(NONE, targets=("docker",), settings=("seccomp.action=log",))) == ["docker"]


def test_settings_have_the_type_of_their_target() -> None:
    given = replace(NONE, settings=("apparmor.complain", "apparmor.children=no", "apparmor.name=a"))
    assert given.parsed().settings == {"apparmor": {"complain": True, "children": False, "name": "a"}}


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--apparmor-name", "web", "x"], ("apparmor.name=web",)),
        (["--apparmor-name=web", "--apparmor-complain", "x"], ("apparmor.name=web", "apparmor.complain")),
        (["--apparmor-complain=no", "-O", "seccomp.action=log", "x"], ("apparmor.complain=no", "seccomp.action=log")),
        (["--apparmor-name", "", "x"], ("apparmor.name=",)),
        (["-t", "apparmor", "x", "--apparmor-abi"], ("apparmor.abi",)),
        (["x", "--", "--apparmor-name", "y"], ()),
    ],
)
def test_a_setting_is_an_option_of_its_own(words: list[str], settings: tuple[str, ...]) -> None:
    assert generate.make_context("generate", words).params["settings"] == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": ("",)}, "unknown target ''"),
        ({"targets": ("dokcer",)}, "did you mean docker?"),
        ({"settings": ("x",)}, "write it as TARGET.NAME=VALUE"),
        ({"settings": ("x.y=1",)}, "unknown target 'x'"),
        ({"settings": ("seccomp.acton=log",)}, "seccomp has no such option (did you mean action?): one of action"),
        ({"settings": ("capabilities.x=1",)}, "capabilities has no such option: it has none"),
        ({"settings": ("seccomp.action=lgo",)}, "-O seccomp.action: 'lgo' is not one of errno, log, kill-process"),
        ({"settings": ("seccomp.action",)}, "-O seccomp.action needs a value: seccomp.action=ACTION"),
        ({"settings": ("seccomp.action=log", "seccomp.action=errno")}, "given twice"),
        ({"settings": ("apparmor.complain=maybe",)}, "'maybe' is not one of yes, no"),
        ({"settings": ("a\n.b=1",)}, "unknown target 'a"),
        ({"targets": ("docker",), "settings": ("apparmor.abi=4.0",)}, "for the target apparmor: add -t apparmor"),
        ({"into": "/dev/null"}, "choose with -t one of compose (a Compose file), oci (an OCI config.json)"),
        ({"targets": ("docker",), "into": "/dev/null"}, "--into needs a target that rewrites a file"),
        (
            {"targets": ("systemd,compose",), "into": "/dev/null"},
            "--into /dev/null is one file, and systemd and compose would each rewrite it: run generate once for each",
        ),
        ({"settings": ("selinux.types=tcp/65536=a_t",)}, "-O selinux.types: 'tcp/65536=a_t': a port is at most 65535"),
        *(
            ({"settings": (f"{name}/x/../y{end}",)}, f"-O {name.partition('=')[0]}: '/x/../y': write an absolute path")
            for name, end in (
                ("apparmor.attach=", ""),
                ("selinux.relabel=/a,", ""),
                ("selinux.types=", "=a_t"),
                ("lxc.seccomp=", ""),
                ("libvirt-lxc.launcher=", ""),
            )
        ),
        ({"settings": ("selinux.relabel=/",)}, "-O selinux.relabel: '/' is the whole machine"),
        ({"into": "/none"}, "cannot read /none"),
    ],
)
def test_what_cannot_be_is_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as raised:
        names(replace(NONE, **given))  # type: ignore[arg-type]
    assert message in str(raised.value)
    assert str(raised.value).isprintable()


def test_a_directory_without_templates_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "secomp.json.j2").touch()
    with pytest.raises(InputError, match="holds no template of profgen"):
        replace(NONE, templates=tmp_path).parsed()
    (tmp_path / "seccomp.json.j2").touch()
    assert replace(NONE, templates=tmp_path).parsed().templates.own() == ["seccomp.json.j2"]


DERIVE = DeriveOptions(
    runtime=None,
    runtime_version=None,
    new_privs=None,
    no_equivalents=False,
    no_companions=False,
    no_arguments=False,
    start_up=False,
    drop_failing=False,
    no_generalise=False,
    generalise_threshold=None,
    allow_loss=True,
)


def test_how_a_recording_becomes_a_policy() -> None:
    assert DERIVE.parsed() == Options()
    assert DERIVE.given == ()
    chosen = replace(DERIVE, runtime="runc", runtime_version="1.1.5", new_privs=True, no_generalise=True)
    assert chosen.parsed() == Options(runtime="runc", runtime_version="1.1.5", no_new_privs=False, generalise=False)
    assert chosen.given == ("--runtime", "--runtime-version", "--no-generalise", "--allow-new-privs")
    assert replace(DERIVE, new_privs=False).parsed() == Options(no_new_privs=True)
    assert replace(DERIVE, new_privs=False).given == ("--no-new-privs",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "rkt"}, "unknown runtime 'rkt'"),
        ({"runtime": "dokcer"}, r"unknown runtime 'dokcer' \(did you mean docker\?\): one of any, none, "),
        ({"runtime_version": "1"}, "--runtime-version needs --runtime"),
        ({"runtime_version": "1", "runtime": "any"}, "--runtime-version needs --runtime"),
        ({"no_generalise": True, "generalise_threshold": 3}, "no meaning with --no-generalise"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(DERIVE, **options).parsed()  # type: ignore[arg-type]
