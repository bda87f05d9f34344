# What the testbed needs and this machine may lack, unpacked into .cache/usbtest: sourced by run.sh. Nothing is installed, no
# root is needed; a second run finds everything there.
#
# Sets: kernel (the image), modules (its module tree), busybox (a static one), qemu (a command that starts the emulator), uhubctl
# (a program, whose libraries may lie beside it in .cache), adbd (the folder in which Google's adbd was unpacked).

debs=$cache/debs

# Downloads packages of this machine's own suites and unpacks them into $cache/<name>, once.
unpack() {
    local name=$1; shift
    [ -e "$cache/$name/.complete" ] && return
    [ $# -gt 0 ] || { echo "usbtest: apt knows no packages for $name (was apt-get update run?)" >&2; return 1; }
    rm -rf "${cache:?}/$name" "$debs"; mkdir -p "$cache/$name" "$debs"
    (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download "$@") ||
        { echo "usbtest: apt-get could not download $* (is there a network, and was apt-get update run?)" >&2; return 1; }
    local deb
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$cache/$name"; done
    rm -rf "$debs"
    touch "$cache/$name/.complete"
}

# The packages that installing $* would bring to this machine.
missing_packages() {
    apt-get install -s --no-install-recommends "$@" 2>/dev/null | awk '/^Inst /{ print $2 }'
}

fetch_kernel() {
    local image
    if image=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1) \
            && [ -n "$image" ]; then
        unpack kernel "$image"
    elif image=$(apt-cache depends linux-image-generic 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1) \
            && [ -n "$image" ]; then
        # Ubuntu keeps the modules in packages of their own, the USB gadgets among the extra ones.
        local version=${image#linux-image-}
        unpack kernel "$image" "linux-modules-$version" "linux-modules-extra-$version"
    else
        echo "usbtest: apt knows neither linux-image-amd64 (Debian) nor linux-image-generic (Ubuntu)" >&2
        return 1
    fi
    kernel=$(find "$cache/kernel/boot" -name 'vmlinuz-*' -print -quit)
    modules=$(find "$cache/kernel" -type d -path '*lib/modules/*/kernel' -print -quit)
}

fetch_busybox() {
    unpack busybox busybox-static
    busybox=$(find "$cache/busybox" -path '*bin/busybox' -type f -print -quit)
}

fetch_qemu() {
    qemu=(qemu-system-x86_64)
    command -v qemu-system-x86_64 >/dev/null && return
    # shellcheck disable=SC2046  # a list of packages
    unpack qemu $(missing_packages qemu-system-x86)
    local usr=$cache/qemu/usr
    qemu=(env LD_LIBRARY_PATH="$usr/lib/x86_64-linux-gnu:$cache/qemu/lib/x86_64-linux-gnu"
        "$usr/bin/qemu-system-x86_64" -L "$usr/share/qemu" -L "$usr/share/seabios")
}

fetch_uhubctl() {
    uhubctl=$(PATH=$PATH:/usr/sbin:/sbin command -v uhubctl) && return
    # shellcheck disable=SC2046  # a list of packages
    unpack uhubctl $(missing_packages uhubctl)
    uhubctl=$(find "$cache/uhubctl" -name uhubctl -path '*bin/*' -type f -print -quit)
}

fetch_adbd() {
    "$repo/firmware-tools/fetch-adbd.sh" >/dev/null
    adbd=$repo/.cache/adbd/root
}
