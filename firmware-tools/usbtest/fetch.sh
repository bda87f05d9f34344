# What the testbed needs and this machine may lack, unpacked into .cache/usbtest: sourced by run.sh. Nothing is installed, no
# root is needed; a second run finds everything there, and needs no network.
#
# Sets: kernel (the image), modules (its module tree), busybox (a static one), qemu (a command that starts the emulator), uhubctl
# (a program, whose libraries may lie beside it in .cache), adbd (the folder in which Google's adbd was unpacked).

debs=$cache/debs
fetch_attempts_max=4
# The package lists that are asked: this machine's own until they prove absent or out of date.
lists=()

apt_get() { apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::http::Timeout=60 "${lists[@]}" "$@"; }
apt_cache() { apt-cache "${lists[@]}" "$@"; }

# Fetches the lists of this machine's package sources anew, into the cache.
refresh_lists() {
    mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial"
    lists=(-o "Dir::State::lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt")
    apt_get -o APT::Update::Error-Mode=any update
}

# Fetches what a function names as packages, and unpacks them into $cache/<name>, once. A mirror that is away for a moment, or lists
# that name a version which the mirror no longer has, only delay it.
unpack() {
    local name=$1 packages=$2 attempt
    [ -e "$cache/$name/.complete" ] && return
    for ((attempt = 1; attempt <= fetch_attempts_max; attempt++)); do
        if [ "$attempt" -gt 1 ]; then
            echo "usbtest: fetching $name again, with new package lists" >&2
            [ "$attempt" = 2 ] || sleep $((attempt * 5))
            refresh_lists || continue
        fi
        fetch_once "$name" "$packages" && return
    done
    echo "usbtest: the packages of $name could not be fetched in $fetch_attempts_max attempts: is there a network, and do apt's sources" \
        "answer? .cache/usbtest of an earlier run, copied to $cache, needs neither" >&2
    return 1
}

fetch_once() {
    local name=$1 wanted deb
    mapfile -t wanted < <("$2")
    [ ${#wanted[@]} -gt 0 ] || { echo "usbtest: apt knows no packages for $name" >&2; return 1; }
    rm -rf "${cache:?}/$name" "$debs"
    mkdir -p "$cache/$name" "$debs"
    (cd "$debs" && apt_get download "${wanted[@]}") || return 1
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$cache/$name" || return 1; done
    rm -rf "$debs"
    touch "$cache/$name/.complete"
}

# The packages that installing $* would bring to this machine.
missing_packages() {
    apt_get install -s --no-install-recommends "$@" 2>/dev/null | awk '/^Inst /{ print $2 }'
}

# Debian's kernel, or Ubuntu's, which keeps the modules in packages of their own, the USB gadgets among the extra ones.
kernel_packages() {
    local meta image version
    for meta in linux-image-amd64 linux-image-generic; do
        image=$(apt_cache depends $meta 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1) || true
        [ -n "$image" ] || continue
        version=${image#linux-image-}
        echo "$image"
        [ $meta = linux-image-amd64 ] || printf '%s\n' "linux-modules-$version" "linux-modules-extra-$version"
        return
    done
}
busybox_packages() { echo busybox-static; }
qemu_packages() { missing_packages qemu-system-x86; }
uhubctl_packages() { missing_packages uhubctl; }

fetch_kernel() {
    unpack kernel kernel_packages || return 1
    kernel=$(find "$cache/kernel/boot" -name 'vmlinuz-*' -print -quit)
    modules=$(find "$cache/kernel" -type d -path '*lib/modules/*/kernel' -print -quit)
}

fetch_busybox() {
    unpack busybox busybox_packages || return 1
    busybox=$(find "$cache/busybox" -path '*bin/busybox' -type f -print -quit)
}

fetch_qemu() {
    qemu=(qemu-system-x86_64)
    command -v qemu-system-x86_64 >/dev/null && return
    unpack qemu qemu_packages || return 1
    local usr=$cache/qemu/usr
    qemu=(env LD_LIBRARY_PATH="$usr/lib/x86_64-linux-gnu:$cache/qemu/lib/x86_64-linux-gnu"
        "$usr/bin/qemu-system-x86_64" -L "$usr/share/qemu" -L "$usr/share/seabios")
}

fetch_uhubctl() {
    uhubctl=$(PATH=$PATH:/usr/sbin:/sbin command -v uhubctl) && return
    unpack uhubctl uhubctl_packages || return 1
    uhubctl=$(find "$cache/uhubctl" -name uhubctl -path '*bin/*' -type f -print -quit)
}

fetch_adbd() {
    "$repo/firmware-tools/fetch-adbd.sh" >/dev/null || return 1
    adbd=$repo/.cache/adbd/root
}

fetch_all() {
    fetch_kernel && fetch_busybox && fetch_qemu && fetch_uhubctl && fetch_adbd
}
