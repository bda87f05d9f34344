#!/usr/bin/env bash
# The package as a user meets it. Prints `CHECK deb.<name> ok|FAIL` for each of the three checks; exits 1 unless all are ok.
#   deb.lintian        lintian finds neither error nor warning
#   deb.unit_security  the unit's sandbox leaves an exposure of at most 2.0
#   deb.installs       in a fresh Debian: installs, observes, keeps the owner's changes over an upgrade, purges without a trace
# Needs root (debootstrap, chroot). What each check said is in target/check-deb/.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$PWD/target/check-deb
cache=$PWD/.cache
rm -rf "$log"
mkdir -p "$log" "$cache"
failed=0

check() { # check NAME COMMAND...: runs it with its output in a file, prints the verdict
  local name=$1
  shift
  if "$@" >"$log/$name.log" 2>&1; then
    echo "CHECK deb.$name ok"
  else
    echo "CHECK deb.$name FAIL"
    tail -n 20 "$log/$name.log" | sed 's/^/    /'
    failed=1
  fi
}

needs() { # needs PROGRAM PACKAGE
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2")
}

missing=()
needs lintian lintian
needs debootstrap debootstrap
needs systemd-analyze systemd
needs unshare util-linux
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "The check needs packages that are not installed. Run: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log/apt.log" 2>&1 || exit 1
fi

deb=$(firmware-tools/make-deb.sh) || {
  for name in lintian unit_security installs; do echo "CHECK deb.$name FAIL"; done
  exit 1
}
deb=$PWD/$deb

fresh_root() { # fresh_root DIR: a minimal Debian of this host's release, from the cache where there is one
  local suite mirror tar
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  tar=$cache/debian-$suite.tar
  if [ ! -e "$tar" ]; then
    rm -rf "$cache/debootstrap"
    debootstrap --variant=minbase --include=systemd,udev,init-system-helpers "$suite" "$cache/debootstrap" "$mirror" || return 1
    rm -rf "$cache"/debootstrap/var/cache/apt/archives/*.deb
    tar -C "$cache/debootstrap" --one-file-system -cf "$tar.part" . && mv "$tar.part" "$tar" && rm -rf "$cache/debootstrap"
  fi
  tar -C "$1" -xf "$tar"
}

installs() {
  local root
  root=$(mktemp -d)
  fresh_root "$root" || return 1
  cp "$deb" "$root/farmhand.deb"
  cp firmware-tools/check-deb-inside.sh "$root/check.sh"
  # A namespace of its own: its mounts and processes end with it.
  unshare --mount --pid --fork --net sh -c '
    mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/tmp" && ip link set lo up 2>/dev/null
    exec chroot "$0" /bin/bash /check.sh' "$root"
  local verdict=$?
  rm -rf --one-file-system "$root"
  return $verdict
}

check lintian lintian --allow-root --fail-on error,warning --suppress-tags-from-file firmware-tools/lintian-suppressed "$deb"
check unit_security systemd-analyze security --no-pager --offline=true --threshold=20 systemd/farmhand.service
check installs installs
exit $failed
