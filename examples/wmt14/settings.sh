# Source this, with the script's arguments: what the scripts of WMT'14 share. They take
#   PAIR [base|big]      en-de, en-fr or en-cs
# and from the environment what ../experiment.sh lists (defaults: the paper's as far as known, see the
# README). FLAGS="--search-strategy darts" follows the rule of the paper.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage="usage: bash examples/wmt14/$(basename "$0") en-de|en-fr|en-cs [base|big]${more_usage:-}"
pair=${1:-} size=${2:-base}
case $pair in
en-de | en-fr | en-cs) ;;
*) echo "pair '$pair': en-de, en-fr or en-cs is needed. $usage" >&2 && exit 2 ;;
esac
case $size in
base) architecture="--arch revdarts_transformer" learning_rate=5e-4 batch=40000 ;;
# gradients accumulated twice
big) architecture="--arch revdarts_transformer_big" learning_rate=1e-3 batch=80000 ;;
*) echo "size '$size': base or big is needed. $usage" >&2 && exit 2 ;;
esac
prepare="bash examples/wmt14/prepare.sh $pair"
prepared=${WORK:-$here/work}/$pair
work=$prepared/$size
max_tokens=5000
baselines="transformer evolved_transformer"
source "$here/../experiment.sh"

source_language=en target_language=${pair#en-}
vocabulary=${VOCABULARY:-32000}
architecture=${ARCHITECTURE:-$architecture}
search_updates=${SEARCH_UPDATES:-30000}
train_updates=${TRAIN_UPDATES:-100000}
train_flags="$batch_flags --lr $learning_rate --warmup-updates 10000 ${FLAGS:-}"
search_flags="--search-strategy elimination $train_flags"
baseline_layers=6 baseline_heads=8 baseline_flags=""
[ "$size" = base ] || baseline_heads=16 baseline_flags="--dropout 0.3" # Vaswani et al. 2017, table 3
