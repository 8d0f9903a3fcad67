#!/bin/sh
# Write data/ and link model/ once, then train, merge and evaluate. Options are passed to
# `stockpot run`.
set -e
cd "$(dirname "$0")"
PATH="$(cd ../.. && pwd)/.venv/bin:$PATH"
test -d data || python prepare.py
exec stockpot run "$@"
