#!/bin/sh
# Run the test command under the policy of this change: verify.* in the report, and a part of the comment.
#
# PROFGEN_COMMAND  the program with its arguments, as for record.sh
# PROFGEN_PROFILE  the directory of the policy in the repository
# PROFGEN_REPORT   the directory of the report, where compare.sh has been
set -eu
report=$PROFGEN_REPORT
[ -f "$PROFGEN_PROFILE/policy.yaml" ] || exit 0

eval "set -- $PROFGEN_COMMAND"
status=0
"${PROFGEN:-profgen}" verify "$PROFGEN_PROFILE" --format junit --report "$report/verify.xml" -- "$@" || status=$?
[ "$status" -ne 0 ] || exit 0
echo "the test command does not run under its policy: status $status" > "$report/verify.failed"
[ ! -f "$report/verify.xml" ] || python3 - "$report/verify.xml" >&2 << 'END'
import sys, xml.etree.ElementTree as tree
print(*(failure.text for failure in tree.parse(sys.argv[1]).iter("failure")), sep="\n")
END
cat >> "$report/comment.md" << 'END'

The test command does not run under the policy of this change. The log names what is refused, and the lines that would
allow it; the artifact has the policy of a new recording in `recorded/`.
END
