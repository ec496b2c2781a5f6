#!/bin/sh
# Fail when a comparison or a run failed, and say why. PROFGEN_REPORT: the directory of the report.
set -eu
status=0
[ ! -f "$PROFGEN_REPORT/verify.github" ] || cat -- "$PROFGEN_REPORT/verify.github" # annotations
for name in diff verify; do
    if [ -f "$PROFGEN_REPORT/$name.failed" ]; then
        printf 'profgen: %s\n' "$(cat -- "$PROFGEN_REPORT/$name.failed")" >&2
        status=1
    fi
done
[ -z "${GITHUB_OUTPUT:-}" ] || printf '%s\n' "failed=$status" "report=$PROFGEN_REPORT" >> "$GITHUB_OUTPUT"
exit $status
