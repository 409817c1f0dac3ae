# Source this: the stages from raw text to a summary, each run once. What a stage prints lies in
# $work/stages/NAME.log, how long it took in NAME.seconds; NAME.done says that it has ended. A stage
# that was interrupted runs again: fairseq-train continues from its last checkpoint.
#
# The caller has set -euo pipefail, and sets: work, source_language, target_language, vocabulary
# (pieces), architecture (flags of the supernet and of the network found), search_updates,
# search_flags, train_updates, train_flags, baseline_layers, tokenizer (sacrebleu's, for BLEU). It may
# set stages (how many there are, to number them), own_line (--own-line: a title ends its line at
# once), launch (what runs fairseq-train), embeddings (the flag that shares them), baseline_heads,
# baseline_width (of embeddings) and baseline_flags of the networks that the one found is compared
# with, equal_to (what has as many parameters as those networks: what size.py takes; the network found
# unless it is set), pooling (of the random genotype; max unless it is set), beam (5 unless it is set),
# WORKERS (of fairseq-preprocess), and SEED (of the search and of all trainings).

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
plugin=$examples/../fairseq_revdarts
# shellcheck disable=SC1091
source "$examples/duration.sh"
export PYTHONWARNINGS=ignore TQDM_MININTERVAL=${TQDM_MININTERVAL:-2}
# glibc returns large tensors to the system after each use. To keep their memory makes training on a CPU about
# 15 % faster (measured on Multi30k: 36.7 and 31.6 seconds for 150 updates, equal losses).
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864

number=0
stage() { # NAME TITLE COMMAND...: what COMMAND writes to file descriptor 3 goes to the screen
    local name=$1 title=$2
    if [ -n "${stages:-}" ]; then
        number=$((number + 1))
        title="[$number/$stages] $title"
    fi
    mkdir -p "$work/stages"
    log=$work/stages/$name.log
    if [ -e "${log%.log}.done" ]; then
        echo "$title ... done before"
        log=""
        return
    fi
    begin=$SECONDS
    # Not within an if: bash would go on after an error in COMMAND.
    "${@:3}" 3>&2 2>&1 | python "$examples/progress.py" "$title" "$log" ${own_line:-}
    echo " $(duration $((SECONDS - begin)))"
    echo $((SECONDS - begin)) >>"${log%.log}.seconds"
    touch "${log%.log}.done"
    log=""
}

log="" begin=0
report_a_stop() {
    local status=$?
    if [ -n "$log" ]; then
        echo " stopped after $(duration $((SECONDS - begin)))"
        echo $((SECONDS - begin)) >>"${log%.log}.seconds"
        # Ctrl-C needs no explanation
        [ "$status" = 130 ] || tail -n 5 "$log" >&2
        echo "The whole log is $log. To continue, start the same command again." >&2
    fi
}
trap report_a_stop EXIT

keep_settings() { # FOLDER SETTINGS: FOLDER is refused if what is there was made with others
    local file=$1/regime.txt
    if [ -e "$file" ] && [ "$(cat "$file")" != "$2" ]; then
        printf '%s: what is there was made with other settings; move it away, or name another folder.\n' "$1" >&2
        printf 'there: %s\nnow: %s\n' "$(cat "$file")" "$2" >&2
        exit 2
    fi
    echo "$2" >"$file"
}

binarise() {
    rm -rf "$work/data"
    python "$examples/pieces.py" "$work/raw" "$work/pieces" \
        --languages "$source_language" "$target_language" --vocabulary "$vocabulary"
    fairseq-preprocess --source-lang "$source_language" --target-lang "$target_language" \
        --trainpref "$work/pieces/train" --validpref "$work/pieces/valid" \
        --testpref "$work/pieces/test" --destdir "$work/data" --joined-dictionary \
        --workers "${WORKERS:-2}"
}

# Without fairseq's buffer of batches (--data-buffer-size), which a daemon thread fills: when Python ends while it
# works, the training has succeeded and the process aborts all the same, rarely (pytorch/pytorch#38228).
train() { # FOLDER UPDATES FLAGS...
    local folder=$work/$1 updates=$2
    shift 2
    mkdir -p "$folder"
    "${launch:-fairseq-train}" "$work/data" --user-dir "$plugin" --save-dir "$folder" \
        --optimizer adam --adam-betas '(0.9, 0.98)' --lr-scheduler inverse_sqrt \
        "${embeddings:---share-all-embeddings}" --max-update "$updates" --required-batch-size-multiple 1 \
        --data-buffer-size 0 --save-interval-updates 100 --keep-interval-updates 1 --no-epoch-checkpoints \
        --log-format simple --log-interval 10 --seed "${SEED:-1}" "$@"
}

search() {
    train search "$search_updates" $architecture $search_flags \
        --task bilevel_search --criterion reversible_search
}

derive() {
    revdarts-derive "$work/search" -o "$work/genotype.json" | tee "$work/derived.txt"
}

derive_and_draw() {
    derive
    revdarts-plot "$work/search"
}

train_network() { # FOLDER FLAGS...: those of the network
    local folder=$1
    shift
    train "$folder" "$train_updates" $train_flags "$@" \
        --task translation --criterion label_smoothed_cross_entropy --label-smoothing 0.1
}

baseline() { # FOLDER transformer|GENOTYPE: of as many parameters as $equal_to, trained as long
    local flags own=""
    case $2 in
    transformer | evolved_transformer) ;;
    *) own=$architecture ;; # what size.py does not set
    esac
    flags=$(python "$examples/size.py" "$2" "${equal_to:-$work/found/checkpoint_last.pt}" \
        --data "$work/data" "${embeddings:---share-all-embeddings}" --layers "$baseline_layers" \
        --heads "${baseline_heads:-4}" --embed-dim "${baseline_width:-128}" --pooling "${pooling:-max}")
    train_network "$1" $own $flags ${baseline_flags:-}
}

generate() { # FOLDER [CHECKPOINT FLAGS...]
    fairseq-generate "$work/data" --user-dir "$plugin" --path "$work/$1/${2:-checkpoint_last.pt}" \
        --beam "${beam:-5}" --max-tokens 4000 --required-batch-size-multiple 1 \
        --remove-bpe sentencepiece "${@:3}" 2>&1 >"$work/$1.generated"
}

generate_all() { # FOLDER...
    local folder
    for folder in "$@"; do generate "$folder"; done
}

score() { # FOLDER [FLAGS OF score.py...]
    python "$examples/parameters.py" "$work/$1/checkpoint_last.pt"
    python "$examples/score.py" "$work/$1.generated" "$work/raw/test.$target_language" \
        --tokenize "$tokenizer" "${@:2}"
}

run_all_stages() { # seven, after the raw text lies in $work/raw
    stage binarise "split the text into pieces, binarise it" binarise
    stage search "search an architecture" search
    stage derive "derive the genotype, draw the search" derive_and_draw
    stage found "train the network found" \
        train_network found $architecture --genotype "$work/genotype.json"
    stage random "train a random genotype" \
        baseline random "random:${SEED:-1}"
    stage transformer "train fairseq's transformer" baseline transformer transformer
    stage generate "translate the test set with all three" \
        generate_all found random transformer
    echo
    python "$examples/summary.py" "$work" "$source_language" "$target_language" \
        --tokenize "$tokenizer" --beam "${beam:-5}" --time "$(duration $(($(cat "$work"/stages/*.seconds | paste -sd+ -))))"
}
