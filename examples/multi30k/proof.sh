#!/usr/bin/env bash
# Does the search pay? On Multi30k, with as many parameters, updates and seeds each: fairseq's transformer,
# random genotypes, the sampling baseline, and the networks that a search finds: each node's most probable
# operation ("found"), or the best of its most probable family ("families"), these also with nodes that
# read their inputs as they are ("pooled"):
#   bash examples/multi30k/proof.sh --data DIR [--source en] [--target de]
# The end is a table. Interrupted and started again, it goes on where it was. From the environment:
#   SEEDS ("1 2 3")                     one search and one training of each network for each seed
#   RANDOM_GENOTYPES ("1 2 3 4 5")      seeds of the random genotypes
#   PARAMETERS (1000000)                of every network
#   JOBS (1)                            networks at a time; give each OMP_NUM_THREADS=1
# settings.sh lists the rest. The networks are smaller, and trained for less long, than those of run.sh:
# 30 trainings and 6 searches.
set -euo pipefail
VOCABULARY=${VOCABULARY:-3000} SEARCH_UPDATES=${SEARCH_UPDATES:-1200} TRAIN_UPDATES=${TRAIN_UPDATES:-1200}
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
parameters=${PARAMETERS:-1000000}
architecture="--arch revdarts_transformer_tiny --embed-dim 64 --hidden-size 144 --ffn-embed-dim 288"
common_flags="--max-tokens 1000 --lr-scheduler polynomial_decay --clip-norm 1"
# Before the decoder reads the encoder, alpha's gradients favour what learns frequent words: it begins late.
# The weight decay of long searches would hold alpha where it is.
search_flags="$common_flags --total-num-update $search_updates --lr 3e-3 --warmup-updates $((search_updates / 6))
    --alpha-lr 0.1 --alpha-weight-decay 0 --alpha-start $((search_updates / 2))"
train_flags="$common_flags --total-num-update $train_updates --lr 4e-3 --warmup-updates $((train_updates / 6))
    --dropout 0.1 --save-interval-updates 500"

fit() { # RUN SEED GENOTYPE|transformer FLAGS...: train it with $parameters parameters
    local flags
    flags=$(python "$examples/size.py" "$3" "$parameters" --data "$work/data" --layers 4)
    train_network "$1" $flags --seed "$2" "${@:4}"
}

network() { # NAME SEED GENOTYPE|transformer FLAGS...: train, translate, score
    local run=$1-$2
    stage "$run" "$run: train, $train_updates updates" fit "$run" "${@:2}"
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

darts() { # NAME SEED: the search; what it found by operation, by family, and the latter with pooled nodes
    searched found "$2"
    local by_family=$work/found-search-$2/by_family.json
    stage "families-derive-$2" "families-$2: derive" \
        revdarts-derive "$work/found-search-$2/checkpoint_last.pt" --by-family -o "$by_family"
    network families "$2" "$by_family"
    network pooled "$2" "$by_family" --node-input pooled
}

failed=0
await_fewer_than() { # N networks at work
    while [ "$(jobs -p | wc -l)" -ge "$1" ]; do wait -n || failed=1; done
}

in_background() { # COMMAND NAME SEED ARGUMENTS...: as soon as fewer than $JOBS are at work
    await_fewer_than "${JOBS:-1}"
    (
        trap report_a_stop EXIT
        exec > >(sed -u "s/^/$2-$3: /")
        "$@"
    ) &
}

stage binarise "sentencepiece and fairseq-preprocess" binarise
for seed in ${SEEDS:-1 2 3}; do
    in_background darts darts "$seed"
    in_background network transformer "$seed" transformer
    in_background searched sampling "$seed" --search-strategy sampling
done
for seed in ${SEEDS:-1 2 3}; do
    for genotype in ${RANDOM_GENOTYPES:-1 2 3 4 5}; do
        in_background network "random$genotype" "$seed" "random:$genotype"
    done
done
await_fewer_than 1
printf '\n'
python "$here/table.py" "$work"
revdarts-plot "$work"/found-search-*/checkpoint_last.pt -o "$work/agreement.svg"
exit $failed
