#!/bin/sh
# Run the pipeline three times, behind the command given as arguments (if any), and compare the results.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

for run in 1 2 3; do
    timeout 60 "$@" "$here/pipeline.sh" "$directory/result" > "$directory/output" || {
        echo "load failed: run $run ended with status $?" >&2
        exit 1
    }
    if [ "$run" = 1 ]; then cp "$directory/result" "$directory/first"; fi
    if ! cmp -s "$directory/result" "$directory/first" || ! cmp -s "$directory/output" "$directory/first" ||
        [ "$(wc -l < "$directory/first")" != 10 ]; then
        echo "load failed: run $run gave a different result" >&2
        exit 1
    fi
done
echo "3 runs gave the same result"
