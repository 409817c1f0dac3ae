#!/usr/bin/env bash
# Does the search pay? On Multi30k, with as many parameters, updates and seeds each: fairseq's transformer,
# random genotypes, the sampling baseline, and the networks that a search finds:
#   bash examples/multi30k/proof.sh --data DIR [--source en] [--target de]
# The end is a table. Interrupted and started again, it goes on where it was. From the environment:
#   SEEDS ("1 2 3")                     one search and one training of each network for each seed
#   RANDOM_GENOTYPES ("1 2 3 4 5")      seeds of the random genotypes
#   PARAMETERS (1900000)                of every network; settings.sh lists the rest
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
parameters=${PARAMETERS:-1900000}

fit() { # RUN SEED GENOTYPE|transformer: train it with $parameters parameters
    local flags
    flags=$(python "$examples/size.py" "$3" "$parameters" --data "$work/data" --layers 4)
    train_network "$1" $flags --seed "$2"
}

network() { # NAME SEED GENOTYPE|transformer: train, translate, score
    local run=$1-$2
    stage "$run" "$run: train, $train_updates updates" fit "$run" "$2" "$3"
    stage "$run-translate" "$run: translate the test set" generate "$run"
    stage "$run-score" "$run: score" score "$run"
}

searched() { # NAME SEED FLAGS...: search an architecture, train it
    local search=$1-search-$2
    stage "$search" "$search: $search_updates updates" train "$search" "$search_updates" \
        $architecture $search_flags --task bilevel_search --criterion reversible_search \
        --seed "$2" "${@:3}"
    network "$1" "$2" "$work/$search/genotype.json"
}

stage binarise "sentencepiece and fairseq-preprocess" binarise
for seed in ${SEEDS:-1 2 3}; do
    network transformer "$seed" transformer
    searched found "$seed"
    searched sampling "$seed" --search-strategy sampling
    for genotype in ${RANDOM_GENOTYPES:-1 2 3 4 5}; do
        network "random$genotype" "$seed" "random:$genotype"
    done
done
printf '\n'
python "$here/table.py" "$work"
revdarts-plot "$work"/found-search-*/checkpoint_last.pt -o "$work/agreement.svg"
