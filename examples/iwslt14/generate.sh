#!/usr/bin/env bash
# Translate the test set with the average of the last checkpoints, and score it:
#   bash examples/iwslt14/generate.sh
# NETWORK as in train.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
translate_and_score --beam 5 -- --lowercase --clitics
