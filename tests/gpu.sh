#!/usr/bin/env bash
# What needs a GPU: the tests of tests/modules, a search in each precision, and the profile at the
# paper's base size. Prints a table for the README, in Markdown: bash tests/gpu.sh
# Searches take two GPUs if there are so many. UPDATES makes them shorter, WORK keeps their files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

refuse() {
    echo "tests/gpu.sh: $1" >&2
    exit 2
}
# Before the environment is made, which takes minutes
nvidia-smi -L 2>/dev/null | grep GPU >/dev/null || refuse "no GPU is there (nvidia-smi lists none)"
source examples/environment.sh tests
prepare_environment examples
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
[ "$gpus" -gt 0 ] || refuse "torch $(python -c 'import torch; print(torch.__version__)') sees no GPU"
[ "$gpus" -lt 3 ] || gpus=2

updates=${UPDATES:-200}
work=${WORK:-$(mktemp -d)}
echo "Files: $work"
mkdir -p "$work"

echo "Tests"
python -m pytest --device cuda tests/modules tests/commands/test_precision.py

echo "Data"
python examples/quickstart/corpus.py "$work/raw" --language fr >"$work/data.log"
python examples/pieces.py "$work/raw" "$work/pieces" --languages en fr --vocabulary 250 \
    >>"$work/data.log" 2>&1
rm -rf "$work/data"
fairseq-preprocess --source-lang en --target-lang fr --joined-dictionary --destdir "$work/data" \
    --trainpref "$work/pieces/train" --validpref "$work/pieces/valid" >>"$work/data.log" 2>&1

for precision in fp32 bf16 fp16; do
    echo "Search in $precision: $updates updates, $gpus process(es)"
    flags=()
    [ "$precision" = fp32 ] || flags=("--$precision")
    rm -rf "$work/$precision"
    fairseq-train "$work/data" --save-dir "$work/$precision" --max-update "$updates" \
        --user-dir fairseq_revdarts --arch revdarts_transformer --share-all-embeddings \
        --task bilevel_search --criterion reversible_search --max-tokens 5000 \
        --optimizer adam --adam-betas '(0.9, 0.98)' --lr 5e-4 --lr-scheduler inverse_sqrt \
        --warmup-updates 100 --clip-norm 1 --drift-limit 1 --no-epoch-checkpoints \
        --distributed-world-size "$gpus" --log-format json --log-interval 10 \
        --required-batch-size-multiple 1 --disable-validation \
        ${flags[@]+"${flags[@]}"} >"$work/$precision.log" 2>&1 || {
        tail -n 20 "$work/$precision.log" >&2
        exit 1
    }
    echo "Profile in $precision"
    revdarts-profile --device cuda --precision "$precision" --layers 12 --hidden-size 960 \
        --embed-dim 256 --tokens 5000 --vocabulary 32000 --json "$work/$precision.json" \
        >"$work/$precision.profile"
done

python tests/gpu_table.py "$work" "$gpus"
