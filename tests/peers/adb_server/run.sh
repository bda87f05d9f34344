#!/usr/bin/env bash
# Programs that nobody here wrote, against farmhand's adb server: `CHECK adb_server.<client>_<family> ok|FAIL` for each client and
# family of commands; exits 1 unless all are ok. Its logs are in target/check-adb-server/.
#   run.sh FARMHAND RACKBENCH [FAMILY]
# Needs root: Google's adbd listens on all interfaces and lets everybody in, so all of it runs in a network of its own. The clients are
# fetched once, in the versions that stand beside this file, into .cache/peers/.
set -euo pipefail
cd "$(dirname "$0")/../../.."

here=tests/peers/adb_server
cache=.cache/peers
log=target/check-adb-server
farmhand=$(realpath "$1") rackbench=$(realpath "$2") only=${3:-}

missing() {
  echo "check-adb-server: $1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || missing "needs root, for a network and a mount namespace of its own"
for need in adb:adb unshare:util-linux ip:iproute2 npm:npm node:nodejs /usr/bin/python3:python3; do
  command -v "${need%:*}" >/dev/null || missing "needs ${need%:*}: apt-get install --no-install-recommends ${need#*:}"
done

# fetched NAME LIST COMMAND...: runs the command with a fresh folder as its last word, unless what LIST names is there already.
fetched() {
  local name=$1 list=$2 folder
  shift 2
  folder=$cache/$name-$(sha256sum "$list" | cut -c 1-12)
  if [ ! -e "$folder/.complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    "$@" "$folder" >"$folder.log" 2>&1 || missing "$name could not be fetched (is there a network?): $folder.log"
    touch "$folder/.complete"
  fi
  echo "$folder"
}

python_clients() {
  /usr/bin/python3 -m venv "$1" || {
    echo "apt-get install --no-install-recommends python3-venv"
    return 1
  }
  "$1/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt"
}

node_clients() {
  cp "$here/package.json" "$here/package-lock.json" "$1/" && npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

start_adbd=$(firmware-tools/fetch-adbd.sh)
python=$(fetched python "$here/requirements.txt" python_clients)
node=$(fetched node "$here/package-lock.json" node_clients)

rm -rf "$log"
mkdir -p "$log"
# Whatever is started ends with the process namespace.
exec unshare --mount --net --pid --fork --kill-child --mount-proc \
  env -u ANDROID_SERIAL -u ADB_SERVER_SOCKET -u ANDROID_ADB_SERVER_PORT PYTHONDONTWRITEBYTECODE=1 \
  "$python/bin/python" "$here/check.py" --farmhand "$farmhand" --rackbench "$rackbench" --adbd "$start_adbd" \
  --node "$(realpath "$node")" --log "$(realpath "$log")" ${only:+--only "$only"}
