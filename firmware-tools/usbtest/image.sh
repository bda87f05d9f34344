# Makes the guest's root file system: sourced by run.sh after fetch.sh. Sets: initrd.

# In the order in which they are loaded; what a kernel has built in is not among its modules.
guest_modules="configfs usb-common usbcore xhci-hcd xhci-pci udc-core libcomposite usb_f_fs dummy_hcd"

# Copies a program and the libraries that it needs, without what only a debugger reads.
add_program() {
    local program=$1 to=$2 library
    strip -g -o "$root/$to" "$program"
    ldd "$program" | grep -oP '/\S+(?= \()' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

add_modules() {
    local name file
    for name in $guest_modules; do
        file=$(find "$modules" -name "$name.ko*" -print -quit)
        case $file in
            *.ko) cp "$file" "$root/modules/$name.ko" ;;
            *.ko.xz) xz -dc "$file" > "$root/modules/$name.ko" ;;
            *.ko.zst) zstd -qdc "$file" > "$root/modules/$name.ko" ;;
            "") continue ;;
        esac
        echo "$name" >> "$root/modules/order"
    done
}

add_adbd() {
    local triplet
    triplet=$(basename "$(dirname "$(find "$adbd/usr/lib" -name libc.so.6 -print -quit)")")
    cp -a "$adbd/usr/lib/$triplet/." "$root/adbd/lib/"
    cp "$(find "$adbd" -name 'ld-linux-*.so.*' -print -quit)" "$root/adbd/ld.so"
    cp "$(find "$adbd/usr" -name adbd -type f -size +100k -print -quit)" "$root/adbd/adbd"
}

# A key for the daemon: making one in emulation would take longer than all the rest. adbd asks for none.
add_key() {
    [ -e "$cache/adbkey" ] || openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$cache/adbkey"
    install -m 600 "$cache/adbkey" "$root/state/adbkey"
    install -m 600 "$cache/adbkey" "$root/state/home/.android/adbkey"
}

# Whatever HTTPS client starts in the guest finds the machine's authorities.
add_authorities() {
    local bundle=/etc/ssl/certs/ca-certificates.crt
    [ -e $bundle ] || return 0
    mkdir -p "$root/etc/ssl/certs"
    cp -L $bundle "$root$bundle"
}

make_image() {
    root=$work/root
    initrd=$work/initrd.gz
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,outer,root,etc,run,phone.d,modules,adbd/lib,state/home/.android}
    cp "$busybox" "$root/bin/busybox"
    add_modules
    add_adbd
    cp "$here"/guest/android/* "$root/bin/"
    cp "$here/guest/init" "$here/guest/phone" "$root/"
    cp "$here"/guest/*.toml "$root/etc/"
    add_key
    add_authorities
    local program
    for program in "$@"; do add_program "$program" "bin/$(basename "$program")"; done
    (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$initrd"
}
