#!/usr/bin/env bash
# Search an architecture: bash examples/iwslt14/search.sh
# ../experiment.sh lists what the environment may change.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
stage search "search, $search_updates updates" search
