#!/usr/bin/env bash
# Make one virtual environment from one lock file, with this project in it (editable).
#   usage: install.sh PYTHON VENV LOCK [REQUIREMENT...]
# The lock goes in from scratch or not at all: its stamp is named after its content and written last,
# so that an interrupted or outdated environment is never mistaken for a finished one. Requirements
# are installed on top of the lock and replace what it pins.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2 lock=$3
shift 3

if [ -z "$python" ]; then
  echo "setup: found no Python 3.11 that can make virtual environments; install python3.11 with venv, or set PYTHON" >&2
  exit 1
fi

content() { { cat "$@"; "$python" -VV; } | sha256sum | cut -c1-16; }

locked=$venv/locked-$({ content "$lock"; echo "$@"; } | sha256sum | cut -c1-16)
project=$venv/project-$(content pyproject.toml)
log=$venv/install.log

run_pip() {
  "$venv/bin/python" -m pip --disable-pip-version-check install --no-deps "$@" >>"$log" 2>&1 && return
  if grep -q 'No matching distribution found for torch==' "$log"; then
    echo "setup: pip found no CPU build of torch; add PyTorch's CPU wheel index to PIP_EXTRA_INDEX_URL (pytorch.org's install page names it)"
  else
    echo "setup: pip failed: $(grep '^ *ERROR' "$log" | head -n 1) (all of it: $log)"
  fi >&2
  exit 1
}

if [ ! -e "$locked" ]; then
  rm -rf "$venv"
  echo "setup: $venv, $("$python" -V)"
  "$python" -m venv "$venv"
  echo "setup: $(grep -c == "$lock") packages of $lock (minutes the first time; log: $log)"
  run_pip --no-compile -r "$lock"
  if [ $# -gt 0 ]; then run_pip "$@"; fi
  touch "$locked"
fi

if [ ! -e "$project" ]; then
  rm -f "$venv"/project-*
  echo "setup: this project, editable"
  run_pip --no-build-isolation --editable .
  touch "$project"
fi
