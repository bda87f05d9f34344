#!/usr/bin/env bash
# Runs the benches whose figures begin with a prefix (all of them without one) and says which goals are missed.
# Usage: benches/run.sh [codec | line.back_p99_s | …]
# Exit code: 0 if everything could be measured, whatever the figures.
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
table=${CARGO_TARGET_DIR:-target}/bench/results.tsv

# The first words of the figures of one bench.
families() {
  case $1 in
    daemon) echo daemon phone ;;
    *) echo "$1" ;;
  esac
}

benches=() measured=()
for source in benches/*.rs; do
  bench=$(basename "$source" .rs)
  [[ $bench != report ]] || continue
  for family in $(families "$bench"); do
    # `co` means codec, and so does `codec.frames_200b`: a bench is run whole.
    if [[ $family. == "$only"* || $only == "$family."* ]]; then
      benches+=("$bench")
      read -ra families <<<"$(families "$bench")"
      measured+=("${families[@]}")
      # On a real bus farmhand races Google's adb and its server, too.
      [[ $bench != usb ]] || measured+=(adb server rollout)
      break
    fi
  done
done
((${#benches[@]})) || { echo "no figure begins with '$only': benches/README.md lists them" >&2; exit 2; }

unmeasured=()
for bench in "${benches[@]}"; do
  cargo bench --quiet --bench "$bench" || unmeasured+=("$bench")
done

missed=$(awk -F '\t' -v families="${measured[*]}" '
  BEGIN { split(families, list, " "); for (i in list) wanted[list[i]] }
  { split($1, word, ".") }
  # What could not be measured is inf or -inf, which not every awk takes for a number.
  word[1] in wanted && ($2 ~ /inf|NaN/ || ($4 == "<=" ? $2 > $5 + 0 : $2 < $5 + 0)) { printf "  %-40s %12s %-12s goal %s %s\n", $1, $2, $3, $4, $5 }
' "$table" 2>/dev/null || true)
if [[ $missed ]]; then printf 'missed goals:\n%s\n' "$missed"; else echo "no goal is missed"; fi
if ((${#unmeasured[@]})); then echo "could not be measured: ${unmeasured[*]}" >&2; exit 1; fi
