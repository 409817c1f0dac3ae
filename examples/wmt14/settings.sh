# Source this, with the script's arguments: what the scripts of WMT'14 share. They take
#   PAIR [base|big]      en-de, en-fr or en-cs
# and from the environment (defaults: the paper's as far as known, see the README):
#   WORK                 folder of all files (examples/wmt14/work)
#   GPUS NODES           GPUs of each machine (as many as there are), machines (1)
#   NODE_RANK MASTER     this machine's number from 0; address:port of machine 0
#   MAX_TOKENS           tokens per GPU and batch (5000); --update-freq keeps the effective batch
#   SEARCH_UPDATES TRAIN_UPDATES SAVE_INTERVAL      updates; updates between checkpoints
#   NETWORK              what is trained: found, random:SEED, transformer, evolved_transformer
#   GENOTYPE             of NETWORK=found, if it is not the one that derive.sh wrote
#   ARCHITECTURE         flags of another size; FLAGS: further flags of fairseq-train, such as --fp16, or
#                        --search-strategy darts for the search of the paper
#   VOCABULARY WORKERS   joint sentencepiece model; processes of fairseq-preprocess

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage="usage: bash examples/wmt14/$(basename "$0") en-de|en-fr|en-cs [base|big]${more_usage:-}"
pair=${1:-} size=${2:-base}
case $pair in
en-de | en-fr | en-cs) ;;
*) echo "pair '$pair': en-de, en-fr or en-cs is needed. $usage" >&2 && exit 2 ;;
esac
case $size in
base) architecture="--arch revdarts_transformer" learning_rate=5e-4 gpus_of_paper=8 ;;
# gradients accumulated twice
big) architecture="--arch revdarts_transformer_big" learning_rate=1e-3 gpus_of_paper=16 ;;
*) echo "size '$size': base or big is needed. $usage" >&2 && exit 2 ;;
esac
network=${NETWORK:-found}
case $network in
found | random:* | transformer | evolved_transformer) ;;
*) echo "NETWORK=$network: found, random:SEED, transformer or evolved_transformer is needed" >&2 && exit 2 ;;
esac
source "$here/../environment.sh" examples
source "$here/../stages.sh"

source_language=en target_language=${pair#en-}
vocabulary=${VOCABULARY:-32000}
architecture=${ARCHITECTURE:-$architecture}
folder=${network//:/-}
tokenizer=13a own_line=--own-line # stages take hours, and print other lines
prepared=${WORK:-$here/work}/$pair
work=$prepared/$size

# fairseq's --update-freq makes up for GPUs that are fewer or smaller than the paper's 8 of 5,000 tokens.
gpus=${GPUS:-$( (nvidia-smi -L 2>/dev/null || echo one) | wc -l)}
processes=$((gpus * ${NODES:-1}))
max_tokens=${MAX_TOKENS:-5000}
update_freq=$(((gpus_of_paper * 5000 + processes * max_tokens - 1) / (processes * max_tokens)))

search_updates=${SEARCH_UPDATES:-30000}
train_updates=${TRAIN_UPDATES:-100000}
averaged=5
train_flags="--max-tokens $max_tokens --update-freq $update_freq --lr $learning_rate
    --warmup-updates 10000 --save-interval-updates ${SAVE_INTERVAL:-1000}
    --keep-interval-updates $averaged --log-interval 100 ${FLAGS:-}"
search_flags="--search-strategy elimination $train_flags"
baseline_layers=6 baseline_heads=8 baseline_flags=""
[ "$size" = base ] || baseline_heads=16 baseline_flags="--dropout 0.3" # Vaswani et al. 2017, table 3

launch=launch_everywhere
launch_everywhere() { # DATA FLAGS...: fairseq-train, one process for each GPU of each machine
    if [ "${NODE_RANK:-0}" = 0 ]; then
        python "$here/estimate.py" "$processes" "$@" >&3
    fi
    if [ "$processes" = 1 ]; then
        fairseq-train "$@"
        return
    fi
    local master=${MASTER:-127.0.0.1:29500}
    # torchrun sets the variables that the flags name.
    # shellcheck disable=SC2016
    torchrun --nnodes "${NODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$gpus" \
        --master_addr "${master%:*}" --master_port "${master#*:}" --no-python \
        bash -c 'fairseq-train "$@" --distributed-init-method env:// --device-id "$LOCAL_RANK" \
            --distributed-world-size "$WORLD_SIZE" --distributed-rank "$RANK" \
            --distributed-no-spawn' bash "$@"
}

use_prepared_data() {
    if [ ! -e "$prepared/stages/binarise.done" ]; then
        echo "$prepared: no data there; first bash examples/wmt14/prepare.sh $pair" >&2
        exit 2
    fi
    mkdir -p "$work"
    ln -sfn ../data "$work/data"
    ln -sfn ../raw "$work/raw"
}
