#!/usr/bin/env bash
# Lets another implementation of protobuf decode every frame that the demo's check had on the wire, in both directions.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
capture=$target/demo-check/central.capture
if [ ! -s "$capture" ]; then
  "$target/debug/rackbench" demo-check --farmhand "$target/debug/farmhand" --dir "$target/demo-check" --only line
fi
exec /usr/bin/python3 tests/peers/decode_capture.py "$capture"
