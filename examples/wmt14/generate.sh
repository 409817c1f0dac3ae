#!/usr/bin/env bash
# Translate newstest2014 with the average of the last checkpoints, and score it:
#   bash examples/wmt14/generate.sh en-de|en-fr|en-cs [base|big]
# NETWORK as in train.sh. Beam 4 and length penalty 0.6 are those of Vaswani et al. (2017), section 6.1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
translate_and_score --beam 4 --lenpen 0.6 -- --compounds
