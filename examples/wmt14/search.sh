#!/usr/bin/env bash
# Search an architecture: bash examples/wmt14/search.sh en-de|en-fr|en-cs [base|big]
# ../experiment.sh lists what the environment may change. On several machines, start it on each, with
# NODES, NODE_RANK and MASTER set, over a common WORK folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
stage search "search, $search_updates updates" search
