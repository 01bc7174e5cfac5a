#!/usr/bin/env bash
# Prints the path of a uv that is new enough: the one on PATH, else one in the cache, installed when first asked for.
set -euo pipefail
version=0.13.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llm-serving
fail() { echo "error: $1" >&2; exit 1; }

if found=$(command -v uv) && "$found" --version | grep -qE '^uv (0\.(9|[1-9][0-9]+)|[1-9])\.'; then
  echo "$found"
  exit
fi
uv=$cache/uv-$version/bin/uv
if [ ! -x "$uv" ]; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || fail "Python 3.11 or newer is needed as python3"
  mkdir -p "$cache"
  exec 9>"$cache/uv.lock"
  flock 9
  if [ ! -x "$uv" ]; then
    python3 -c 'import ensurepip' 2>/dev/null || apt-get install -y -q python3-venv >&2 || fail "the package python3-venv is missing: sudo apt-get install python3-venv"
    rm -rf "$cache/uv-$version"
    echo "installing uv $version" >&2
    python3 -m venv "$cache/uv-$version.tmp"
    "$cache/uv-$version.tmp/bin/pip" install -q --disable-pip-version-check "uv==$version" >&2 || fail "uv $version can't be installed from the Python package index"
    mv "$cache/uv-$version.tmp" "$cache/uv-$version"
  fi
fi
echo "$uv"
