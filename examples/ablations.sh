#!/usr/bin/env bash
# The paper's ablations, on data that examples/multi30k/run.sh or examples/wmt14/prepare.sh prepared:
#   bash examples/ablations.sh FOLDER [ROW...]
# FOLDER holds data/ and raw/, such as examples/wmt14/work/en-de. Each row is searched, derived, trained,
# and scored; the end is a table of all rows. Without ROW all are run. After an interruption, start it
# again: it continues where it was. From the environment, with the paper's sizes as defaults: ARCHITECTURE,
# SEARCH_UPDATES, TRAIN_UPDATES, SEARCH_FLAGS, TRAIN_FLAGS (fairseq-train's). The paper's batch is 8 GPUs'
# of 5,000 tokens: on one GPU add --update-freq 8 to both FLAGS. Rows are compared with each other, at
# their last checkpoint and beam 5, not with examples/wmt14/generate.sh.
set -euo pipefail

# row | flags of the search | what is varied | BLEU in the paper, on WMT'14 English-German, as reported. The first
# row has the paper's; all but the last two are searched by elimination. A network takes its splits, s and pooling
# from the genotype, and its width always from ARCHITECTURE.
rows() {
    cat <<'ROWS'
max-s2       |                                                            | pooling max, s = 2, splits 2/3 | 28.4
max-s1       | --cell-layers 1                                            | pooling max, s = 1 | 27.9
avg-s2       | --pooling avg                                              | pooling avg, s = 2 | 28.3
avg-s1       | --pooling avg --cell-layers 1                              | pooling avg, s = 1 | 28.3
splits-3-4   | --encoder-splits 3 --decoder-splits 4                      | splits 3/4 | 28.0
splits-4-5   | --encoder-splits 4 --decoder-splits 5                      | splits 4/5 | 27.4
width-120    | --embed-dim 128 --hidden-size 120 --ffn-embed-dim 180 --attention-heads 4 | searched at e = 128, d = 120 (4 heads: 8 do not divide it) | 24.2
width-240    | --embed-dim 128 --hidden-size 240 --ffn-embed-dim 360      | searched at e = 128, d = 240 | 26.3
width-480    | --embed-dim 256 --hidden-size 480 --ffn-embed-dim 720      | searched at e = 256, d = 480 | 27.5
sampling-max | --search-strategy sampling                                 | uniform sampling, pooling max | 18.7
sampling-avg | --search-strategy sampling --pooling avg                   | uniform sampling, pooling avg | 16.8
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
saves="--save-interval-updates 1000" # of a base search, each checkpoint has 5 GB
train_flags="$saves ${TRAIN_FLAGS:-$settings}"
tokenizer=13a
mkdir -p "$prepared/ablations"
keep_settings "$prepared/ablations" "a search of $search_updates updates with ${SEARCH_FLAGS:-$settings}, \
a training of $train_updates with $train_flags; seed ${SEED:-1}, $architecture"

run_row() { # NAME FLAGS TITLE PAPER
    work=$prepared/ablations/$1
    search_flags="$saves ${SEARCH_FLAGS:-$settings} $2"
    mkdir -p "$work"
    ln -sfn ../../data "$work/data"
    ln -sfn ../../raw "$work/raw"
    stage search "search $1, $search_updates updates" search
    stage derive "derive the genotype of $1" derive
    stage train "train the network of $1, $train_updates updates" \
        train_network found $architecture --genotype "$work/genotype.json"
    stage generate "translate the test set with $1" generate found
    stage score "score $1" score found
    local parameters loss bleu
    loss=$(sed -nE "s/.*valid on .* nll_loss[ =]([^ ]+).*/\1/p" "$work/stages/train.log" | tail -n 1)
    parameters=$(sed -n 's/^parameters = //p' "$work/stages/score.log" | tail -n 1)
    bleu=$(sed -n 's/^BLEU = \([0-9.]*\).*/\1/p' "$work/stages/score.log" | tail -n 1)
    echo "| $3 | $parameters | ${loss:--} | $bleu | $4 | \`bash examples/ablations.sh FOLDER $1\` |" >"$work/row"
}

while IFS='|' read -r -u 3 name flags title paper; do
    name=${name%% *} title=${title# }
    if [ $# = 0 ] || grep -qx -- "$name" < <(printf '%s\n' "$@"); then
        run_row "$name" "$flags" "${title% }" "${paper# }"
    fi
done 3< <(rows)

table() {
    printf '| | parameters | validation loss, bits per token | BLEU | BLEU in the paper | command |\n'
    printf '| --- | --- | --- | --- | --- | --- |\n'
    for name in $names; do
        if [ -e "$prepared/ablations/$name/row" ]; then cat "$prepared/ablations/$name/row"; fi
    done
}
echo
table | tee "$prepared/ablations/summary.txt"
