#!/usr/bin/env bash
# Fuzzes every parser and core for some seconds each. Prints `FUZZ <target> ok|FAIL <executions>` and writes target/fuzz.tsv
# (target, seconds, executions, result).
# Usage: [JOBS=n] fuzz/run.sh [seconds [prefix of the targets]]    As many run at once as there are processors, or JOBS.
# Inputs that reach new code stay in fuzz/corpus/<target>/ (only the seeds are in the repository), what libFuzzer says is in
# fuzz/target/<target>.log. A crash is exit code 1, with the command that repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20} only=${2:-}
tools=$PWD/.cache/tools
export PATH=$tools/bin:$PATH
# cargo-fuzz passes flags that a stable compiler takes only with this.
export RUSTC_BOOTSTRAP=1
# Nothing that is fuzzed has unsafe code, so no sanitizer is needed and the runs are twice as fast.
sanitizer=none

[[ -x $tools/bin/cargo-fuzz ]] || cargo install --quiet --locked --root "$tools" cargo-fuzz
# The crate is a workspace of its own: its dependencies are those of the daemon, version by version.
cp Cargo.lock fuzz/Cargo.lock
mkdir -p fuzz/target
cargo fuzz build --features daemon --sanitizer "$sanitizer" 2>fuzz/target/build.log || { cat fuzz/target/build.log >&2; exit 1; }

rows=$(mktemp -d)
trap 'rm -rf "$rows"' EXIT

# One target: its row, and its lines for a person.
run_one() {
  local target=$1 log=fuzz/target/$1.log result=ok executions input
  cargo fuzz run --features daemon --sanitizer "$sanitizer" "$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -print_final_stats=1 >"$log" 2>&1 || result=FAIL
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  printf '%s\t%s\t%s\t%s\n' "$target" "$seconds" "${executions:-0}" "$result" >"$rows/$target"
  echo "FUZZ $target $result ${executions:-0}"
  [[ $result == FAIL ]] || return 0
  grep -m1 'panicked at' -A1 "$log" || tail -5 "$log"
  input=$(sed -n 's/^.*Test unit written to //p' "$log" | tail -1)
  [[ -z $input ]] || echo "  repeat it: RUSTC_BOOTSTRAP=1 PATH=$tools/bin:\$PATH cargo fuzz run --features daemon --sanitizer $sanitizer $target $input"
  return 1
}
export -f run_one
export seconds sanitizer rows tools

mapfile -t targets < <(cargo fuzz list | grep -- "^$only")
((${#targets[@]})) || { echo "no target begins with '$only'" >&2; exit 2; }
failed=0
printf '%s\n' "${targets[@]}" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'set -euo pipefail; run_one {}' || failed=1
mkdir -p target
{
  printf 'target\tseconds\texecutions\tresult\n'
  for target in "${targets[@]}"; do cat "$rows/$target"; done
} >target/fuzz.tsv
exit "$failed"
