# Source this, with the script's arguments: how benchmark.sh and proof.sh train all networks, so that they can
# be compared. From the environment, in addition to what settings.sh takes: PARAMETERS, MAX_TOKENS and DROPOUT.
VOCABULARY=${VOCABULARY:-3000} SEARCH_UPDATES=${SEARCH_UPDATES:-1200} TRAIN_UPDATES=${TRAIN_UPDATES:-1200}
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$here/networks.sh"
parameters=${PARAMETERS:-1000000} tokens=${MAX_TOKENS:-1500} dropout=${DROPOUT:-0.1}
# Few checkpoints: before each one, a search by sampling or evolution measures many paths.
common_flags="--max-tokens $tokens --lr-scheduler polynomial_decay --clip-norm 1 --log-format simple
    --save-interval 1000 --save-interval-updates 400"
train_flags="$common_flags --total-num-update $train_updates --warmup-updates $((train_updates / 6)) --dropout $dropout
    --validate-interval 1000"

regime() { # LEARNING_RATE: in words
    echo "Multi30k $source_language-$target_language, $vocabulary pieces, $parameters parameters, 4+4 layers," \
        "pre-norm operations, average pooling, embeddings at least as wide as the network," \
        "$train_updates updates of at most $tokens tokens, Adam, lr $1, linear warm-up of" \
        "$((train_updates / 6)) and linear decay, dropout $dropout, label smoothing 0.1, last checkpoint, beam 5"
}

keep_regime() { # WHAT: the searches or genotypes that $work is for
    keep_settings "$work" "$(regime "of each kind"), $1"
}
