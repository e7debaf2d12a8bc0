#!/bin/sh
# Run the benchmarks one after the other and keep their results; with names, only those:
#   sh bench/run.sh delivery crash
# One that fails is told at the end, and the others are kept.
set -u
cd "$(dirname "$0")/.."
mkdir -p var/bench
rm -f var/bench/*.json

wanted=" ${*:-import delivery delivery-unsigned delivery-both bytes latency scale crash} "
failed=
run() {
    name=$1
    shift
    case "$wanted" in *" $name "*) ;; *) return ;; esac
    echo "== $name: manage.py bench $*"
    if .venv/bin/python manage.py bench "$@" >"var/bench/$name.json"; then
        cat "var/bench/$name.json"
    else
        rm -f "var/bench/$name.json"
        failed="$failed $name"
    fi
}

run import import --rows 1000000
run delivery delivery --recipients 100000 --sign rsa
run delivery-unsigned delivery --recipients 100000 --sign none
run delivery-both delivery --recipients 20000 --sign both
run bytes bytes
run latency latency
run scale scale --rows 1000000
run crash crash

.venv/bin/python bench/keep.py var/bench/*.json
if [ -n "$failed" ]; then
    echo "Failed:$failed"
    exit 1
fi
