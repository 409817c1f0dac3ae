#!/usr/bin/env bash
# The paper's ablations, on data that examples/multi30k/run.sh or examples/wmt14/prepare.sh prepared:
#   bash examples/ablations.sh FOLDER [ROW...]
# FOLDER holds data/ and raw/, such as examples/wmt14/work/en-de. Each row is searched, derived, trained,
# and scored; the end is a table of all rows. Without ROW all are run. After an interruption, start it
# again: it continues where it was. From the environment, with the paper's settings as defaults: ARCHITECTURE,
# SEARCH_UPDATES, TRAIN_UPDATES, SEARCH_FLAGS, TRAIN_FLAGS (fairseq-train's). The paper's batch is 8 GPUs'
# of 5,000 tokens: on one GPU add --update-freq 8 to both FLAGS. Rows are compared with each other, at
# their last checkpoint and beam 5, not with examples/wmt14/generate.sh.
set -euo pipefail

# row | flags of the search | what is varied. The first row is the paper's setting; a network takes its
# splits, s and pooling from the genotype, and its width always from ARCHITECTURE.
rows() {
    cat <<'ROWS'
max-s2       |                                                            | pooling max, s = 2, splits 2/3
max-s1       | --cell-layers 1                                            | pooling max, s = 1
avg-s2       | --pooling avg                                              | pooling avg, s = 2
avg-s1       | --pooling avg --cell-layers 1                              | pooling avg, s = 1
splits-3-4   | --encoder-splits 3 --decoder-splits 4                      | splits 3/4
splits-4-5   | --encoder-splits 4 --decoder-splits 5                      | splits 4/5
width-120    | --embed-dim 128 --hidden-size 120 --ffn-embed-dim 180 --attention-heads 4 | searched at e = 128, d = 120 (4 heads: 8 do not divide it)
width-240    | --embed-dim 128 --hidden-size 240 --ffn-embed-dim 360      | searched at e = 128, d = 240
width-480    | --embed-dim 256 --hidden-size 480 --ffn-embed-dim 720      | searched at e = 256, d = 480
sampling-max | --search-strategy sampling --ddp-backend legacy_ddp        | uniform sampling, pooling max
sampling-avg | --search-strategy sampling --ddp-backend legacy_ddp --pooling avg | uniform sampling, pooling avg
ROWS
}

usage="usage: bash examples/ablations.sh FOLDER [ROW...]"
prepared=${1:?$usage}
shift
names=$(rows | cut -d' ' -f1)
for name in "$@"; do
    if ! grep -qx -- "$name" <<<"$names"; then
        echo "row '$name': there are" $names >&2 && exit 2
    fi
done
binarised=$(compgen -G "$prepared/data/test.*-*.*.bin" | head -n 1) || true
if [ -z "$binarised" ] || [ ! -d "$prepared/raw" ]; then
    echo "$prepared: no data/test.*.bin and raw/ there; prepare them with examples/wmt14/prepare.sh or" \
        "examples/multi30k/run.sh" >&2 && exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/environment.sh" examples
source "$here/stages.sh"
prepared=$(cd "$prepared" && pwd)
target_language=$(basename "$binarised" | sed 's/^test\.[^-]*-\([^.]*\)\..*/\1/')
architecture=${ARCHITECTURE:---arch revdarts_transformer}
settings="--max-tokens 5000 --lr 5e-4 --warmup-updates 10000"
search_updates=${SEARCH_UPDATES:-30000}
train_updates=${TRAIN_UPDATES:-100000}
train_flags=${TRAIN_FLAGS:-$settings}
tokenizer=13a

run_row() { # NAME FLAGS TITLE
    work=$prepared/ablations/$1
    search_flags="${SEARCH_FLAGS:-$settings} $2"
    mkdir -p "$work"
    ln -sfn ../../data "$work/data"
    ln -sfn ../../raw "$work/raw"
    stage search "search $1, $search_updates updates" search
    stage derive "derive the genotype of $1" derive
    stage train "train the network of $1, $train_updates updates" \
        train_network found $architecture --genotype "$work/genotype.json"
    stage generate "translate the test set with $1" generate found
    stage score "score $1" score found
    local parameters bleu
    parameters=$(sed -n 's/^parameters = //p' "$work/stages/score.log" | tail -n 1)
    bleu=$(sed -n 's/^BLEU = \([0-9.]*\).*/\1/p' "$work/stages/score.log" | tail -n 1)
    echo "| $3 | $parameters | $bleu | \`bash examples/ablations.sh FOLDER $1\` |" >"$work/row"
}

while IFS='|' read -r -u 3 name flags title; do
    name=${name%% *}
    if [ $# = 0 ] || grep -qx -- "$name" < <(printf '%s\n' "$@"); then
        run_row "$name" "$flags" "${title# }"
    fi
done 3< <(rows)

table() {
    printf '| | parameters | BLEU | command |\n| --- | --- | --- | --- |\n'
    for name in $names; do
        if [ -e "$prepared/ablations/$name/row" ]; then cat "$prepared/ablations/$name/row"; fi
    done
}
echo
table | tee "$prepared/ablations/summary.txt"
