#!/usr/bin/env bash
# Runs docker compose (the v2 plugin or docker-compose v1) with the settings of the Makefile:
# INPUT, OUT, OP, PATTERN, WORKERS, STORE, APP, TRANSPORT, MESSAGE, ALGORITHM, REPLICAS and INTERVAL from the environment.
#
#   compose.sh up      build, start, follow the job to its end; the exit status is the ventilator's
#   compose.sh image   build only
#   compose.sh ...     anything else goes to compose as it is: logs --follow, down, ps
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
image=${MUTIRAO_IMAGE:-mutirao}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$*"
  exit 3
}

need_docker() {
  command -v docker >/dev/null || die "Docker is missing: please install it (Debian, Ubuntu: apt-get install docker.io docker-compose)."
  local answer
  if ! answer=$(docker version --format '{{.Server.Version}}' 2>&1); then
    case $answer in
      *"permission denied"*) die "Docker does not let $(id -un) in: please join the group (sudo usermod -aG docker $(id -un), then log in again), or use sudo." ;;
      *) die "Docker is installed, but its daemon does not answer: please start it (sudo systemctl start docker)." ;;
    esac
  fi
  if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
  else
    die "Docker is here, docker compose is not: please install it (Debian, Ubuntu: apt-get install docker-compose)."
  fi
  compose+=(--file "$root/docker-compose.yml" --project-name "${COMPOSE_PROJECT_NAME:-mutirao}")
  # Only what is named is started; what is looked at, followed or removed is everything.
  compose+=(--profile broker --profile echo --profile chat --profile election --profile storage)
}

# Results belong to whoever calls: to the person behind sudo, to root itself under rootless Docker.
set_user() {
  MUTIRAO_UID=${MUTIRAO_UID:-${SUDO_UID:-$(id -u)}}
  MUTIRAO_GID=${MUTIRAO_GID:-${SUDO_GID:-$(id -g)}}
  if docker info --format '{{.SecurityOptions}}' 2>/dev/null | grep -q rootless; then
    MUTIRAO_UID=0 MUTIRAO_GID=0
  fi
  export MUTIRAO_UID MUTIRAO_GID
}

# Compose wants whole paths, and Docker would make a missing folder as root.
set_folders() {
  INPUT=$(realpath -m -- "${INPUT:-$root/examples/input}")
  OUT=$(realpath -m -- "${OUT:-$root/results}")
  export INPUT OUT
}

check_folders() {
  [ -d "$INPUT" ] || die "INPUT=$INPUT is no folder; containers get whole folders: put the file into one."
  if [ ! -d "$OUT" ]; then
    mkdir -p -- "$OUT" || die "Cannot make OUT=$OUT."
    [ "$(id -u)" != 0 ] || chown "$MUTIRAO_UID:$MUTIRAO_GID" -- "$OUT"
  fi
}

# The first build takes minutes and shows what it does; later ones take seconds.
build_image() {
  local build=(docker build --tag "$image") name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || build+=(--build-arg "$name")
  done
  if docker image inspect "$image" >/dev/null 2>&1; then
    say "Bringing the image “$image” up to date (minutes only if the sources have changed) ..."
    build=(quietly "${build[@]}")
  else
    say "Building the image “$image”; the first time takes some minutes ..."
  fi
  "${build[@]}" "$root" || die "The image could not be built; the reason is above."
}

# Which services wait for work, and which one is the job.
choose_app() {
  case ${APP:=dispatch} in
    dispatch) waiting=(sink worker) job=ventilator ;;
    echo) waiting=(echo-server) job=echo-client ;;
    chat)
      waiting=(chat-server) job=
      [ "${CHAT_PATTERN:-}" != push-pull ] || die "CHAT_PATTERN=push-pull needs a port for each member, which no container can publish: choose pub-sub or req-rep."
      ;;
    election) waiting=(election-{1..5}) job= ;;
    storage) waiting=(storage-head storage-norte storage-sur storage-este) job=storage-client ;;
    *) die "APP=$APP is not known; there are: dispatch, echo, chat, election, storage." ;;
  esac
  [ "$APP" != dispatch ] || [ "${PATTERN:-}" != broker ] || waiting=(broker "${waiting[@]}")
}

# Runs a command; what it prints is shown only if it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

up() {
  choose_app
  check_folders
  build_image
  say "Starting ${waiting[*]} ..."
  quietly "${compose[@]}" up --detach "${waiting[@]}" || die "The containers could not be started; the reason is above."
  if [ -z "$job" ]; then
    stay
    return
  fi
  # A fresh container for each job, so that its log and exit status are this job's.
  quietly "${compose[@]}" up --detach --no-deps --force-recreate "$job" || die "The $job could not be started; the reason is above."
  follow "$("${compose[@]}" ps --all --quiet "$job")"
}

# What is started to stay: how to use it.
stay() {
  if [ "$APP" = election ]; then
    say "Five members elect. scripts/compose.sh exec election-1 mutirao election watch shows who leads, scripts/compose.sh kill election-5 kills one, and start election-5 brings it back. “make down” stops them; their votes stay."
    return
  fi
  local flags=''
  [ -z "${TRANSPORT:-}" ] || flags+=" --transport $TRANSPORT"
  [ -z "${CHAT_PATTERN:-}" ] || flags+=" --pattern $CHAT_PATTERN"
  say "The chat is at tcp://127.0.0.1:5570: target/release/mutirao chat client$flags --name NAME (make build makes it). “make down” stops it."
}

# Shows the job's log until it ends. Ctrl-C goes to the job, which drains and reports.
follow() {
  local id=$1 since=0 status
  interrupted=
  trap 'interrupted=yes; docker kill --signal INT "$id" >/dev/null 2>&1 || true' INT
  docker logs --follow "$id" || true
  if [ -n "$interrupted" ]; then
    since=$(date +%s)
    docker logs --follow --since "$since" "$id" || true
  fi
  status=$(docker wait "$id")
  trap - INT
  if [ "$status" = 0 ] && [ "$APP" = storage ]; then
    say "The record is safe, its id is above; every file is in $OUT. scripts/compose.sh run --rm storage-client storage status shows the cluster; put, get, list and verify work alike. “make down” stops it; the records stay."
  elif [ "$status" = 0 ]; then
    say "The results are in $OUT. The others wait for the next “make up”; “make down” stops them."
  else
    say "The $job ended with exit status $status. “make logs” shows what the others said."
  fi
  return "$status"
}

need_docker
set_user
set_folders
case $* in
  up) up ;;
  image) build_image ;;
  *) exec "${compose[@]}" "$@" ;;
esac
