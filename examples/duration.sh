# Source this: how long something took, in words.

duration() { # SECONDS: 45 s, 1 min 25 s, 2 h 5 min
    local seconds=$1
    if [ "$seconds" -lt 60 ]; then
        echo "$seconds s"
    elif [ "$seconds" -lt 3600 ]; then
        echo "$((seconds / 60)) min $((seconds % 60)) s"
    else
        echo "$((seconds / 3600)) h $((seconds % 3600 / 60)) min"
    fi
}
