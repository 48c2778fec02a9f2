#!/usr/bin/env bash
# Fuzzes what arrives at a broker, at its clients, at its workers, in a chat, at bare sockets, at a member of an election
# and in a storage cluster, and what may stand in its files, for so many seconds in all. Begins with the conversations in
# fuzz/seeds; what it learns stays in fuzz/corpus.
#
#   scripts/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SECONDS_IN_ALL=${1:-20}

# Asked of rustup, because `cargo +nightly` may install what is missing.
if ! rustup toolchain list 2>/dev/null | grep -q '^nightly' || ! cargo fuzz --version >/dev/null 2>&1; then
  echo 'Fuzzing is skipped; it needs: rustup toolchain install nightly && cargo install cargo-fuzz'
  exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

fuzz() {
  # Zero would be without end.
  local target=$1 seconds=$(($2 > 0 ? $2 : 1))
  mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target"
  cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=2048 -print_final_stats=1 >"$log" 2>&1 || {
    cat "$log"
    return 1
  }
  echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing found"
}

# In twelfths of the time.
fuzz broker $((SECONDS_IN_ALL * 2 / 12))
fuzz client $((SECONDS_IN_ALL * 2 / 12))
for target in worker json chat tcp udp election storage registers; do
  fuzz "$target" $((SECONDS_IN_ALL / 12))
done
