#!/usr/bin/env bash
# Prints the path of a uv that is new enough: the one on PATH, else one in the cache, installed when first asked for.
set -euo pipefail
version=0.13.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llm-serving
home=$cache/uv-$version
fail() { echo "error: $1" >&2; exit 1; }

# Python that may not keep its bytecode compiles the SDKs, 100 MB of source, in each process: so they are compiled once.
compile_once() {
  if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ] && [ -f uv.lock ] && [ ! .venv/.compiled -nt uv.lock ]; then
    echo "compiling the Python packages, once: PYTHONDONTWRITEBYTECODE is set" >&2
    "$1" run --quiet --frozen --compile-bytecode python -c "" >&2 && touch .venv/.compiled
  fi
}

if found=$(command -v uv) && [[ $("$found" --version 2>/dev/null) =~ ^uv\ (0\.(9|[1-9][0-9]+)|[1-9][0-9]*)\. ]]; then
  compile_once "$found"
  echo "$found"
  exit
fi

install_uv() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed: install it and put it on PATH as python3"
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
      fail "the package python3-venv is missing: sudo apt-get install python3-venv"
    { apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv; } >&2 ||
      fail "the package python3-venv can't be installed: see what apt-get says above"
  fi
  echo "installing uv $version" >&2
  rm -rf "$home" "$home.tmp"
  python3 -m venv "$home.tmp" >&2 || fail "python3 can't make a virtual environment in $cache"
  "$home.tmp/bin/pip" install -q --disable-pip-version-check "uv==$version" >&2 ||
    fail "uv $version can't be installed from the Python package index: see what pip says above"
  mv "$home.tmp" "$home"
}

# Two runs at once: the second waits for the first, and then finds what it installed.
if [ ! -x "$home/bin/uv" ]; then
  mkdir -p "$cache" || fail "$cache can't be written"
  exec 9>"$cache/uv.lock"
  flock 9
  [ -x "$home/bin/uv" ] || install_uv
fi
compile_once "$home/bin/uv"
echo "$home/bin/uv"
