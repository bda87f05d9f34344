#!/bin/sh
# Fetches Google's own adbd and adb 34 (Debian's builds of them) into .cache/adbd under the repository's root and prints the path of a
# command that starts adbd: the judge of farmhand's ADB. Beside it, start-adb is Google's adb. Nothing is installed on the machine. Run
# again, it only prints the path.
#
# The command listens on TCP at ADBD_PORT, on all interfaces: start it in a network namespace of its own. It runs as whoever starts
# it, and its shell is that machine's shell.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/adbd
start=$cache/start-adbd
case $(uname -m) in
    x86_64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
    aarch64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
    *) echo "fetch-adbd: adbd is packaged for amd64 and arm64, not for $(uname -m)" >&2; exit 1 ;;
esac

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -x "$start" ] && [ -x "$cache/start-adb" ]; then
    echo "$start"
    exit 0
fi

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || { echo "fetch-adbd: the package debian-archive-keyring is missing on this machine" >&2; exit 1; }
# A package source of its own: trixie, whatever suite this machine runs.
work=$cache/work
rm -rf "$work" "$cache/root"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs"
mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb [^h]*\(http[^ ]*\) .*/\1/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
cat > "$work/trixie.sources" <<SOURCES
Types: deb
URIs: ${mirror:-http://deb.debian.org/debian}
Suites: trixie
Components: main
Signed-By: $keyring
SOURCES
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/trixie.sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
        -o Dir::Cache="$work" -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Retries=3 \
        -o Acquire::http::Timeout=60 "$@" >&2
}
fetch() {
    apt update && (cd "$work/debs" && apt download adb adbd android-libbase android-libboringssl android-libcutils android-liblog \
        android-libziparchive libbrotli1 libc6 libcap2 libgcc-s1 liblz4-1 libprotobuf32t64 libstdc++6 libsystemd0 libudev1 \
        libusb-1.0-0 libxxhash0 libzstd1 zlib1g)
}
attempt=1
until fetch; do
    if [ $attempt = 4 ]; then
        echo "fetch-adbd: Debian's packages of adbd could not be fetched in $attempt attempts: is there a network, and does" \
            "${mirror:-deb.debian.org} answer? .cache/adbd of an earlier run, copied to $cache, needs neither" >&2
        exit 1
    fi
    attempt=$((attempt + 1))
    sleep $((attempt * 5))
done
for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/root"
done
mv "$work/root" "$cache/root"
rm -rf "$work"

adbd=$(find "$cache/root/usr/lib/android-sdk/platform-tools" -name adbd -type f | head -n 1)
ld=$(find "$cache/root" -name "$loader" | head -n 1)
[ -n "$adbd" ] && [ -n "$ld" ] || { echo "fetch-adbd: adbd or its loader is not where Debian's package had it" >&2; exit 1; }
libraries=$cache/root/usr/lib/$triplet
# How to start one of its programs, wherever the cache is moved to.
starter() { # program, the command to be made
    cat > "$2.new" <<START
#!/bin/sh
here=\$(dirname "\$0")
exec "\$here${ld#"$cache"}" --library-path \\
    "\$here${libraries#"$cache"}:\$here${libraries#"$cache"}/android:\$here/root/lib/$triplet" "\$here${1#"$cache"}" "\$@"
START
    chmod +x "$2.new"
    mv "$2.new" "$2"
}
starter "$(dirname "$adbd")/adb" "$cache/start-adb"
starter "$adbd" "$start"
echo "$start"
