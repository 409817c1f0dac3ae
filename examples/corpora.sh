# Source this, with a script's arguments: get and check the archives of public corpora. A last pair of
# arguments --source-dir DIR is taken out: DIR holds what would be downloaded.
#
# The caller then sets prepared (folder of the data), archives (of the archives), corpora (the list of
# them: use, languages, megabytes, checksum, address, and more) and language (the rows to take).

more_usage=" [--source-dir DIR]"
source_dir=""
if [ $# -ge 2 ] && [ "${*: -2:1}" = --source-dir ]; then
    source_dir=${*: -1}
    set -- "${@:1:$#-2}"
fi

rows() { # USE: checksum, address and the rest of the rows of this use
    awk -v use="$1" -v language="$language" '
        !/^#/ && $1 ~ use && index("," $2 ",", "," language ",") { print $4, $5, $6 }' "$corpora"
}

megabytes() {
    awk -v language="$language" '
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
    local checksum address
    rows . >"$prepared/corpora"
    while read -r checksum address _; do
        fetch "$address"
        verify "$checksum" "$archives/${address##*/}"
    done <"$prepared/corpora"
}
