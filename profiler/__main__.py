"""``python -m profiler`` and the ``profgen`` command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return the exit status."""
    try:
        from profiler.cli.main import run

        return run(sys.argv[1:])
    except (ImportError, MemoryError) as error:  # a limit on memory; run() handles later ones
        print(f"profgen: cannot start: {error or 'not enough memory'}", file=sys.stderr)
        return 125
    except KeyboardInterrupt:  # during the imports; run() handles later ones
        print("profgen: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
