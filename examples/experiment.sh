# Source this: what the experiments on public corpora, wmt14/ and iwslt14/, share: several GPUs and
# machines, an estimate before each run, the network to train. They take from the environment
#   WORK                 folder of all files (work/ next to the scripts)
#   GPUS NODES           GPUs of each machine (as many as torch sees there), machines (1)
#   NODE_RANK MASTER     this machine's number from 0; address:port of machine 0
#   MAX_TOKENS           tokens per GPU and batch; --update-freq keeps the effective batch
#   SEARCH_UPDATES TRAIN_UPDATES SAVE_INTERVAL      updates; updates between checkpoints
#   SEED                 of the search and of the training (1); a training with another one has its own folder
#   NETWORK              what is trained: found, random:SEED, or a baseline
#   GENOTYPE             of NETWORK=found, if it is not the one that derive.sh wrote
#   ARCHITECTURE         flags of another size; FLAGS: further flags of fairseq-train, such as --fp16
#   VOCABULARY WORKERS   joint sentencepiece model; processes of fairseq-preprocess
#
# The caller has set here (its folder), prepare (the command that prepares the data), prepared and
# work (folders of the data and of the networks), batch (tokens per update), max_tokens (its
# default), and baselines (what NETWORK may name, in addition to found and random:SEED).

network=${NETWORK:-found}
case $network in
found | random:*) ;;
*)
    case " $baselines " in
    *" $network "*) ;;
    *) echo "NETWORK=$network: found, random:SEED, ${baselines// / or } is needed" >&2 && exit 2 ;;
    esac
    ;;
esac
source "$here/../environment.sh" examples
source "$here/../stages.sh"

folder=${network//:/-}
[ "${SEED:-1}" = 1 ] || folder+=-seed-$SEED
tokenizer=13a own_line=--own-line # stages take hours, and print other lines

# fairseq's --update-freq makes up for GPUs that are fewer or smaller than the batch asks for.
gpus=${GPUS:-$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')}
processes=$((gpus * ${NODES:-1}))
max_tokens=${MAX_TOKENS:-$max_tokens}
update_freq=$(((batch + processes * max_tokens - 1) / (processes * max_tokens)))
averaged=5
batch_flags="--max-tokens $max_tokens --update-freq $update_freq --log-interval 100
    --save-interval-updates ${SAVE_INTERVAL:-1000} --keep-interval-updates $averaged"

launch=launch_everywhere
launch_everywhere() { # DATA FLAGS...: fairseq-train, one process for each GPU of each machine
    if [ "${NODE_RANK:-0}" = 0 ]; then
        revdarts-profile --estimate -- "$@" --distributed-world-size "$processes" >&3 ||
            echo "no estimate for this command" >&3 # its error is in the log, or fairseq-train's too
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
        echo "$prepared: no data there; first $prepare" >&2
        exit 2
    fi
    mkdir -p "$work"
    if [ "$work" != "$prepared" ]; then
        ln -sfn ../data "$work/data"
        ln -sfn ../raw "$work/raw"
    fi
}

check_genotype() { # the file of NETWORK=found must be there
    if [ "$network" = found ] && [ ! -e "$genotype" ]; then
        echo "$genotype: not there; first search.sh and derive.sh, or set GENOTYPE" >&2
        exit 2
    fi
}

translate_and_score() { # FLAGS OF fairseq-generate -- FLAGS OF score.py
    local flags=()
    while [ "$1" != -- ]; do flags+=("$1") && shift; done
    python "$here/../average.py" "$work/$folder" --last "$averaged" -o "$work/$folder/average.pt"
    generate "$folder" average.pt "${flags[@]}"
    score "$folder" "${@:2}" | tee "$work/$folder.score"
    local file
    for file in "$work"/*.score; do # a row for each network that was scored
        echo "$(basename "$file" .score): $(grep '^[^ ]' "$file" | paste -sd'|' | sed 's/|/, /g')"
    done >"$work/summary.txt"
}
