#!/usr/bin/env bash
# Is what was found on English-German ahead on other pairs, too? Networks of as many parameters each, trained
# on English to German, French and Czech until fairseq's transformer stops getting better (12 epochs):
#   transformer  that of fairseq
#   found        of the networks that proof.sh found on English-German, the one with the least validation loss there
#   random       two random genotypes, the first of benchmark.csv
#   evolved      the Evolved Transformer, without dropout in attention, as the others
#   bash examples/multi30k/three_pairs.sh --data DIR
# On English-German each kind is trained at each learning rate, once. All its other trainings take the one of
# the least validation loss. The end is a table, also in summary.txt, and a picture. After an interruption, start
# it again: it continues where it was. From the environment:
#   SEEDS ("1 2 3")               of each training; all are trained with the first before the second
#   TARGETS ("de fr cs")          target languages; the learning rate is chosen on the first
#   RATES ("1e-3 2e-3 4e-3 8e-3")      learning rates
#   KINDS                         some of those above
#   FOUND                         another genotype than that of found
#   JOBS (1)                      networks at a time; give each OMP_NUM_THREADS=1
# regime.sh and settings.sh list the rest.
set -euo pipefail
for option in "$@"; do
    case $option in
    --source | --target) echo "$option: the pairs are English to TARGETS, a variable" >&2 && exit 2 ;;
    esac
done
targets=${TARGETS:-de fr cs}
TRAIN_UPDATES=${TRAIN_UPDATES:-4600}
WORK=${WORK:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/work/three-pairs}
source "$(dirname "${BASH_SOURCE[0]}")/regime.sh"
root=$work
read -ra kinds <<<"${KINDS:-transformer found random1 random2 evolved}"
read -ra rates <<<"${RATES:-1e-3 2e-3 4e-3 8e-3}"
read -ra seeds <<<"${SEEDS:-1 2 3}"
first=${targets%% *}
first_seed=$(least "${seeds[@]}")
found=${FOUND:-multi30k_en_de_2}

enter() { # TARGET
    target_language=$1 work=$root/$source_language-$1
}

genotype_of() { # KIND
    case $1 in
    transformer) echo transformer ;;
    evolved) echo evolved_transformer ;;
    found) echo "$found" ;;
    random*) echo "random:${1#random}" ;;
    *) echo "KINDS: $1 is none of transformer, found, random1, random2, evolved" >&2 && exit 2 ;;
    esac
}

train_one() { # KIND/RATE/TARGET SEED
    local kind rate target flags=()
    IFS=/ read -r kind rate target <<<"$1"
    [ "$kind" != evolved ] || flags=(--attention-dropout 0)
    enter "$target"
    network "$kind-$rate" "$2" "sized $(genotype_of "$kind")" --lr "$rate" ${flags[@]+"${flags[@]}"}
}

for kind in "${kinds[@]}"; do genotype_of "$kind" >/dev/null; done
keep_regime "found: $found"
for target in $targets; do
    enter "$target"
    prepare
done
for kind in "${kinds[@]}"; do
    for rate in "${rates[@]}"; do
        in_background train_one "$kind/$rate/$first" "$first_seed"
    done
done
await_fewer_than 1
declare -A best
tuned=$source_language-$first
for kind in "${kinds[@]}"; do
    best[$kind]=$(python "$here/table.py" "$root/$tuned" --best-rate "${kind%%[0-9]*}" "${rates[@]}") || failed=1
done
for seed in "${seeds[@]}"; do
    for kind in "${kinds[@]}"; do
        [ -n "${best[$kind]}" ] || continue
        for target in $targets; do in_background train_one "$kind/${best[$kind]}/$target" "$seed"; done
    done
done
await_fewer_than 1
printf '\n'
python "$here/pairs.py" "$root" "$tuned" "${rates[@]}" | tee "$root/summary.txt"
revdarts-plot "$root/networks.csv"
exit $failed
