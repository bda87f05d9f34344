#!/bin/bash
# The USB testbed: farmhand's daemon on a real USB stack, on a machine that needs no USB.
#
# Boots Debian's stock kernel under emulation, once for each part:
#   plug  two virtual device controllers (dummy_hcd) with Google's adbd, the least that shows that handsets are found; one is given
#         to another program, and one may not be opened at first
#   rack  32 virtual device controllers (dummy_hcd); behind each sits Google's adbd, through FunctionFS as on a phone
#   own   our own phone, rackbench's, behind FunctionFS: as Android, asking for a key, silent, in sideload and in fastboot
#   work  each verb of the command line on Google's adbd and on our phone: shell, files, installs, tunnels, leases, moves
#   wrong phones that go wrong, each in its way: faults of the protocol, stalls, a cable that comes out, a hub that fails; the ladder;
#         shares of a bus
#   tree  QEMU's controllers and hubs: three levels, port power (beside uhubctl), handsets that offer files only, a full controller
# and with --bench, in a release build, what measures (benches/usb.rs calls it, and keeps the figures):
#   race  four with Google's adbd: farmhand, Google's adb 29 and 34 and a loop of ready-made frames, each with one; Google's adb 34 at
#         farmhand's adb server and at its own
#   bare  our own phone, then 32 of them, beside functions that only take and give bytes
#   many  32 with Google's adbd, to all of which a file goes at once
#   rollout  32 with Google's adbd and a package manager that takes real APKs, all of which get one: by a rollout, as a bare push, by adb
# What happens in the guest is in src/. Prints `CHECK usb.<name> ok|FAIL <seconds of its part> <what was seen>` for each check below
# and `RESULT <name> <value> <unit> goal <= or >= <number>` for each figure; ends with 0 only if all checks are ok and all figures
# there: a check that the guest did not print is a FAIL, and a figure is inf or -inf, as far from its goal as can be. Where the testbed
# cannot run, each check is named as NOT RUN, and that is a failure, too. The guest's console is kept in target/usbtest/<part>.log.
#
# Usage: run.sh [plug|own|work|wrong|tree|rack]...
#        USB_BENCH=<the program of benches/usb.rs> USB_BENCH_APK=<an APK> run.sh --bench [race|bare|many|rollout|rack]...
#        (USB_PROFILE=debug: with a debug build, to try the parts that measure; their figures mean nothing then)
# Needs a network for the first run, or .cache/usbtest and .cache/adbd of an earlier one.
set -euo pipefail

declare -A checks=(
    [plug]="plugged detached doctor detached_over_a_restart unplugged barred"
    [rack]="enumeration 32_phones topology twins descriptor_serial hotplug unplug_ready unplug_online unplug_claiming
        killed_in_push late_permission"
    [own]="own_phone sideload fastboot unplug_authorising unplug_recovering"
    [work]="auth shell push_pull install install_refused install_splits reverse logcat screenshot leases reboot moved trace
        twins_work twin_after_restart"
    [wrong]="stall wrong_magic payload_too_long garbage short_packets cnxn_twice wrong_checksum unplug_in_transfer hub_incident
        reset_budget quarantine ladder others_go_on bus_shares"
    [tree]="port_paths files_only not_enumerated port_power slots_learn"
)
declare -A figures=(
    [rack]="usb.threads_32_phones usb.wakeups_per_s_32_idle usb.wakeups_per_probe usb.opens_after_late_permission"
    [race]="adb.push_usb_vs_adb adb.pull_usb_vs_adb adb.cpu_s_per_gb_vs_adb_usb server.push_usb server.pull_usb adb.usb_push_vs_floor
        adb.first_shell_ms_after_plug"
    [bare]="usb.push_vs_bare_async usb.pull_vs_bare_async usb.push_32_at_once_vs_bare_32"
    [many]="adb.push_32_at_once_vs_adb usb.push_32_phones_1MB_usbfs_ok"
    [rollout]="rollout.32_usb_vs_push rollout.32_usb_vs_adb_parallel"
)
# For a figure that could not be measured: its unit and its goal. adb.first_shell_ms_after_plug has adb's own as its goal, in a run.
declare -A goals=(
    [usb.threads_32_phones]="threads <= 2" [usb.wakeups_per_s_32_idle]="1/s <= 2" [usb.wakeups_per_probe]="wakeups <= 8"
    [usb.opens_after_late_permission]="phones >= 32" [adb.push_usb_vs_adb]="ratio <= 1" [adb.pull_usb_vs_adb]="ratio <= 0.8"
    [adb.cpu_s_per_gb_vs_adb_usb]="ratio <= 0.4" [adb.usb_push_vs_floor]="ratio <= 1.1" [adb.first_shell_ms_after_plug]="ms <= 1000"
    [server.push_usb]="ratio <= 1" [server.pull_usb]="ratio <= 0.9"
    [usb.push_vs_bare_async]="ratio >= 0.9" [usb.pull_vs_bare_async]="ratio >= 0.9" [usb.push_32_at_once_vs_bare_32]="ratio >= 0.7"
    [adb.push_32_at_once_vs_adb]="ratio >= 1.05" [usb.push_32_phones_1MB_usbfs_ok]="phones >= 32"
    [rollout.32_usb_vs_push]="ratio <= 1.25" [rollout.32_usb_vs_adb_parallel]="ratio <= 1"
)
# The longest that a part may take, in seconds: about half of it in emulation on an idle machine of two cores.
declare -A part_seconds_max=([plug]=240 [own]=120 [work]=240 [wrong]=300 [tree]=200 [rack]=600 [race]=1600 [bare]=600 [many]=900
    [rollout]=2400)
parts=(plug own work wrong tree rack)
profile=debug
if [ "${1:-}" = --bench ]; then
    : "${USB_BENCH:?is to be the program of benches/usb.rs: run make bench ONLY=usb}"
    : "${USB_BENCH_APK:?is to be the APK that phones get: run make bench ONLY=usb}"
    profile=${USB_PROFILE:-release}
    parts=(race bare many rollout rack)
    shift
fi
[ $# = 0 ] || parts=("$@")

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=$repo/.cache/usbtest
work=$repo/target/usbtest
target=${CARGO_TARGET_DIR:-$repo/target}/$profile
mkdir -p "$cache" "$work"
. "$here/fetch.sh"
. "$here/image.sh"

# A figure that is not there is as far from its goal as can be.
no_figure() { # name, why
    local goal=${goals[$1]} worst=inf
    case $goal in *'>='*) worst=-inf ;; esac
    echo "# $1 was not measured: $2"
    echo "RESULT $1 $worst ${goal%% *} goal ${goal#* }"
}

# Names everything that was not tried, and ends.
not_run() { # why
    local part name
    for part in "${parts[@]}"; do
        for name in ${checks[$part]:-}; do echo "CHECK usb.$name NOT RUN $1"; done
        for name in ${figures[$part]:-}; do no_figure "$name" "$1"; done
    done
    echo "usbtest: nothing was tried on USB: $1" >&2
    exit 1
}

[ "$(uname -m)" = x86_64 ] || not_run "the testbed's kernel and programs are for x86-64, this machine is $(uname -m)"
for tool in apt-get cargo dpkg gzip ldd openssl strip timeout; do
    command -v $tool >/dev/null || not_run "$tool is missing on this machine"
done
[ $profile = debug ] || command -v adb >/dev/null || not_run "adb is missing on this machine (make setup installs it)"
fetch_all || not_run "what the testbed needs is not there (see above)"
build=(cargo build -q -p farmhand -p usbtest -p firmware-tools --bins --example usb_push)
[ $profile = debug ] || build+=(--release)
(cd "$repo" && "${build[@]}") || not_run "it does not build"
make_base

# The devices of each part.
devices() {
    case $1 in
        plug | rack | own | work | wrong | race | bare | many | rollout) ;;
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
    timeout --foreground "$most" "${qemu[@]}" -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nodefaults -no-user-config -no-reboot \
        -display none -serial stdio $(devices "$part") -kernel "$kernel" -initrd "$initrd" \
        -append "console=ttyS0 quiet loglevel=0 panic=1 usbtest=$part" < /dev/null 2>&1 | sed -u 's/\r//g' > "$work/$part.log" ||
        echo "usbtest: part $part did not end within $most s" >&2
}

failed=0
for part in "${parts[@]}"; do
    make_image "$part"
    start=$SECONDS
    boot "$part"
    took=$((SECONDS - start))
    for name in ${checks[$part]:-}; do
        line=$(grep -aE "^CHECK usb.$name (ok|FAIL)( |$)" "$work/$part.log" | tail -n 1) || line="CHECK usb.$name FAIL it did not come to it"
        echo "$line" | sed -E "s/^(CHECK [^ ]+ [^ ]+)/\1 $took/" | cut -c 1-300
        case $line in "CHECK usb.$name ok"*) ;; *) failed=1 ;; esac
    done
    # What was measured, figure by figure, goes before the figures.
    grep -aE '^# ' "$work/$part.log" || true
    for name in ${figures[$part]:-}; do
        grep -aE "^RESULT $name " "$work/$part.log" | tail -n 1 && continue
        why=$(grep -aE '^usbtest: ' "$work/$part.log" | tail -n 1 | cut -c 1-300) || true
        no_figure "$name" "${why:-it did not come to it}"
        failed=1
    done
done
[ $failed = 0 ] || echo "usbtest: the guests' consoles are $work/<part>.log" >&2
exit $failed
