#!/usr/bin/env bash
# Echo, chat, the election, the storage cluster and the trio in containers, the last tried the hard way: for each pattern a made-up job, a worker and the sink
# (or the broker) killed on the way, and every result compared with what the tools of the system make of
# the input.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly SMALL_FILES=400
# Seconds for a job; each takes under 20 on two idle cores.
readonly JOB_DEADLINE_S=240

export COMPOSE_PROJECT_NAME=mutirao-test-$$ # of its own: nothing else may share its containers and keys
export ALLOW_EXEC=true
image=${MUTIRAO_IMAGE:-mutirao}
work=$(mktemp -d "${TMPDIR:-/tmp}/mutirao-compose.XXXXXX")
passed=0 failed=0 job_pid=

say() { printf '%s\n' "$*"; }
compose() { "$here/compose.sh" "$@"; }

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$job_pid" ] || kill "$job_pid" 2>/dev/null || true
  compose down --volumes --timeout 5 >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Small files in folders, one large enough to be split, one without a last line end, an empty one.
make_input() {
  local i folder
  for ((i = 0; i < SMALL_FILES; i++)); do
    folder=$work/input/folder-$((i % 7))
    mkdir -p "$folder"
    printf 'File Number %d\nSome WORDS, then MORE: %d\n' "$i" $((i * i)) >"$folder/file-$i.txt"
  done
  : >"$work/input/empty.txt"
  printf 'no line END' >"$work/input/no-line-end.txt"
  seq -f 'Line %.0f of the LARGE file' 150000 >"$work/input/large.txt"
}

# What each result must hold, by other means: $1 is the folder, the rest a filter.
expect() {
  local folder=$work/expected/$1 file
  shift
  (cd "$work/input" && find . -type f -print0) | while IFS= read -r -d '' file; do
    mkdir -p "$folder/$(dirname "$file")"
    "$@" <"$work/input/$file" >"$folder/$file.out"
  done
}

results() { find "$1" -name '*.out' -not -path '*/.mutirao/*' 2>/dev/null | wc -l; }

# Waits until the folder $1 holds at least $2 results while the job runs.
wait_for_results() {
  local deadline=$((SECONDS + 60))
  while (($(results "$1") < $2)); do
    kill -0 "$job_pid" 2>/dev/null || return 1
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# kill -9 from outside, as the system does when memory runs out: Docker itself has not been asked to
# stop the container, so the restart policy must bring it back.
crash() {
  local pid
  pid=$(docker inspect --format '{{.State.Pid}}' "$1")
  docker run --rm --pid host --user 0:0 --network none --entrypoint /bin/sh "$image" -c "kill -9 $pid"
}

is_back() {
  local deadline=$((SECONDS + 30))
  while (($(docker inspect --format '{{.RestartCount}}' "$1") < 1)) \
    || [ "$(docker inspect --format '{{.State.Running}}' "$1")" != true ]; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

# A worker dies for good, another one and whoever keeps the results die and come back. Says what is
# wrong.
disturb() {
  local out=$1 workers name=sink keeper
  [ "$PATTERN" != broker ] || name=broker
  mapfile -t workers < <(compose ps --quiet worker)
  keeper=$(compose ps --quiet "$name")
  wait_for_results "$out" 20 || { say "the job was over, or made no progress, before a worker could be killed"; return 1; }
  docker kill "${workers[0]}" >/dev/null || { say "no worker to kill"; return 1; }
  wait_for_results "$out" 100 || { say "the job was over, or stood still, after a worker was killed"; return 1; }
  crash "$keeper" || { say "cannot kill the $name"; return 1; }
  crash "${workers[1]}" || { say "cannot kill a second worker"; return 1; }
  is_back "$keeper" || { say "the $name did not come back"; return 1; }
  is_back "${workers[1]}" || { say "the second worker did not come back"; return 1; }
}

# One job: $1 names it, $2 the folder of expected results, $3 says whether to disturb it.
try_job() {
  local name=$1 expected=$work/expected/$2 disturbed=$3
  local out=$work/results/$name log=$work/$name.log began=$SECONDS wrong='' status=0
  export INPUT=$work/input OUT=$out
  : >"$log"
  setsid timeout --signal KILL "$JOB_DEADLINE_S" "$here/compose.sh" up >"$log" 2>&1 </dev/null &
  job_pid=$!
  if [ "$disturbed" = disturbed ]; then
    # The workers are the new ones only when the job has begun.
    until grep -q 'tasks at' "$log" || ! kill -0 "$job_pid" 2>/dev/null; do sleep 0.2; done
    wrong=$(disturb "$out") || true
  fi
  wait "$job_pid" || status=$?
  job_pid=
  if [ -z "$wrong" ] && ((status != 0)); then
    wrong="it ended with exit status $status"
  elif [ -z "$wrong" ] && ! diff -r "$expected" "$out" >"$work/diff" 2>&1; then
    wrong="the results are not the expected ones: $(head -n 3 "$work/diff")"
  fi
  report "$name" "$wrong" "$log" $((SECONDS - began))
}

report() {
  local name=$1 wrong=$2 log=$3 seconds=$4
  if [ -z "$wrong" ]; then
    passed=$((passed + 1))
    say "ok    $name (${seconds} s; $(grep -E '^[0-9]+ tasks:|^received|ana: | leads, epoch ' "$log" | tail -n 1))"
    return
  fi
  failed=$((failed + 1))
  say "FAIL  $name (${seconds} s): $wrong"
  say "--- what “make up” printed last"
  tail -n 40 "$log"
  say "--- what the containers printed last"
  compose logs --no-color --tail=40 2>&1 || true
  say "---"
}

# The echo by one transport: what the client prints, and what both ends write down.
try_echo() {
  local transport=$1 out=$work/results/echo-$1 log=$work/echo-$1.log began=$SECONDS wrong=''
  export OUT=$out
  if ! APP=echo TRANSPORT=$transport MESSAGE="olá $transport" timeout 120 "$here/compose.sh" up >"$log" 2>&1 </dev/null; then
    wrong='it did not end well'
  elif ! grep -qx "received: olá $transport" "$log" \
    || ! grep -q " received: olá $transport\$" "$out/respuestas.txt" \
    || ! grep -Eq "^[0-9TZ:.-]+ [0-9.]+ olá $transport\$" "$out/log.txt"; then
    wrong='the message was not answered or not written down'
  fi
  report "echo-$transport" "$wrong" "$log" $((SECONDS - began))
}

# Somebody who says something in the chat, and somebody who comes later and reads it.
try_chat() {
  local log=$work/chat.log began=$SECONDS wrong=''
  export OUT=$work/results/chat
  chat_client() {
    timeout 60 docker run --rm --interactive --network "${COMPOSE_PROJECT_NAME}_default" "$image" \
      chat client --server tcp://chat-server:5570 --name "$1" >>"$log" 2>&1
  }
  : >"$log"
  if ! APP=chat timeout 120 "$here/compose.sh" up >>"$log" 2>&1 </dev/null; then
    wrong='the server did not start'
  elif ! chat_client ana <<<'bom dia' || ! chat_client bia <<<'ola' || ! grep -q 'ana: bom dia' "$log"; then
    wrong='what was said was not heard'
  fi
  report chat "$wrong" "$log" $((SECONDS - began))
}

# The leader is killed, and another leads in a later epoch.
try_election() {
  local log=$work/election.log began=$SECONDS wrong='' leader epoch
  export OUT=$work/results/election
  # The leadership with the highest epoch so far: "member epoch".
  latest() { compose logs --no-color 2>/dev/null | sed -n 's/.* member \([0-9]*\) leads, epoch \([0-9]*\)$/\1 \2/p' | sort -n -k2 | tail -n 1; }
  elected_after() {
    local deadline=$((SECONDS + 30))
    until read -r leader epoch <<<"$(latest)" && ((${epoch:-0} > $1)); do
      ((SECONDS < deadline)) || return 1
      sleep 0.2
    done
  }
  if ! APP=election timeout 120 "$here/compose.sh" up >"$log" 2>&1 </dev/null; then
    wrong='the members did not start'
  elif ! elected_after 0; then
    wrong='nobody was elected'
  else
    compose kill "election-$leader" >>"$log" 2>&1
    elected_after "$epoch" || wrong="nobody was elected after member $leader was killed"
  fi
  echo "member ${leader:-?} leads, epoch ${epoch:-?}" >>"$log"
  report election "$wrong" "$log" $((SECONDS - began))
}

# A record is stored; it is there although a data node and the head are killed.
try_storage() {
  local log=$work/storage.log began=$SECONDS wrong='' id
  export OUT=$work/results/storage
  client() { timeout 90 "$here/compose.sh" run --rm -T storage-client storage "$@" </dev/null 2>>"$log"; }
  if ! APP=storage INTERVAL=500ms MESSAGE='olá' timeout 120 "$here/compose.sh" up >"$log" 2>&1 </dev/null; then
    wrong='the record was not stored'
  elif ! id=$(sed -n 's/^stored \([0-9a-f]*\) .*/\1/p' "$OUT/registro_cliente.txt") || [ -z "$id" ]; then
    wrong='the client has noted nothing'
  else
    compose kill storage-norte >>"$log" 2>&1
    crash "$(compose ps --quiet storage-head)"
    [ "$(client get "$id")" = 'olá' ] || wrong="record $id is not to be had"
    grep -q "^record $id " "$OUT"/storage/{sur,este}/data.txt || wrong="no data node has record $id"
  fi
  report storage "$wrong" "$log" $((SECONDS - began))
}

compose image
say "Making the input and what is expected of it ..."
make_input
expect upper tr a-z A-Z
expect sums sh -c 'sha256sum | cut -d" " -f1'
expect lower tr A-Z a-z

# Each task takes a while, so that there is a middle of the job to kill things in.
OP="exec:sh -c 'sleep 0.1; exec tr a-z A-Z'" PATTERN=push-pull WORKERS=3 \
  try_job push-pull upper disturbed
OP="exec:sh -c 'sleep 0.1; sha256sum | cut -c1-64'" PATTERN=req-rep WORKERS=5 \
  try_job req-rep-5-workers sums disturbed
OP="exec:sh -c 'sleep 0.1; exec tr A-Z a-z'" PATTERN=pub-sub WORKERS=3 \
  try_job pub-sub lower disturbed
OP="exec:sh -c 'sleep 0.1; exec tr a-z A-Z'" PATTERN=broker WORKERS=3 \
  try_job broker upper disturbed
# And one at full speed, on containers that are there already, with the large file in pieces.
OP=lowercase PATTERN=pub-sub WORKERS=3 \
  try_job large-file-in-pieces lower undisturbed

for transport in tcp udp zmq; do
  try_echo "$transport"
  # Another transport is another server.
  compose down >/dev/null 2>&1
done
try_chat
try_election
try_storage

say "$passed passed, $failed failed"
((failed == 0))
