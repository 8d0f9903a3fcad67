#!/bin/sh
# Write runs/ once, then import, train, merge and evaluate. Options are passed to `stockpot run`.
set -e
cd "$(dirname "$0")"
PATH="$(cd ../.. && pwd)/.venv/bin:$PATH"
test -d runs || python prepare.py
exec stockpot run "$@"
