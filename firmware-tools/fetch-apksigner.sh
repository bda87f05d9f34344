#!/bin/sh
# Fetches Debian trixie's apksigner into .cache/apksigner under the repository's root and prints the path of a command that runs it:
# the judge of farmhand's verdicts on APKs. Bookworm's is older and knows no scheme v3.1. Nothing is installed on the machine; `java`
# must be there. Run again, it only prints the path.
#
# Java itself has no "SHA256withRSA/PSS", as Android calls it: the command adds Bouncy Castle behind Java's own providers. Its classes
# are kept in an archive, without which each run starts for a second.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/apksigner
start=$cache/apksigner
command -v java >/dev/null || { echo "fetch-apksigner: java is missing: apt-get install default-jre-headless" >&2; exit 1; }

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -x "$start" ]; then
    echo "$start"
    exit 0
fi

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
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/trixie.sources" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User=root "$@" >&2
}
apt update
(cd "$work/debs" && apt download apksigner libapksig-java libbcprov-java)
for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/root"
done
mv "$work/root" "$cache/root"
rm -rf "$work"

jars=$cache/root/usr/share/java
classes=$(realpath "$jars/apksigner.jar"):$(realpath "$jars/apksig.jar"):$(realpath "$jars/bcprov.jar")
last=$(java -XshowSettings:security:providers -version 2>&1 | grep -c '^ *Provider name:' || true)
[ "$last" -gt 0 ] || last=$(grep -c '^security\.provider\.[0-9]*=' "$(dirname "$(dirname "$(realpath "$(command -v java)")")")/conf/security/java.security")
echo "security.provider.$((last + 1))=org.bouncycastle.jce.provider.BouncyCastleProvider" > "$cache/java.security"
cat > "$start.new" <<START
#!/bin/sh
exec java -Xshare:auto -XX:SharedArchiveFile="$cache/classes.jsa" -Xlog:disable -Xlog:all=off \\
    -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.security.properties="$cache/java.security" \\
    -cp "$classes" com.android.apksigner.ApkSignerTool "\$@"
START
chmod +x "$start.new"
# What a run of each kind loads; a verify of one good APK is enough.
java -XX:ArchiveClassesAtExit="$cache/classes.jsa" -Xlog:disable -Xlog:all=off -Djava.security.properties="$cache/java.security" -cp "$classes" \
    com.android.apksigner.ApkSignerTool verify "$root/firmware-tools/apks/agent-2.apk" >/dev/null 2>&1 || true
mv "$start.new" "$start"
echo "$start"
