#!/bin/bash
# Our own phone on the emulated bus: `rackbench handset` behind FunctionFS, found by the daemon, which reads its properties.
#
# Prints `CHECK usb.own_phone ok|FAIL <what was seen>` and ends with 0 only if it is ok. The guest is guest/own-phone, its console
# is kept in target/usbtest/own-phone.log. Needs what run.sh needs.
set -euo pipefail

# The longest that the guest may take, in seconds: 15 in emulation, more on a busy machine.
guest_seconds_max=120

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=$repo/.cache/usbtest
work=$repo/target/usbtest
target=${CARGO_TARGET_DIR:-$repo/target}/debug
console=$work/own-phone.log
mkdir -p "$cache" "$work"
. "$here/fetch.sh"
. "$here/image.sh"

fetch_kernel
fetch_busybox
fetch_qemu
(cd "$repo" && cargo build -q --bin farmhand && cargo build -q -p firmware-tools --bin rackbench)

root=$work/own-phone
initrd=$work/own-phone.gz
rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,sys,tmp,root,etc,run,modules,state/home/.android}
cp "$busybox" "$root/bin/busybox"
cp "$here/guest/own-phone" "$root/init"
cp "$here/guest/farmhand.toml" "$root/etc/"
add_modules
add_key
add_authorities
add_program "$target/farmhand" bin/farmhand
add_program "$target/rackbench" bin/rackbench
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$initrd"

timeout "$guest_seconds_max" "${qemu[@]}" -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -no-user-config -no-reboot \
    -display none -serial stdio -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 quiet loglevel=0 panic=1" \
    < /dev/null 2>&1 | tr -d '\r' > "$console" || echo "own-phone: the guest did not end within $guest_seconds_max s" >&2

line=$(grep -E '^CHECK usb.own_phone (ok|FAIL) ' "$console" | tail -n 1) || line="CHECK usb.own_phone FAIL the guest said nothing"
echo "$line"
case $line in *" ok "*) ;; *) echo "own-phone: the guest's console is in $console" >&2; exit 1 ;; esac
