#!/usr/bin/env bash
# Search, retrain and score on Multi30k, real sentences that describe pictures:
#   bash examples/multi30k/run.sh --data DIR [--source en] [--target de]
# Interrupted and started again, it goes on where it was. To begin anew, remove the work folder.
# settings.sh lists what the environment may change.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_all_stages
