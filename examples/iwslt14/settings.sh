# Source this: what the scripts of IWSLT'14 German-English share. They take no arguments, and from the
# environment what ../experiment.sh lists (defaults: those of fairseq's example, see the README), and
#   TRANSFORMER          architecture of the baseline, whose size the other networks have
#   LAYERS               of the other networks: of encoder and of decoder (12)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -gt 0 ]; then
    echo "$*: no such argument. usage: bash examples/iwslt14/$(basename "$0")${more_usage:-}" >&2 && exit 2
fi
prepare="bash examples/iwslt14/prepare.sh"
prepared=${WORK:-$here/work}
work=$prepared
batch=4096 max_tokens=4096
baselines=transformer
source "$here/../experiment.sh"

source_language=de target_language=en
vocabulary=${VOCABULARY:-10000}
embeddings=--share-decoder-input-output-embed
# About as large as transformer_iwslt_de_en when one candidate is left in each node.
architecture=${ARCHITECTURE:---arch revdarts_transformer --embed-dim 256 --hidden-size 816 --ffn-embed-dim 1632}
search_updates=${SEARCH_UPDATES:-20000}
train_updates=${TRAIN_UPDATES:-50000}
train_flags="$batch_flags --lr 5e-4 --warmup-updates 4000 --dropout 0.3 --weight-decay 0.0001 ${FLAGS:-}"
search_flags="--search-strategy elimination $train_flags"
equal_to=${TRANSFORMER:-transformer_iwslt_de_en}
baseline_layers=${LAYERS:-12} baseline_heads=8 baseline_width=256
