#!/usr/bin/env bash
# The architecture that search.sh has found: bash examples/wmt14/derive.sh en-de|en-fr|en-cs [base|big]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
derive
