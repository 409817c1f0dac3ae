#!/usr/bin/env bash
# Search, train and compare on Multi30k, real sentences that describe pictures:
#   bash examples/multi30k/run.sh --data DIR [--source en] [--target de]
# After an interruption, start it again: it continues where it was. To begin anew, remove the work folder.
# settings.sh lists what the environment may change.
set -euo pipefail
stages=8
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
stage raw "copy the raw text" copy_raw
run_all_stages
