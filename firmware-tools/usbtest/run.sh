#!/bin/bash
# The USB testbed: farmhand's daemon on a real USB stack, on a machine that needs no USB.
#
# Boots Debian's stock kernel under emulation, once for each part:
#   plug  two virtual device controllers (dummy_hcd) with Google's adbd, the least that shows that handsets are found; one is given
#         to another program, and one may not be opened at first
#   rack  32 virtual device controllers (dummy_hcd); behind each sits Google's adbd, through FunctionFS as on a phone
#   own   our own phone, rackbench's, behind FunctionFS: as Android, asking for a key, silent, in sideload and in fastboot
#   tree  QEMU's controllers and hubs: three levels, port power (beside uhubctl), handsets that offer files only, a full controller
# What happens in the guest is in src/. Prints `CHECK usb.<name> ok|FAIL <seconds of its part> <what was seen>` for each check below
# and `RESULT <name> <value> <unit>` for each figure; ends with 0 only if all checks are ok: one that the guest did not print is a
# FAIL. The guest's console is kept in target/usbtest/<part>.log.
#
# Usage: run.sh [plug|own|tree|rack]...    Needs a network for the first run, or .cache/usbtest and .cache/adbd of an earlier one.
set -euo pipefail

declare -A checks=(
    [plug]="plugged detached doctor detached_over_a_restart unplugged barred"
    [rack]="enumeration 32_phones topology twins descriptor_serial hotplug unplug_ready unplug_online unplug_claiming
        killed_in_push late_permission"
    [own]="own_phone sideload fastboot unplug_authorising unplug_recovering"
    [tree]="port_paths files_only not_enumerated port_power slots_learn"
)
# The longest that a part may take, in seconds: about half of it in emulation on an idle machine of two cores.
declare -A part_seconds_max=([plug]=240 [own]=120 [tree]=200 [rack]=360)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(plug own tree rack)

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=$repo/.cache/usbtest
work=$repo/target/usbtest
target=${CARGO_TARGET_DIR:-$repo/target}/debug
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
fetch_uhubctl
fetch_adbd
(cd "$repo" && cargo build -q -p farmhand -p usbtest -p firmware-tools --bins --example usb_push)
make_base

# The devices of each part.
devices() {
    case $1 in
        plug | rack | own) ;;
        tree)
            mkdir -p "$work/files"
            local mtp="usb-mtp,rootdir=$work/files"
            echo "-device qemu-xhci,id=tree -device usb-hub,bus=tree.0,port=1,ports=8,port-power=on"
            echo "-device usb-hub,bus=tree.0,port=1.2,ports=8,port-power=on -device $mtp,bus=tree.0,port=1.1,serial=T1"
            echo "-device $mtp,bus=tree.0,port=1.2.1,serial=T21 -device $mtp,bus=tree.0,port=1.2.2,serial=T22"
            echo "-device $mtp,bus=tree.0,port=1.2.3,serial=T23"
            # It takes 64 devices: eight hubs and 57 others are one more.
            echo "-device qemu-xhci,id=full,p2=8"
            local hub port
            for hub in 1 2 3 4 5 6 7 8; do
                echo "-device usb-hub,bus=full.0,port=$hub,ports=8"
                for port in 1 2 3 4 5 6 7 8; do
                    [ $hub -lt 8 ] || [ $port = 1 ] || break
                    echo "-device usb-mouse,bus=full.0,port=$hub.$port"
                done
            done
            ;;
    esac
}

# Boots one part; its console goes to $work/<part>.log.
boot() {
    local part=$1 most=${part_seconds_max[$1]}
    # KVM is not tried: on machines where it exists but hangs in the BIOS nothing would be seen.
    # shellcheck disable=SC2046  # a list of options
    timeout "$most" "${qemu[@]}" -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nodefaults -no-user-config -no-reboot \
        -display none -serial stdio $(devices "$part") -kernel "$kernel" -initrd "$initrd" \
        -append "console=ttyS0 quiet loglevel=0 panic=1 usbtest=$part" < /dev/null 2>&1 | tr -d '\r' > "$work/$part.log" ||
        echo "usbtest: part $part did not end within $most s" >&2
}

failed=0
for part in "${parts[@]}"; do
    make_image "$part"
    start=$SECONDS
    boot "$part"
    took=$((SECONDS - start))
    for name in ${checks[$part]}; do
        line=$(grep -aE "^CHECK usb.$name (ok|FAIL)( |$)" "$work/$part.log" | tail -n 1) || line="CHECK usb.$name FAIL it did not come to it"
        echo "$line" | sed -E "s/^(CHECK [^ ]+ [^ ]+)/\1 $took/" | cut -c 1-300
        case $line in "CHECK usb.$name ok"*) ;; *) failed=1 ;; esac
    done
    grep -aE '^RESULT ' "$work/$part.log" || true
done
[ $failed = 0 ] || echo "usbtest: the guests' consoles are $work/<part>.log" >&2
exit $failed
