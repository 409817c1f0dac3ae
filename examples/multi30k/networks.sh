# Source this after settings.sh: networks of as many parameters each, trained, translated and scored, several
# at a time. The caller has set: parameters, train_updates, train_flags.

prepare() {
    stage raw "copy the raw text" copy_raw
    stage binarise "split the text into pieces, binarise it" binarise
}

fit() { # RUN SEED GENOTYPE|transformer FLAGS...: train it with $parameters parameters
    local flags
    flags=$(python "$examples/size.py" "$3" "$parameters" --data "$work/data" --layers 4)
    local TIMEFORMAT="processor seconds = %U" # on a busy machine the clock says little
    time train_network "$1" $flags --seed "$2" "${@:4}"
}

network() { # NAME SEED GENOTYPE|transformer FLAGS...: train, translate, score
    local run=$1-$2
    stage "$run" "train $run, $train_updates updates" fit "$run" "${@:2}"
    stage "$run-translate" "translate the test set with $run" generate "$run"
    stage "$run-score" "score $run" score "$run"
}

stop_all() { # jobs in the background do not hear Ctrl-C
    for job in $(jobs -p); do kill -- "-$job" || true; done
    exit 130
}
trap stop_all INT TERM

failed=0
await_fewer_than() { # N networks at work
    while [ "$(jobs -p | wc -l)" -ge "$1" ]; do wait -n || failed=1; done
}

in_background() { # COMMAND NAME SEED ARGUMENTS...: as soon as fewer than $JOBS are at work
    await_fewer_than "${JOBS:-1}"
    set -m # a process group for each job, for stop_all
    (
        trap report_a_stop EXIT
        own_line=--own-line # each line that is complete gets its prefix
        exec > >(sed -u "s|^|$2-$3: |") 2>&1
        "$@"
    ) &
    set +m
}
