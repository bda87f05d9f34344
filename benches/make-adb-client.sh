#!/bin/sh
# Makes the command line of the Rust crate adb_client in .cache/tools and prints its path. Run again, it only prints the path.
set -eu
version=3.2.3

tools=$(cd "$(dirname "$0")/.." && pwd)/.cache/tools
program=$tools/bin/adb_cli
if [ "$("$program" --version 2>/dev/null || true)" != "adb_cli $version" ]; then
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$tools" adb_cli --version "$version"
fi
echo "$program"
