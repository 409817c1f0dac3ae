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
# settings.sh lists the rest.
set -euo pipefail
VOCABULARY=${VOCABULARY:-3000} TRAIN_UPDATES=${TRAIN_UPDATES:-1200}
work_prefix=benchmark-
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
parameters=${PARAMETERS:-1000000}
tokens=${MAX_TOKENS:-1500} rate=${LEARNING_RATE:-8e-3}
train_flags="--max-tokens $tokens --lr-scheduler polynomial_decay --clip-norm 1 --log-format simple
    --total-num-update $train_updates --lr $rate --warmup-updates $((train_updates / 6)) --dropout 0.1
    --save-interval-updates 400 --validate-interval 1000"
regime="Multi30k $source_language-$target_language, $vocabulary pieces, $parameters parameters, 4+4 layers, \
$train_updates updates of at most $tokens tokens, Adam, lr $rate, linear warm-up of $((train_updates / 6)) and \
linear decay, dropout 0.1, label smoothing 0.1, last checkpoint, beam 5"
table=${TABLE:-$here/benchmark.csv}
source "$here/networks.sh"

benchmark() { # GENOTYPE SEED
    local name=${1/:/} # fairseq takes a path with a colon for several
    network "$name" "$2" "$1"
    python "$here/benchmark.py" --regime "$regime" append "$table" "$work" "$name" "$2"
}

stage binarise "sentencepiece and fairseq-preprocess" binarise
wanted=$(for genotype in ${GENOTYPES:-$(seq 48)}; do
    for seed in ${SEEDS:-1}; do echo "random:$genotype $seed"; done
done)
if [ -z "${GENOTYPES:-}${SEEDS:-}" ]; then
    wanted+=$(for genotype in $(seq 8); do printf '\nrandom:%d 2\nrandom:%d 3' "$genotype" "$genotype"; done)
fi
missing=$(python "$here/benchmark.py" --regime "$regime" missing "$table" <<<"$wanted")
while read -r genotype seed; do
    [ -z "$genotype" ] || in_background benchmark "$genotype" "$seed"
done <<<"$missing"
await_fewer_than 1
exit $failed
