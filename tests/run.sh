#!/usr/bin/env bash
# All tests, from a bare checkout: makes .venv with the test extras if there is none, then runs ruff,
# import-linter and pytest. Arguments go to pytest: bash tests/run.sh -m "not commands"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/environment.sh tests
prepare_environment examples

ruff check .
ruff format --check .
lint-imports
# A process for each core: most tests wait for one thread.
OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal "$@"
