# Source this after settings.sh: networks that are trained, translated and scored, several at a time. The
# caller has set: parameters (of each), train_updates, train_flags, pooling (of random genotypes).

least() { # NUMBER...: all learning rates are tried with the least seed, as table.py expects
    printf '%s\n' "$@" | sort -n | head -n 1
}

prepare() {
    stage raw "copy the raw text" copy_raw
    stage binarise "split the text into pieces, binarise it" binarise
}

sized() { # GENOTYPE|transformer|evolved_transformer: flags that give it $parameters parameters
    python "$examples/size.py" "$1" "$parameters" --data "$work/data" --layers 4 --embed-dim hidden-size \
        --pooling "$pooling"
}

fit() { # RUN SEED COMMAND FLAGS...: train the network whose flags COMMAND prints
    local flags
    flags=$($3)
    local TIMEFORMAT="processor seconds = %U" # on a busy machine the clock says little
    time train_network "$1" $flags --seed "$2" "${@:4}"
}

network() { # NAME SEED COMMAND FLAGS...: train, translate, score; COMMAND, such as "sized random:1", prints flags
    local run=$1-$2
    stage "$run" "train $run, $train_updates updates" fit "$run" "${@:2}"
    stage "$run-translate" "translate the test set with $run" generate "$run"
    stage "$run-score" "score $run" score "$run"
}

mkdir -p "$work"
exec 9>"$work/lock" # until the last job has ended
flock -n 9 || { echo "$work: another script is at work there" >&2 && exit 2; }

stop_all() { # jobs in the background do not hear Ctrl-C
    trap '' INT TERM HUP
    for job in $(jobs -p); do kill -- "-$job" || true; done
    wait || true
    exit 130
}
trap stop_all INT TERM HUP

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
    ) </dev/null &
    set +m
}
