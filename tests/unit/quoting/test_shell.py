"""Words of a shell, and command lines of profgen."""

from pathlib import Path

from profiler.quoting.shell import path, profgen


def test_a_path_is_not_taken_for_an_option() -> None:
    assert path("-d") == "./-d"
    assert path("a b") == "'a b'"
    assert path("./-d") == "./-d"
    assert path("-") == "./-"
    assert (
        profgen("merge", "--base", Path("-x y"), Path("/m"), "-o", "DIR") == "profgen merge --base './-x y' /m -o DIR"
    )
