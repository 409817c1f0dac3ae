#!/usr/bin/env bash
# The data of IWSLT'14 German-English: download, check, clean, divide, split into pieces, binarise.
#   bash examples/iwslt14/prepare.sh [--source-dir DIR]
# DIR is a folder where de-en.tgz lies already, or the files that are in it. After an interruption, start
# it again: it continues where it was, in the middle of the download too. CORPORA names another list than
# corpora.txt.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../corpora.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
archives=${source_dir:-$prepared/downloads}
corpora=${CORPORA:-$here/corpora.txt}
language=de

folder_of_texts() { # FOLDER: where in it the training text lies; empty if nowhere
    find -L "$1" -name train.tags.de-en.de -printf '%h\n' | head -n 1
}

is_extracted() { # whether --source-dir holds the texts themselves
    [ -n "$source_dir" ] && [ -n "$(folder_of_texts "$source_dir")" ]
}

get() {
    if ! is_extracted; then download; fi
}

texts() {
    local address pairs from=$source_dir
    mkdir -p "$prepared/text" "$prepared/raw"
    rows train >"$prepared/corpora"
    read -r _ address pairs <"$prepared/corpora"
    if ! is_extracted; then
        from=$prepared/extracted
        mkdir -p "$from"
        tar -xzf "$archives/${address##*/}" -C "$from" --exclude '._*'
    fi
    python "$here/texts.py" "$(folder_of_texts "$from")" "$prepared/text/train" "$prepared/raw/test" \
        --pairs "$pairs"
}

clean() { # fairseq's limits; every 23rd pair validates
    local side
    python "$here/../clean.py" "$prepared/text/train" "$prepared/text/clean" --tokens --longest 175 \
        --ratio 1.5 --languages "$source_language" "$target_language"
    for side in "$source_language" "$target_language"; do
        awk 'NR % 23 == 0' "$prepared/text/clean.$side" >"$prepared/raw/valid.$side"
        awk 'NR % 23 != 0' "$prepared/text/clean.$side" >"$prepared/raw/train.$side"
    done
}

mkdir -p "$prepared"
echo "estimate: $(megabytes) MB of an archive, half a GB for all files; a few minutes"
stages=4
stage download "get and check the corpus" get
stage texts "take the texts out of it" texts
stage clean "clean the training pairs" clean
cat "$prepared/stages/texts.log" "$prepared/stages/clean.log"
stage binarise "split the text into pieces, binarise it" binarise
echo "data: $prepared/data"
