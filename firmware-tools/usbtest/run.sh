#!/bin/bash
# The USB testbed: farmhand's daemon against two of Google's adbd on a real USB stack, on a machine that needs no USB.
#
# Boots Debian's stock kernel under emulation with two virtual device controllers (dummy_hcd); behind each sits an adbd, through
# FunctionFS as on a phone. The story is in guest/story. Prints a line `STEP <name> ok|FAIL <seconds>` for each step below and
# ends with 0 only if all are ok; a step that the guest did not print is a FAIL. The guest's console is kept in
# target/usbtest/console.log.
#
# Needs a network for the first run, or .cache/usbtest and .cache/adbd of an earlier one.
set -euo pipefail

steps="usb.plugged usb.unplugged"
# The longest that the guest may take, in seconds: 10 to 30 in emulation, more on a busy machine.
guest_seconds_max=80

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=$repo/.cache/usbtest
work=$repo/target/usbtest
console=$work/console.log
mkdir -p "$cache" "$work"
. "$here/fetch.sh"
. "$here/image.sh"

[ "$(uname -m)" = x86_64 ] || { echo "usbtest: the testbed's kernel and emulator are for x86-64, this machine is $(uname -m)" >&2; exit 1; }
for tool in apt-get cargo dpkg gzip ldd openssl strip timeout; do
    command -v $tool >/dev/null || { echo "usbtest: $tool is missing on this machine" >&2; exit 1; }
done
fetch_kernel
fetch_busybox
fetch_qemu
fetch_adbd
(cd "$repo" && cargo build -q --bin farmhand)
# Busybox has no date with milliseconds, by which the story measures.
make_image "$repo/target/debug/farmhand" "$(command -v date)"

# KVM is not tried: on machines where it exists but hangs in the BIOS nothing would be seen.
timeout "$guest_seconds_max" "${qemu[@]}" -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -no-user-config -no-reboot \
    -display none -serial stdio -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 quiet loglevel=0 panic=1" \
    < /dev/null 2>&1 | tr -d '\r' > "$console" || echo "usbtest: the guest did not end within $guest_seconds_max s" >&2

failed=0
for step in $steps; do
    line=$(grep -E "^STEP $step (ok|FAIL) " "$console" | tail -n 1) || line="STEP $step FAIL 0"
    echo "$line"
    case $line in *" ok "*) ;; *) failed=1 ;; esac
done
[ $failed = 0 ] || echo "usbtest: the guest's console is in $console" >&2
exit $failed
