#!/usr/bin/env bash
# From nothing to an architecture that was searched, trained and compared with two others, on an embedded
# corpus of numbers in words: bash examples/quickstart/run.sh [fr|de|cs]
# After an interruption, start it again: it continues where it was. To begin anew, remove the work folder.
# SEARCH_UPDATES and TRAIN_UPDATES make it shorter or longer, WORK puts its files elsewhere.
set -euo pipefail

language=${1:-fr}
case $language in
fr | de | cs) ;;
*) echo "language $language: fr, de or cs is needed" >&2 && exit 2 ;;
esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" examples
source "$here/../stages.sh"

work=${WORK:-$here/work/$language}
source_language=en target_language=$language vocabulary=250
pooling=avg
# All embeddings are as wide as the network, as those of fairseq's transformer are.
architecture="--arch revdarts_transformer_tiny --embed-dim 96 --pooling $pooling"
search_updates=${SEARCH_UPDATES:-600}
search_flags="--search-strategy elimination --max-tokens 1500 --lr 3e-3 --warmup-updates 100 --clip-norm 1"
train_updates=${TRAIN_UPDATES:-250}
train_flags="--max-tokens 2500 --lr 1e-2 --lr-scheduler polynomial_decay --warmup-updates $((train_updates / 4))
    --total-num-update $train_updates --clip-norm 1 --dropout 0.1"
baseline_layers=2 baseline_width=hidden-size
# fairseq's beam search ends as soon as the beam is full of finished translations, good or bad. Here nearly all
# but one are bad: the larger the beam, the more often it ends before the good one has (README.md).
beam=1
# A German number is one word: there BLEU counts characters.
tokenizer=13a
[ "$language" != de ] || tokenizer=char

stages=8
stage corpus "write the corpus: numbers in words, en-$language" \
    python "$here/corpus.py" "$work/raw" --language "$language"
run_all_stages
