#!/bin/sh
# Run the test command under the policy of this change: verify.* in the report, and a part of the comment.
#
# PROFGEN_COMMAND  the program with its arguments, as for record.sh
# PROFGEN_PROFILE  the directory of the policy in the repository
# PROFGEN_REPORT   the directory of the report, where compare.sh has been
# PROFGEN_LOG      github for annotations, which verdict.sh prints: on GitHub this script runs with annotations turned off
set -eu
report=$PROFGEN_REPORT
[ -f "$PROFGEN_PROFILE/policy.yaml" ] || exit 0

eval "set -- -- $PROFGEN_COMMAND"
[ "${PROFGEN_LOG:-text}" != github ] || set -- --report "github:$report/verify.github" "$@"
status=0
"${PROFGEN:-profgen}" verify "$PROFGEN_PROFILE" --report "json:$report/verify.json" \
    --report "sarif:$report/verify.sarif" --report "junit:$report/verify.xml" "$@" || status=$?
[ "$status" -ne 0 ] || exit 0
echo "the test command does not run under its policy: status $status" > "$report/verify.failed"
cat >> "$report/comment.md" << 'END'

The test command does not run under the policy of this change. The log names what is refused, and the lines that would
allow it; the artifact has the policy of a new recording in `recorded/`.
END
