#!/usr/bin/env bash
# Train the network found, or a baseline: bash examples/wmt14/train.sh en-de|en-fr|en-cs [base|big]
# NETWORK=found, random:SEED, transformer (fairseq's, of as many parameters as the network found, which
# is trained first) or evolved_transformer. ../experiment.sh lists what else the environment may change.
# On several machines, start it on each, as search.sh. FLAGS="--backprop reconstruct" trains the network
# found, or a random one, on a small card.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
use_prepared_data
genotype=${GENOTYPE:-$work/genotype.json}
[ -e "$genotype" ] || [ -n "${GENOTYPE:-}" ] || genotype=$prepared/base/genotype.json
check_genotype
if [ "$network" = transformer ] && [ ! -e "$work/found/checkpoint_last.pt" ]; then
    echo "$work/found: no network there, whose size the transformer takes; train it first" >&2 && exit 2
fi

fit() {
    case $network in
    found) train_network "$folder" $architecture --genotype "$genotype" ;;
    random:*) train_network "$folder" $architecture --genotype "$network" ;;
    transformer) baseline "$folder" transformer ;;
    evolved_transformer)
        local name=evolved_transformer
        [ "$size" = base ] || name=evolved_transformer_big
        train_network "$folder" --arch "$name"
        ;;
    esac
}

stage "train-$folder" "train $network, $train_updates updates" fit
