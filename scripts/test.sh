#!/usr/bin/env bash
# Runs every test and adds the runners' counts up to one closing line. Arguments go to cargo test.
set -uo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# One "test result:" line from each test binary, and from each crate's documentation tests.
read -r passed failed ignored < <(
  sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { print passed + 0, failed + 0, ignored + 0 }')

# A build that fails, or a test binary that dies, says so by its status alone.
if ((status != 0 && failed == 0)); then
  failed=1
fi
if ((passed + failed == 0)); then
  echo "No test ran." >&2
  status=1
fi
echo
echo "$passed passed, $failed failed, $ignored skipped"
exit "$status"
