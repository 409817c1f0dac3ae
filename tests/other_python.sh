#!/usr/bin/env bash
# The tests on another Python, in an environment of its own with the fairseq that this Python takes:
#     bash tests/other_python.sh 3.10 [ARGUMENTS OF PYTEST]
# makes .venv-3.10, with python3.10 or with what PYTHON names, and reports the versions and the day.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:?which Python, such as 3.10}
shift
export PYENV_VERSION=${PYENV_VERSION:-$version} # if it is pyenv that has python3.10
PYTHON=${PYTHON:-python$version}
ENVIRONMENT=$PWD/.venv-$version
source examples/environment.sh tests
prepare_environment examples

result=0
OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal "$@" || result=$?
python - <<'PYTHON'
import datetime
import platform
from importlib.metadata import distributions

versions = {package.metadata["Name"]: package.version for package in distributions()}
names = [name for name in ("fairseq", "fairseq-fixed", "torch", "numpy") if name in versions]
print(datetime.date.today(), "Python", platform.python_version(), *(f"{name} {versions[name]}" for name in names))
PYTHON
exit $result
