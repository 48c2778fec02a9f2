#!/usr/bin/env bash
# Sees to it that Rust, a C linker and libzmq's headers are there; with `test` also what the examples in
# Python need, which the tests run. Instant when they are.
set -euo pipefail

readonly RUST_AT_LEAST=1.91

say() { printf '%s\n' "$*" >&2; }

# Is version $1 the same as or newer than $2?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

missing_packages() {
  command -v cc >/dev/null || echo gcc libc6-dev
  command -v pkg-config >/dev/null || echo pkg-config
  pkg-config --exists libzmq 2>/dev/null || echo libzmq3-dev
  [ "${1:-}" != test ] || has_python || echo python3 python3-zmq python3-msgpack
}

# Is there a Python that has what the examples need? The tests look in the same places.
has_python() {
  local python
  for python in python3 /usr/bin/python3; do
    ! "$python" -c 'import msgpack, zmq' 2>/dev/null || return 0
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

install() {
  local command="apt-get update && apt-get install -y $*"
  if ! command -v apt-get >/dev/null; then
    say "Missing: $* (their Debian names). This system has no apt-get: please install the like of them with its own package manager, then try again."
    return 1
  fi
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    say "Missing: $*. There is no sudo here: please run as root: $command"
    return 1
  fi
  say "Installing $* with apt-get ..."
  if ! as_root apt-get update -qq >/dev/null; then
    say "apt-get update did not work; going on with the package lists that are here."
  fi
  if ! as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null; then
    say "Could not install $*. Please run as root: $command"
    return 1
  fi
}

check_rust() {
  if ! command -v cargo >/dev/null; then
    say "Rust is missing. Please install it from https://rustup.rs (curl https://sh.rustup.rs -sSf | sh), then try again."
    return 1
  fi
  local version
  version=$(cargo --version | cut -d' ' -f2)
  if ! at_least "${version%%-*}" "$RUST_AT_LEAST"; then
    say "Rust $RUST_AT_LEAST or newer is needed; this is $version. Please run “rustup update”, or install Rust from https://rustup.rs."
    return 1
  fi
}

check_rust
mapfile -t packages < <(missing_packages "$@" | tr ' ' '\n')
if ((${#packages[@]})); then
  install "${packages[@]}"
fi
