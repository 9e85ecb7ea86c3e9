#!/usr/bin/env bash
# Install framelift and its tools into a virtual environment, then run every check and test.
#   bash scripts/test.sh [VENV_DIR]      VENV_DIR is .venv here unless told; PYTHON is python3
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${1:-$root/.venv}
mkdir -p "$venv"
venv=$(cd "$venv" && pwd)
cd "$root"

"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet -e ".[dev]"

"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/pyright" --pythonpath "$venv/bin/python"
"$venv/bin/lint-imports" --no-logo
HF_HUB_OFFLINE=1 "$venv/bin/python" -m pytest
