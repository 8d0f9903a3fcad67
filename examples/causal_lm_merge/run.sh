#!/bin/sh
# Train two language models from one base, merge them in two ways, and score all of them:
# ./run.sh [SHARE]
set -e
cd "$(dirname "$0")"
PATH="$(cd ../.. && pwd)/.venv/bin:$PATH"
python train.py "$@"
for method in linear ties; do
    stockpot merge $method.yaml models/$method
done
exec python score.py
