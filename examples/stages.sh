# Source this: the stages from raw text to scores, each run once and logged under $work. A stage that
# an interruption cut short is taken up again: fairseq-train goes on from its last checkpoint.
#
# The caller has set -euo pipefail, and sets: work, source_language, target_language, vocabulary
# (pieces), architecture (flags of the supernet and of the network found), search_updates,
# search_flags, train_updates, train_flags, baseline_layers, tokenizer (sacrebleu's, for BLEU). It may
# set launch (what runs fairseq-train), baseline_heads and baseline_flags (of fairseq's transformer), and
# WORKERS (of fairseq-preprocess).

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
plugin=$examples/../fairseq_revdarts
export PYTHONWARNINGS=ignore TQDM_MININTERVAL=${TQDM_MININTERVAL:-2}

stage() { # NAME TITLE COMMAND...
    local name=$1
    title=$2
    shift 2
    if [ -e "$work/$name.done" ]; then
        echo "== $title: done before"
        return
    fi
    echo "== $title"
    log=$work/$name.log
    # On a terminal fairseq-train draws its bar on stderr; elsewhere its log lines show the progress.
    # Not within an if: bash would go on after an error in COMMAND.
    "$@" | tee -a "$log" | { grep --line-buffered -E ' \| train_inner \|' || true; }
    touch "$work/$name.done"
    log=""
}

log=""
report_a_stop() {
    if [ -n "$log" ]; then
        tail -n 5 "$log" >&2
        echo "stopped in '$title'; the whole log is $log. Start again to go on." >&2
    fi
}
trap report_a_stop EXIT

binarise() {
    rm -rf "$work/data"
    python "$examples/pieces.py" "$work/raw" "$work/pieces" \
        --languages "$source_language" "$target_language" --vocabulary "$vocabulary"
    fairseq-preprocess --source-lang "$source_language" --target-lang "$target_language" \
        --trainpref "$work/pieces/train" --validpref "$work/pieces/valid" \
        --testpref "$work/pieces/test" --destdir "$work/data" --joined-dictionary \
        --workers "${WORKERS:-2}" 2>&1
}

train() { # FOLDER UPDATES FLAGS...
    local folder=$work/$1 updates=$2
    shift 2
    mkdir -p "$folder"
    "${launch:-fairseq-train}" "$work/data" --user-dir "$plugin" --save-dir "$folder" \
        --optimizer adam --adam-betas '(0.9, 0.98)' --lr-scheduler inverse_sqrt \
        --share-all-embeddings --max-update "$updates" --required-batch-size-multiple 1 \
        --save-interval-updates 100 --keep-interval-updates 1 --no-epoch-checkpoints \
        --log-format tqdm --log-interval 10 --seed 1 "$@"
}

search() {
    train search "$search_updates" $architecture $search_flags \
        --task bilevel_search --criterion reversible_search
}

derive() {
    revdarts-derive "$work/search/checkpoint_last.pt" -o "$work/genotype.json"
}

plot() { # the search, and the cell that it found
    revdarts-plot "$work/search"
}

train_network() { # FOLDER FLAGS...: those of the network
    local folder=$1
    shift
    train "$folder" "$train_updates" $train_flags "$@" \
        --task translation --criterion label_smoothed_cross_entropy --label-smoothing 0.1
}

retrain() {
    train_network found $architecture --genotype "$work/genotype.json"
}

baseline() { # fairseq's transformer of as many parameters, trained as long
    local size
    size=$(python "$examples/parameters.py" "$work/found/checkpoint_last.pt" \
        --transformer-layers "$baseline_layers" --heads "${baseline_heads:-4}")
    train_network transformer --arch transformer $size ${baseline_flags:-} \
        --encoder-normalize-before --decoder-normalize-before
}

generate() { # FOLDER [CHECKPOINT FLAGS...]
    fairseq-generate "$work/data" --user-dir "$plugin" --path "$work/$1/${2:-checkpoint_last.pt}" \
        --beam 5 --max-tokens 4000 --required-batch-size-multiple 1 \
        --remove-bpe sentencepiece "${@:3}" 2>&1 >"$work/$1.generated"
}

score() { # FOLDER [FLAGS OF score.py...]
    python "$examples/parameters.py" "$work/$1/checkpoint_last.pt"
    python "$examples/score.py" "$work/$1.generated" "$work/raw/test.$target_language" \
        --tokenize "$tokenizer" "${@:2}"
}

run_all_stages() { # after the raw text lies in $work/raw
    stage binarise "sentencepiece and fairseq-preprocess" binarise
    stage search "search: $search_updates updates of theta, each followed by one of alpha" search
    stage derive "derive the genotype" derive
    stage retrain "train the network found: $train_updates updates" retrain
    stage generate "translate the test set" generate found
    stage baseline "train fairseq's transformer: as many parameters and updates" baseline
    stage generate-baseline "translate the test set with it" generate transformer
    stage plot "draw the search and the cell found" plot
    echo
    cat "$work/derive.log"
    echo
    cat "$work/genotype.json"
    printf '\nnetwork found\n'
    score found
    printf '\nfairseq transformer\n'
    score transformer
    printf '\n'
    cat "$work/plot.log"
}
