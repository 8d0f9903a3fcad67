#!/bin/sh
# Train LoRA ingredients and merge them, then merge their adapters. Options are passed to
# `stockpot run`.
set -e
cd "$(dirname "$0")"
PATH="$(cd ../.. && pwd)/.venv/bin:$PATH"
stockpot run "$@"
exec python soup_of_adapters.py
