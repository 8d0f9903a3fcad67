#!/bin/sh
# Train LoRA ingredients and soup them, then soup their adapters. Options go to `stockpot run`.
set -e
cd "$(dirname "$0")"
PATH="$(cd ../.. && pwd)/.venv/bin:$PATH"
stockpot run "$@"
exec python soup_of_adapters.py
