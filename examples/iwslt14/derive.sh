#!/usr/bin/env bash
# The architecture that search.sh has found: bash examples/iwslt14/derive.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
derive
