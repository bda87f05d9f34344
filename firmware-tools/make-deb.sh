#!/usr/bin/env bash
# Builds the Debian package into target/debian/ and prints its path. cargo-deb is built into .cache/tools where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DEB_VERSION=3.8.0
export PATH=$PWD/.cache/tools/bin:$PATH
if ! cargo deb --version >/dev/null 2>&1; then
  echo "building cargo-deb $CARGO_DEB_VERSION into .cache/tools, once" >&2
  cargo install --quiet --locked --root .cache/tools --version "$CARGO_DEB_VERSION" cargo-deb
fi

cargo build --quiet --release --bin farmhand

# Manual pages and completions come from the program's own definition of its command line.
package=target/package
rm -rf "$package"
mkdir -p "$package"
target/release/farmhand man --dir "$package/man"
for shell in bash zsh fish; do target/release/farmhand completions $shell > "$package/farmhand.$shell"; done

cargo deb --quiet --no-build --strip --output target/debian/ >/dev/null
ls -t target/debian/farmhand_*.deb | head -n 1
