#!/usr/bin/env bash
# Installs the Debian packages that the tests need: real peers instead of imitations. As root it installs what is missing; as
# anybody else it says the command and fails, since a silently skipped test is no test.
set -euo pipefail

# program or file : package
needs=(
  adb:adb
  mosquitto:mosquitto
  mosquitto_sub:mosquitto-clients
  chromium:chromium
  java:default-jre-headless
  protoc:protobuf-compiler
  openssl:openssl
  g++:g++
  pkg-config:pkg-config
  unshare:util-linux
  ip:iproute2
  ssh:openssh-client
  sshd:openssh-server
  /usr/lib/python3/dist-packages/google/protobuf/__init__.py:python3-protobuf
)

missing=()
for need in "${needs[@]}"; do
  what=${need%:*} package=${need##*:}
  case $what in
    /*) [ -e "$what" ] || missing+=("$package") ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$what" >/dev/null || missing+=("$package") ;;
  esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
  echo "The tests need packages that are not installed. Run: sudo $install" >&2
  exit 1
fi
echo "installing what the tests need: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
$install -qq >/dev/null
