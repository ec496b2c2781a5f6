"""Names of AppArmor profiles: what people call the workload, and a digest that tells policies apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from unit.targets.policies import file, policies, policy, transition

from profiler.errors import InputError
from profiler.policy.model import Policy
from profiler.targets.apparmor.naming import profile_name, valid_name
from profiler.targets.rendering import render_one


def stem(made: Policy) -> str:
    return profile_name(made).rsplit("-", 1)[0]


def test_the_name_is_what_people_call_the_workload() -> None:
    assert stem(policy()) == "profgen-app"
    assert stem(policy(argv=("/opt/a b\n/c'd",))) == "profgen-c_d"
    assert stem(policy(argv=())) == stem(policy(argv=("/\n",))) == "profgen-workload"
    assert stem(policy(argv=("(unknown)",), transitions=(transition("/usr/sbin/nginx", None),))) == "profgen-nginx"
    linked = policy(argv=("redis-server", "--port", "1"), transitions=(transition("/usr/bin/redis-check-rdb", None),))
    assert stem(linked) == "profgen-redis-server"


def test_what_entered_later_gives_no_name() -> None:
    """A health check's program stands among the first ones; the name is the workload's."""
    transitions = (transition("/bin/check", None), transition("/usr/sbin/app", None))
    assert stem(policy(transitions=transitions)) == "profgen-app"
    joined = policy(transitions=transitions[:1], argv=("(unknown)",))
    joined = replace(joined, workload=replace(joined.workload, joined=("/usr/sbin/served",)))
    assert stem(joined) == "profgen-served"


def test_two_policies_of_one_command_have_different_names() -> None:
    one, other = policy(file("/etc/a", "read")), policy(file("/etc/a", "read", "write"))
    assert stem(one) == stem(other)
    assert profile_name(one) != profile_name(other)
    assert profile_name(one) != profile_name(replace(one, no_new_privs=False))


@given(policies())
def test_the_profile_has_the_name_of_its_policy(made: Policy) -> None:
    assert render_one("apparmor", made).called == profile_name(made)


@given(policies())
def test_the_same_rights_give_the_same_name(made: Policy) -> None:
    """Also when the rows are in another order, and for other reasons."""
    name = profile_name(made)
    assert valid_name(name) == name
    files = tuple(replace(row, because=("user: other",)) for row in reversed(made.files))
    assert profile_name(replace(made, files=files, signals=made.signals[::-1])) == name


def test_the_profile_has_the_name() -> None:
    made = policy(file("/etc/a", "read"))
    output = render_one("apparmor", made)
    assert output.called == profile_name(made)
    assert f"\nprofile {output.called} {{\n".encode() in output.files[0].data


@pytest.mark.parametrize("name", ["", "a b", "a/b", "unconfined", "-a", "a\n", "x" * 101, "a:b", "é"])
def test_names_that_no_profile_can_have(name: str) -> None:
    with pytest.raises(InputError, match="not a name for a profile"):
        valid_name(name)
