#!/usr/bin/env bash
# Does the search pay? On Multi30k, with as many parameters, updates and seeds each: fairseq's transformer,
# random genotypes, the sampling baseline, and the networks that a search finds: each node's most probable
# operation ("found"), or the best of its most probable family ("families"), these also with nodes that
# read their inputs as they are ("pooled"). Families have one to four members, so the same is asked of an
# alpha that has not moved ("untrained"):
#   bash examples/multi30k/proof.sh --data DIR [--source en] [--target de]
# The end is a table, also in summary.txt, and a picture of all networks. After an interruption, start it
# again: it continues where it was. From the environment:
#   SEEDS ("1 2 3")                     one search and one training of each network for each seed
#   RANDOM_GENOTYPES ("1 2 3 4 5")      seeds of the random genotypes
#   PARAMETERS (1000000)                of every network
#   JOBS (1)                            networks at a time; give each OMP_NUM_THREADS=1
# settings.sh lists the rest. The networks are smaller, and trained for less long, than those of run.sh:
# 33 trainings and 6 searches.
set -euo pipefail
VOCABULARY=${VOCABULARY:-3000} SEARCH_UPDATES=${SEARCH_UPDATES:-1200} TRAIN_UPDATES=${TRAIN_UPDATES:-1200}
work_prefix=proof-
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
parameters=${PARAMETERS:-1000000}
architecture="--arch revdarts_transformer_tiny --embed-dim 64 --hidden-size 144 --ffn-embed-dim 288"
common_flags="--max-tokens 1000 --lr-scheduler polynomial_decay --clip-norm 1 --log-format simple"
# Before the decoder reads the encoder, alpha's gradients favour what learns frequent words: it begins late.
# The weight decay of long searches would hold alpha where it is.
search_flags="$common_flags --total-num-update $search_updates --lr 3e-3 --warmup-updates $((search_updates / 6))
    --alpha-lr 0.1 --alpha-weight-decay 0 --alpha-start $((search_updates / 2))"
train_flags="$common_flags --total-num-update $train_updates --lr 4e-3 --warmup-updates $((train_updates / 6))
    --dropout 0.1 --save-interval-updates 500"

source "$here/networks.sh"

search_for() { # SEARCH SEED UPDATES FLAGS...
    stage "$1" "$1, $3 updates" train "$1" "$3" $architecture $search_flags \
        --task bilevel_search --criterion reversible_search --seed "$2" "${@:4}"
}

searched() { # NAME SEED FLAGS...: search an architecture, train it
    search_for "$1-search-$2" "$2" "$search_updates" "${@:3}"
    network "$1" "$2" "$work/$1-search-$2/genotype.json"
}

derive_by_family() { # SEARCH
    stage "$1-by-family" "derive by family from $1" \
        revdarts-derive "$work/$1/checkpoint_last.pt" --by-family -o "$work/$1/by_family.json"
}

darts() { # NAME SEED: the search, its pictures, and the networks that it leads to
    local search=$1-search-$2
    searched "$1" "$2"
    stage "$search-plot" "draw $search" revdarts-plot "$work/$search"
    derive_by_family "$search"
    network families "$2" "$work/$search/by_family.json"
    network pooled "$2" "$work/$search/by_family.json" --node-input pooled
}

untrained() { # NAME SEED: by family, from alpha's first values
    search_for "$1-search-$2" "$2" 1 --alpha-start 1
    derive_by_family "$1-search-$2"
    network "$1" "$2" "$work/$1-search-$2/by_family.json"
}

stage binarise "split the text into pieces, binarise it" binarise
for seed in ${SEEDS:-1 2 3}; do
    in_background darts found "$seed"
    in_background network transformer "$seed" transformer
    in_background searched sampling "$seed" --search-strategy sampling
    in_background untrained untrained "$seed"
done
for seed in ${SEEDS:-1 2 3}; do
    for genotype in ${RANDOM_GENOTYPES:-1 2 3 4 5}; do
        in_background network "random$genotype" "$seed" "random:$genotype"
    done
done
await_fewer_than 1
printf '\n'
python "$here/table.py" "$work" | tee "$work/summary.txt"
revdarts-plot "$work/networks.csv"
searches=("$work"/found-search-*/)
[ ${#searches[@]} -eq 1 ] || revdarts-plot "${searches[@]}" -o "$work/agreement.svg"
exit $failed
