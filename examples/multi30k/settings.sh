# Source this, with the script's arguments: what the scripts of Multi30k share. They take
#   --data DIR [--source en] [--target de]
# DIR holds train, val and test_2016_flickr, each .LANGUAGE or .LANGUAGE.gz.
# SEARCH_UPDATES, TRAIN_UPDATES and VOCABULARY change the size, WORK puts all files elsewhere. A script for
# several pairs has set targets, their target languages.

usage="usage: bash examples/multi30k/$(basename "$0") --data DIR [--source en] [--target de]"
data="" source_language=en target_language=de
while [ $# -gt 0 ]; do
    case $1 in
    --data) data=${2:?$usage} ;;
    --source) source_language=${2:?$usage} ;;
    --target) target_language=${2:?$usage} ;;
    *) echo "$1: no such option. $usage" >&2 && exit 2 ;;
    esac
    shift 2
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${WORK:-$here/work/${work_prefix:-}$source_language-$target_language}

case $work in
*[[:space:]]*) echo "WORK '$work': a folder without spaces is needed" >&2 && exit 2 ;;
esac

copy_raw() { # from $data into $work/raw, under the names that the stages expect
    mkdir -p "$work/raw"
    local language name
    for language in "$source_language" "$target_language"; do
        for name in train:train val:valid test_2016_flickr:test; do
            local from=$data/${name%:*}.$language to=$work/raw/${name#*:}.$language
            if [ -e "$from.gz" ]; then gzip -dc "$from.gz" >"$to"; else cp "$from" "$to"; fi
        done
    done
}

for language in "$source_language" ${targets:-"$target_language"}; do
    for name in train val test_2016_flickr; do
        if [ ! -e "$data/$name.$language" ] && [ ! -e "$data/$name.$language.gz" ]; then
            echo "--data '$data': no $name.$language or $name.$language.gz there. The files are" \
                "data/task1/raw of the GitHub repository multi30k/dataset" >&2
            exit 2
        fi
    done
done

source "$here/../environment.sh" examples
source "$here/../stages.sh"

vocabulary=${VOCABULARY:-6000}
pooling=avg
architecture="--arch revdarts_transformer_tiny --embed-dim 128 --hidden-size 240 --ffn-embed-dim 480 --pooling $pooling"
search_updates=${SEARCH_UPDATES:-500}
search_flags="--search-strategy elimination --max-tokens 2000 --lr 2e-3 --warmup-updates 200 --clip-norm 1"
train_updates=${TRAIN_UPDATES:-1500}
train_flags="--encoder-layers 4 --decoder-layers 4 --max-tokens 2500 --lr 4e-3 --warmup-updates 400
    --clip-norm 1 --dropout 0.1"
baseline_layers=4
tokenizer=13a
