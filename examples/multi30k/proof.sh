#!/usr/bin/env bash
# Does the search pay? Networks of as many parameters each, trained as those of benchmark.csv:
#   found        what a search by elimination is left with
#   budget       only if KINDS names it: as found, with a network of at most COST_LIMIT parameters at the size of
#                the search
#   darts        each node's most probable operation, after the paper's search
#   families     the best operation of each node's most probable family, after the same searches
#   sampling     the best path of the sampling baseline
#   evolution    the best path that was bred, of a supernet as deep as the networks
#   transformer  that of fairseq
#   evolved      only if KINDS names it: the Evolved Transformer, found by others
#   weights      only if KINDS names it: the networks of found as small as they were in the search, which
#                go on from the weights that they had there
#   anew         only if KINDS names it: the same, from new weights
#   post         only if KINDS names it: the networks of found, with the LayerNorm of the paper after each operation
#   bash examples/multi30k/proof.sh --data DIR [--source en] [--target de]
# Each kind is trained at each learning rate, once; its other trainings take the best one. The end is a table,
# also in summary.txt, and a picture of all networks. After an interruption, start it again: it continues where
# it was. From the environment:
#   SEARCHES ("1 2 3 4 5 6")            seeds of found, budget, weights, anew, post and evolution: a search each
#   SEEDS ("1 2 3")                     seeds of the others
#   RATES ("1e-3 2e-3 4e-3 8e-3")       learning rates
#   JOBS (1)                            searches or networks at a time; give each OMP_NUM_THREADS=1
#   KINDS                               some of those above
#   COST_LIMIT (380000)                 a little less than a mean random network has at the size of the search
# regime.sh and settings.sh list the rest.
set -euo pipefail
work_prefix=proof-
source "$(dirname "${BASH_SOURCE[0]}")/regime.sh"
architecture="--arch revdarts_transformer_tiny --embed-dim 64 --hidden-size 144 --ffn-embed-dim 288 --pooling $pooling"
# At this size all activations fit in memory, so no search computes them twice.
search_flags="$common_flags --total-num-update $search_updates --warmup-updates $((search_updates / 6)) --lr 4e-3
    --backprop store"
# Before the decoder reads the encoder, alpha's gradients favour what learns frequent words: it begins late.
# The weight decay of long searches would hold alpha where it is.
darts_flags="--search-strategy darts --alpha-lr 0.1 --alpha-weight-decay 0 --alpha-start $((search_updates / 2))"
cost_limit=${COST_LIMIT:-380000}
read -ra kinds <<<"${KINDS:-found evolution darts families sampling transformer}"
read -ra rates <<<"${RATES:-1e-3 2e-3 4e-3 8e-3}"

seeds_of() { # KIND
    case $1 in
    found | budget | weights | anew | post | evolution) echo "${SEARCHES:-1 2 3 4 5 6}" ;;
    *) echo "${SEEDS:-1 2 3}" ;;
    esac
}

search_for() { # KIND SEED
    local flags="--search-strategy $1" TIMEFORMAT="processor seconds = %U"
    case $1 in
    found) flags="--search-strategy elimination" ;;
    budget) flags="--search-strategy elimination --cost parameters --cost-limit $cost_limit" ;;
    darts) flags=$darts_flags ;;
    evolution) flags+=" --encoder-layers 4 --decoder-layers 4" ;;
    esac
    time train "$1-search-$2" "$search_updates" $architecture $search_flags $flags --seed "$2" \
        --task bilevel_search --criterion reversible_search
    case $1 in
    found) revdarts-derive "$work/$1-search-$2" -o "$work/$1-search-$2/genotype.json" \
        --weights "$work/$1-search-$2/weights.pt" ;;
    darts) revdarts-derive "$work/$1-search-$2" --by-family -o "$work/$1-search-$2/by_family.json" ;;
    esac
    revdarts-plot "$work/$1-search-$2"
}

searched() { # KIND SEED
    stage "$1-search-$2" "search for $1, seed $2, $search_updates updates" search_for "$1" "$2"
}

search_of() { # KIND: whose search finds its networks
    case $1 in
    transformer | evolved) ;;
    families) echo darts ;;
    weights | anew | post) echo found ;;
    found | budget | darts | sampling | evolution) echo "$1" ;;
    *) echo "KINDS: $1 is none of found, budget, darts, families, sampling, evolution, transformer, evolved," \
        "weights, anew, post" >&2 && exit 2 ;;
    esac
}

genotype_of() { # KIND SEED
    case $1 in
    transformer) echo transformer ;;
    evolved) echo evolved_transformer ;;
    families) echo "$work/darts-search-$2/by_family.json" ;;
    *) echo "$work/$(search_of "$1")-search-$2/genotype.json" ;;
    esac
}

flags_of() { # KIND SEED
    case $1 in
    weights | anew) echo "$architecture --genotype $(genotype_of "$1" "$2")" ;;
    *) sized "$(genotype_of "$1" "$2")" ;;
    esac
}

train_at() { # KIND SEED RATE
    local flags=() search
    search=$(search_of "$1")
    if [ -n "$search" ] && [ ! -e "$work/stages/$search-search-$2.done" ]; then
        echo "$search-search-$2 has not ended" >&2 # its genotype.json is that of a checkpoint
        return 1
    fi
    case $1 in
    post) flags=(--operation-norm post) ;;
    weights) flags=(--finetune-from-model "$work/found-search-$2/weights.pt") ;;
    esac
    network "$1-$3" "$2" "flags_of $1 $2" --lr "$3" ${flags[@]+"${flags[@]}"}
}

for kind in "${kinds[@]}"; do search_of "$kind" >/dev/null; done
keep_regime "searches of $search_updates updates, a budget of $cost_limit parameters"
prepare
for search in $(for kind in "${kinds[@]}"; do search_of "$kind"; done | awk '!seen[$0]++'); do
    for seed in $(seeds_of "$search"); do in_background searched "$search" "$seed"; done
done
await_fewer_than 1
for kind in "${kinds[@]}"; do
    first=$(least $(seeds_of "$kind"))
    for rate in "${rates[@]}"; do in_background train_at "$kind" "$first" "$rate"; done
done
await_fewer_than 1
for kind in "${kinds[@]}"; do
    if ! best=$(python "$here/table.py" "$work" --best-rate "$kind" "${rates[@]}"); then
        failed=1
        continue
    fi
    for seed in $(seeds_of "$kind"); do in_background train_at "$kind" "$seed" "$best"; done
done
await_fewer_than 1
printf '\n'
python "$here/table.py" "$work" | tee "$work/summary.txt"
revdarts-plot "$work/networks.csv"
searches=()
for done in "$work"/stages/found-search-*.done; do
    [ ! -e "$done" ] || searches+=("$work/$(basename "$done" .done)")
done
[ ${#searches[@]} -lt 2 ] || revdarts-plot "${searches[@]}" -o "$work/agreement.svg"
exit $failed
