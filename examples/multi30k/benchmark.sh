#!/usr/bin/env bash
# A table of random genotypes, all trained alike on Multi30k, to judge a search by: benchmark.csv.
#   bash examples/multi30k/benchmark.sh --data DIR
# Each network adds a line when it is scored. Lines that are there are not trained again, so the script goes on
# where it was stopped, and anyone can add to the table. From the environment:
#   GENOTYPES ("1 2 ... 48")    seeds of the random genotypes
#   SEEDS (1)                   training seeds of each; the eight first genotypes also get seeds 2 and 3
#   JOBS (1)                    networks at a time; give each OMP_NUM_THREADS=1
#   TABLE                       another file than benchmark.csv
#   LEARNING_RATE (8e-3)        with another TABLE and WORK: rows of one table share one regime. Of 2, 4 and
#                               8e-3, the last one gave two genotypes the lowest validation loss.
# regime.sh and settings.sh list the rest.
set -euo pipefail
work_prefix=benchmark-
source "$(dirname "${BASH_SOURCE[0]}")/regime.sh"
if [ -n "${TABLE:-}" ] && [ -z "${WORK:-}" ]; then
    echo "TABLE=$TABLE: name a WORK as well; networks of $work would be taken for those of that table" >&2
    exit 2
fi
rate=${LEARNING_RATE:-8e-3}
table=${TABLE:-$here/benchmark.csv}
in_table() { # COMMAND ARGUMENTS... of benchmark.py
    python "$here/benchmark.py" --regime "$(regime "$rate")" --pooling "$pooling" "$@"
}

benchmark() { # GENOTYPE SEED
    local name=${1/:/} # fairseq takes a path with a colon for several
    network "$name" "$2" "sized $1" --lr "$rate"
    in_table append "$table" "$work" "$name" "$2"
}

prepare
wanted=$(for genotype in ${GENOTYPES:-$(seq 48)}; do
    for seed in ${SEEDS:-1}; do echo "random:$genotype $seed"; done
done)
if [ -z "${GENOTYPES:-}${SEEDS:-}" ]; then
    wanted+=$(for genotype in $(seq 8); do printf '\nrandom:%d 2\nrandom:%d 3' "$genotype" "$genotype"; done)
fi
missing=$(in_table missing "$table" <<<"$wanted")
while read -r genotype seed; do
    [ -z "$genotype" ] || in_background benchmark "$genotype" "$seed"
done <<<"$missing"
await_fewer_than 1
exit $failed
