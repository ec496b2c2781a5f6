"""Command lines of engines: a run is found whatever stands around it, and becomes the same in two steps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.engines.commands import Compose, Grammar, Other, Run, grammar, is_client, options, recognise

GLOBAL_HELP = """
Usage:  docker [OPTIONS] COMMAND

Options:
      --config string      Location of client config files (default "/root/.docker")
  -c, --context string     Name of the context to use to connect to the daemon
  -D, --debug              Enable debug mode
  -H, --host list          Daemon socket to connect to
"""
RUN_HELP = """
Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]

Options:
      --add-host list                  Add a custom host-to-IP mapping
                                       (host:ip)
  -d, --detach                         Run container in background and
                                       print container ID
      --detach-keys string             Override the key sequence for
                                       detaching a container
  -e, --env list                       Set environment variables
      --gpus gpu-request               GPU devices to add to the
                                       container ('all' to pass all GPUs)
      --init                           Run an init inside the container
  -i, --interactive                    Keep STDIN open even if not attached
      --blkio-weight-device DEVICE_NAME:WEIGHT   Block IO weight
      --pull[="always"]                Pull image
      --squash string[="all"]          Make one layer
      --rm                             Automatically remove the container
      --sig-proxy                      Proxy received signals to the
                                       process (default true)
  -t, --tty                            Allocate a pseudo-TTY
  -v, --volume list                    Bind mount a volume
"""
COMPOSE_HELP = """
Options:
  -f, --file stringArray               Compose configuration files
      --verbose                        Show more output
"""


def help_of(words: Sequence[str]) -> str:
    if "run" in words:
        return RUN_HELP
    return COMPOSE_HELP if "compose" in words or words[0].endswith("compose") else GLOBAL_HELP


def test_grammar() -> None:
    found = grammar(RUN_HELP)
    assert found.valued == {"--add-host", "--detach-keys", "--env", "--gpus", "--volume", "--blkio-weight-device"}
    assert found.flags == {"--detach", "--init", "--interactive", "--pull", "--rm", "--squash", "--sig-proxy", "--tty"}
    assert found.shorts == {"d": "--detach", "e": "--env", "i": "--interactive", "t": "--tty", "v": "--volume"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("docker run redis", Run("docker", ("docker",), (), ("redis",))),
        ("/usr/bin/podman run redis a", Run("podman", ("/usr/bin/podman",), (), ("redis", "a"))),
        ("docker container run redis", Run("docker", ("docker",), (), ("redis",))),
        (
            "docker -H tcp://run --debug run redis",
            Run("docker", ("docker", "-H", "tcp://run", "--debug"), (), ("redis",)),
        ),
        ("docker --context=run run redis", Run("docker", ("docker", "--context=run"), (), ("redis",))),
        ("docker run --rm -d redis -d", Run("docker", ("docker",), ("--rm",), ("redis", "-d"), detached=True)),
        (
            "docker run -itd redis",
            Run("docker", ("docker",), ("-i", "-t"), ("redis",), detached=True, interactive=True),
        ),
        (
            "docker run -itv /a:/b redis",
            Run("docker", ("docker",), ("-i", "-t", "-v", "/a:/b"), ("redis",), False, True),
        ),
        ("docker run -d=false redis", Run("docker", ("docker",), (), ("redis",))),
        (
            "docker run --detach=false -i=true redis",
            Run("docker", ("docker",), ("-i=true",), ("redis",), interactive=True),
        ),
        ("docker run --detach --detach=0 redis", Run("docker", ("docker",), (), ("redis",))),
        ("docker run -eA=1 --env B redis", Run("docker", ("docker",), ("-eA=1", "--env", "B"), ("redis",))),
        ("docker run --unknown value redis", Run("docker", ("docker",), ("--unknown", "value"), ("redis",))),
        ("docker run --sig-proxy=false --detach-keys x redis", Run("docker", ("docker",), (), ("redis",))),
        ("docker run --pull redis", Run("docker", ("docker",), ("--pull",), ("redis",))),
        ("docker run --rm -- redis -x", Run("docker", ("docker",), ("--rm",), ("redis", "-x"))),
        ("docker run", Run("docker", ("docker",), (), ())),
        ("docker run -v", Run("docker", ("docker",), ("-v",), ())),
        ("docker exec redis ls", Other("docker", "exec")),
        ("docker", Other("docker", "")),
        ("nerdctl ps", Other("nerdctl", "ps")),
        (
            "docker compose -f a up -d",
            Compose("docker", ("docker", "compose", "-f", "a", "up", "-d"), ("docker", "compose", "-f", "a")),
        ),
        ("docker-compose up web", Compose("docker", ("docker-compose", "up", "web"), ("docker-compose",))),
        ("docker compose down", Other("docker", "compose down")),
        ("ls docker run", None),
        ("dockerd", None),
        ("./docker", Other("docker", "")),
    ],
)
def test_recognise(line: str, expected: object) -> None:
    assert recognise(line.split(" "), help_of) == expected


def test_nothing() -> None:
    assert recognise([], help_of) is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["docker", "run"], True),
        (["/usr/bin/podman"], True),
        (["docker-compose"], True),
        (["dockerd"], False),
        ([], False),
    ],
)
def test_clients(argv: list[str], expected: bool) -> None:
    assert is_client(argv) is expected
    if not expected:
        assert recognise(argv, help_of) is None


def test_an_engine_that_cannot_be_asked() -> None:
    """Without help, flags are not known; what is written with an equals sign, and images after it, still are."""
    assert recognise(["docker", "run", "--name=x", "redis"], lambda words: "") == Run(
        "docker", ("docker",), ("--name=x",), ("redis",)
    )


WORDS = st.lists(
    st.sampled_from(
        ["-d", "-it", "-e", "--env", "--rm", "--", "-", "", "redis", "--x=", "-=", "--", "\udcff", "run", "-dv"]
    ),
    max_size=8,
)


@given(WORDS)
def test_options_keep_every_word(words: list[str]) -> None:
    """Nothing that was given is lost or made up, but for the word that ends the options, and short options come
    apart."""
    found, rest = options(words, grammar(RUN_HELP))
    letters = "".join(word.lstrip("-") for option in found for word in option.words) + "".join(rest)
    assert letters == "".join(word.lstrip("-") for word in words[: len(words) - len(rest)]) + "".join(rest)
    assert not rest or rest == words[len(words) - len(rest) :]


@given(st.lists(st.text(max_size=4), max_size=6), st.text(max_size=300))
def test_any_words_and_any_help(words: list[str], text: str) -> None:
    recognise(["docker", *words], lambda _: text)
    recognise(["docker-compose", *words], lambda _: text)
    assert isinstance(grammar(text), Grammar)
