# Makes the guests' root file systems: sourced by run.sh after fetch.sh. Sets: initrd.

root=$work/root
rm -rf "$root"

# In the order in which they are loaded; what a kernel has built in is not among its modules.
guest_modules="configfs usb-common usbcore xhci-hcd xhci-pci udc-core libcomposite usb_f_fs dummy_hcd"
# For the parts that ask for them.
more_modules="usbip-core vhci-hcd usbip-vudc"

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
    for name in $guest_modules $more_modules; do
        file=$(find "$modules" -name "$name.ko*" -print -quit)
        case $file in
            *.ko) cp "$file" "$root/modules/$name.ko" ;;
            *.ko.xz) xz -dc "$file" > "$root/modules/$name.ko" ;;
            *.ko.zst) zstd -qdc "$file" > "$root/modules/$name.ko" ;;
            "") continue ;;
        esac
        case " $more_modules " in *" $name "*) ;; *) echo "$name" >> "$root/modules/order" ;; esac
    done
}

add_adbd() {
    local triplet
    triplet=$(basename "$(dirname "$(find "$adbd/usr/lib" -name libc.so.6 -print -quit)")")
    cp -a "$adbd/usr/lib/$triplet/." "$root/adbd/lib/"
    cp "$(find "$adbd" -name 'ld-linux-*.so.*' -print -quit)" "$root/adbd/ld.so"
    cp "$(find "$adbd/usr" -name adbd -type f -size +100k -print -quit)" "$root/adbd/adbd"
}

# Debian's adbd says that it can do abb_exec, a service of Android's own, and does not know it. Google's adb takes it at its word, and
# can't install then; farmhand asks, and takes the next way.
forbid_abb_exec() {
    sed -i 's/abb_exec/abb_none/g' "$root/adbd/adbd"
}

# Google's adb: this machine's own (29 on Debian 12), and 34.
add_google_adb() {
    add_program "$(command -v adb)" bin/adb29
    cp "$(find "$adbd/usr" -name adb -type f -size +100k -print -quit)" "$root/adbd/adb"
    printf '#!/bin/busybox sh\nexec /adbd/ld.so --library-path /adbd/lib:/adbd/lib/android /adbd/adb "$@"\n' > "$root/bin/adb34"
    chmod +x "$root/bin/adb34"
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

# Packs $root, and empties it.
pack() {
    (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$1"
    rm -rf "$root"
}

# What every part needs: the daemon, the story and the kernel's modules.
make_base() {
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,outer,root,etc,run,phone.d,modules,state/home/.android}
    cp "$busybox" "$root/bin/busybox"
    add_modules
    cp "$here"/guest/android/* "$root/bin/"
    cp "$here"/guest/{init,phone,own-phone,adb-server} "$root/"
    cp "$here"/guest/*.toml "$here"/guest/passwd "$root/etc/"
    add_key
    add_authorities
    add_program "$target/farmhand" bin/farmhand
    add_program "$target/usbtest" bin/usbtest
    pack "$work/base.gz"
}

# The image of a part: the kernel unpacks one archive after the other.
make_image() {
    local part=$1
    mkdir -p "$root"/{bin,adbd/lib}
    case $part in
        plug | rack) add_adbd; add_program "$target/examples/usb_push" bin/usb_push ;;
        work)
            add_adbd
            add_program "$target/rackbench" bin/rackbench
            mkdir -p "$root/apks"
            cp "$repo"/firmware-tools/apks/*.apk "$root/apks/"
            ;;
        wrong) add_adbd; add_program "$target/rackbench" bin/rackbench ;;
        own) add_program "$target/rackbench" bin/rackbench ;;
        race)
            add_adbd
            add_google_adb
            add_program "$USB_BENCH" bin/usb-bench
            add_program "$("$repo/benches/make-adb-client.sh")" bin/adb_cli
            ;;
        many) add_adbd; add_google_adb; add_program "$USB_BENCH" bin/usb-bench ;;
        rollout)
            add_adbd
            forbid_abb_exec
            add_google_adb
            add_program "$USB_BENCH" bin/usb-bench
            add_program "$target/rackbench" bin/rackbench
            mkdir -p "$root/apks"
            cp "$repo/firmware-tools/apks/agent-1.apk" "$root/apks/"
            cp "$USB_BENCH_APK" "$root/apks/large.apk"
            ;;
        bare) add_program "$target/rackbench" bin/rackbench; add_program "$USB_BENCH" bin/usb-bench ;;
        tree) add_program "$uhubctl" bin/uhubctl ;;
    esac
    pack "$work/$part.more.gz"
    initrd=$work/$part.gz
    cat "$work/base.gz" "$work/$part.more.gz" > "$initrd"
    rm "$work/$part.more.gz"
}
