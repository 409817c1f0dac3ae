#!/usr/bin/env bash
# The data of WMT'14: download, check, clean, split into pieces, binarise.
#   bash examples/wmt14/prepare.sh en-de|en-fr|en-cs [--source-dir DIR]
# corpora.txt lists what is downloaded; DIR is a folder where those archives lie already. After an
# interruption, start it again: it continues where it was, in the middle of a file too. CORPORA names
# another list.
# CzEng 1.0, of en-cs, asks for a registration: put its data-plaintext-format.*.tar into DIR, or into
# the folder of the downloads, or do without it: WITHOUT_CZENG=1.
set -euo pipefail

more_usage=" [--source-dir DIR]"
source_dir=""
if [ "${2:-}" = --source-dir ] && [ $# = 3 ]; then
    source_dir=$3
    set -- "$1"
elif [ $# -gt 1 ]; then
    echo "${*:2}: --source-dir DIR is all that may follow the pair" >&2 && exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
archives=${source_dir:-$prepared/../downloads}
corpora=${CORPORA:-$here/corpora.txt}
work=$prepared

rows() { # USE: checksum, address and names of the pair's corpora of this use
    awk -v use="$1" -v language="$target_language" '
        !/^#/ && $1 ~ use && index("," $2 ",", "," language ",") { print $4, $5, $6 }' "$corpora"
}

megabytes() {
    awk -v language="$target_language" '
        !/^#/ && index("," $2 ",", "," language ",") { sum += $3 } END { print sum }' "$corpora"
}

fetch() { # ADDRESS: download it, unless it is there; from where an interruption stopped
    local file=$archives/${1##*/}
    if [ ! -e "$file" ]; then
        if [ -n "$source_dir" ]; then
            echo "--source-dir $source_dir: no ${1##*/} there; it comes from $1" >&2
            return 2
        fi
        mkdir -p "$archives"
        curl --fail --location --retry 5 --continue-at - --output "$file.part" "$1" 2>&3
        mv "$file.part" "$file"
    fi
}

verify() { # CHECKSUM FILE: algorithm:sum, or "record" to note the sum of a file first seen
    local file=$2 recorded=$prepared/${2##*/}.sha256 expected=$1 found
    if [ "$expected" = record ]; then
        [ -e "$recorded" ] || sha256sum <"$file" | cut -d' ' -f1 >"$recorded"
        expected=sha256:$(cat "$recorded")
    fi
    found=$("${expected%%:*}sum" <"$file" | cut -d' ' -f1)
    if [ "$found" != "${expected#*:}" ]; then
        echo "$file: its ${expected%%:*} checksum is $found, not ${expected#*:};" \
            "remove it and start again" >&2
        return 1
    fi
}

download() {
    local checksum address names
    rows . >"$prepared/corpora"
    while read -r checksum address names; do
        fetch "$address"
        verify "$checksum" "$archives/${address##*/}"
    done <"$prepared/corpora"
}

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
    python "$here/clean.py" "$prepared/text/train" "$prepared/raw/train" --languages "${languages[@]}"
    for split in valid test; do
        python "$here/clean.py" "$prepared/text/$split.segments" "$prepared/raw/$split" \
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
