#!/usr/bin/env bash
# The data of WMT'14: download, check, clean, split into pieces, binarise.
#   bash examples/wmt14/prepare.sh en-de|en-fr|en-cs [--source-dir DIR]
# corpora.txt lists what is downloaded; DIR is a folder where those archives lie already. After an
# interruption, start it again: it continues where it was, in the middle of a file too. CORPORA names
# another list.
# CzEng 1.0, of en-cs, asks for a registration: put its data-plaintext-format.*.tar into DIR, or into
# the folder of the downloads, or do without it: WITHOUT_CZENG=1.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/../corpora.sh"
if [ $# -gt 1 ]; then
    echo "${*:2}: --source-dir DIR is all that may follow the pair" >&2 && exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
archives=${source_dir:-$prepared/../downloads}
corpora=${CORPORA:-$here/corpora.txt}
language=$target_language
work=$prepared

text_of() { # ADDRESS NAMES SIDE: a text of an archive
    local name=${2//LANG/$target_language} role=ref
    [ "$3" != "$source_language" ] || role=src
    name=${name//ROLE/$role}
    # Some archives hold a Macintosh's ._ files too.
    tar -xOf "$archives/${1##*/}" --exclude '._*' --wildcards "*${name//SIDE/$3}" | gzip -dcf
}

extract() { # USE: the texts of all its corpora, one after another
    local side address names
    rows "$1" >"$prepared/corpora"
    for side in "$source_language" "$target_language"; do
        while read -r _ address names; do
            text_of "$address" "$names" "$side"
        done <"$prepared/corpora" >"$prepared/text/$1.$side"
    done
}

segments() { # SPLIT: the segments of the .sgm texts
    local side
    extract "$1"
    for side in "$source_language" "$target_language"; do
        sed -n 's/^ *<seg[^>]*>\(.*\)<\/seg>.*/\1/p' "$prepared/text/$1.$side" \
            >"$prepared/text/$1.segments.$side"
    done
}

czeng() { # appends CzEng 1.0: its columns are number, score, Czech, English
    local file
    for file in "$archives"/data-plaintext-format.*.tar; do
        if [ ! -e "$file" ]; then
            echo "$file: not there. CzEng 1.0 is downloaded by hand, after a registration, from" \
                "https://ufal.mff.cuni.cz/czeng/czeng10; or do without it: WITHOUT_CZENG=1" >&2
            return 2
        fi
        verify record "$file"
        tar -xOf "$file" --wildcards '*train.gz' | gzip -dc | cut -f3 >>"$prepared/text/train.cs"
        tar -xOf "$file" --wildcards '*train.gz' | gzip -dc | cut -f4 >>"$prepared/text/train.en"
    done
}

texts() {
    mkdir -p "$prepared/text"
    extract train
    if [ "$pair" = en-cs ] && [ -z "${WITHOUT_CZENG:-}" ]; then
        czeng
    fi
    segments valid
    segments test
}

clean() {
    mkdir -p "$prepared/raw"
    local languages=("$source_language" "$target_language")
    python "$here/../clean.py" "$prepared/text/train" "$prepared/raw/train" --languages "${languages[@]}"
    for split in valid test; do
        python "$here/../clean.py" "$prepared/text/$split.segments" "$prepared/raw/$split" \
            --languages "${languages[@]}" --keep-all
    done
}

mkdir -p "$prepared"
echo "estimate for $pair: $(megabytes) MB of archives and six times as much room for their texts;" \
    "apart from the download some hours, most of them for sentencepiece and fairseq-preprocess"
stages=4
stage download "get and check the corpora" download
stage texts "take the texts out of the archives" texts
stage clean "clean the training pairs" clean
cat "$prepared/stages/clean.log"
stage binarise "split the text into pieces, binarise it" binarise
echo "data: $prepared/data"
