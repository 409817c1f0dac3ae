#!/usr/bin/env bash
# Train the network found, or what it is compared with: bash examples/iwslt14/train.sh
# NETWORK=found, random:SEED or transformer, which is fairseq's transformer_iwslt_de_en; the others get
# the width that gives them as many parameters. settings.sh lists what else the environment may change.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
genotype=${GENOTYPE:-$work/genotype.json}
check_genotype

fit() {
    case $network in
    found) baseline "$folder" "$genotype" ;;
    random:*) baseline "$folder" "$network" ;;
    transformer) train_network "$folder" --arch "$equal_to" ;;
    esac
}

stage "train-$folder" "train $network, $train_updates updates" fit
