"""Put the text of a report into one comment of a pull request: update the one from the last run, or make one.

PROFGEN_REPORT   the directory of the report, with comment.md
PROFGEN_PROFILE  the directory of the policy: each has a comment of its own
PROFGEN_PULL     the number of the pull request; empty for other events
GITHUB_TOKEN, GITHUB_API_URL, GITHUB_REPOSITORY  as GitHub Actions sets them
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

LENGTH_MAX = 65_000
"""Characters of a comment; GitHub takes 65536."""
PAGES_MAX = 30
"""Pages of 100 comments in which an old one is looked for."""
SECONDS = 30


def request(method: str, path: str, data: dict[str, str] | None = None) -> Any:
    """Call GitHub's API and return its answer. Raises OSError."""
    call = urllib.request.Request(
        f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/issues/{path}",
        None if data is None else json.dumps(data).encode(),
        {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
        method=method,
    )
    with urllib.request.urlopen(call, timeout=SECONDS) as answer:
        return json.load(answer)


def known(pull: int, marker: str) -> int | None:
    """Return the number of the comment that an earlier run made. A person's comment does not count."""
    for page in range(1, PAGES_MAX + 1):
        found = request("GET", f"{pull}/comments?per_page=100&page={page}")
        for row in found:
            if row["user"]["type"] == "Bot" and row["body"].startswith(marker):
                return int(row["id"])
        if len(found) < 100:
            break
    return None


def main() -> int:
    """Write the comment. A token that may not write is a warning: pull requests of forks have none."""
    number = os.environ.get("PROFGEN_PULL", "")
    if not number:
        return 0
    name = hashlib.sha256(os.environ["PROFGEN_PROFILE"].encode()).hexdigest()[:16]
    marker = f"<!-- profgen {name} -->\n"
    text = marker + Path(os.environ["PROFGEN_REPORT"], "comment.md").read_text(encoding="utf-8")
    if len(text) > LENGTH_MAX:
        text = text[:LENGTH_MAX].rpartition("\n")[0] + "\n\nThe rest is in the artifact of this run.\n"
    try:
        old = known(int(number), marker)
        if old is None:
            request("POST", f"{int(number)}/comments", {"body": text})
        else:
            request("PATCH", f"comments/{old}", {"body": text})
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403, 404):
            raise
        print(f"profgen: no comment: the token may not write one (HTTP {error.code}); it needs pull-requests: write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
