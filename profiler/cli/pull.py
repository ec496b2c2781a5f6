"""``profgen pull``: a profile from a registry."""

from __future__ import annotations

from pathlib import Path

import click

from profiler.cli.options import output_file
from profiler.cli.results import JSON, print_json
from profiler.cli.terminal import emit, say
from profiler.files import STANDARD_OUTPUT, write_atomic


@click.command("pull")
@click.argument("reference", metavar="REGISTRY/NAME:TAG|@DIGEST")
@click.option(
    "-o", "--output", type=output_file, metavar="FILE", help="Where the profile goes.  [default: standard output]"
)
@click.option("--plain-http", is_flag=True, help="Use HTTP without TLS, for a local registry.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@JSON
def pull(reference: str, output: str | None, plain_http: bool, quiet: bool, form: str | None) -> None:
    """Pull a seccomp profile that is an OCI artifact (KEP-6061), and check it as a container runtime does.

    The digest and all rules are checked before anything is written. Credentials are those of docker login. It takes
    the extra registry.

    \b
      profgen pull registry.example.com/profiles/nginx:1 -o seccomp.json
      profgen pull localhost:5000/web@sha256:... --plain-http > seccomp.json
    """
    from profiler.registry.client import Client
    from profiler.registry.reference import parse

    place = parse(reference)
    to_file = output not in (None, str(STANDARD_OUTPUT))
    if form == "json" and not to_file:
        raise click.UsageError("--json prints on standard output, where the profile goes too: name a file with -o")
    profile, digest = Client(place, plain_http).pull()
    if output is None or not to_file:
        emit(profile)
    else:
        write_atomic(Path(output), profile)
    if form == "json":
        print_json(
            "pull", {"reference": place.pinned(digest), "digest": digest, "size": len(profile), "output": output}
        )
    elif not quiet:
        say(f"pulled {place.pinned(digest)}")
