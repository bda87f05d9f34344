#!/bin/bash
# Makes the test APKs beside this script: small, without code, really signed. Run it only to change them: the results are checked
# in, so that neither a test nor the demo needs Java. Keys that are already in keys/ are used again, and the same keys, tools and
# manifests give the same bytes.
set -euo pipefail
cd "$(dirname "$0")"

framework=/usr/share/android-framework-res/framework-res.apk
missing=()
for tool in aapt zipalign apksigner openssl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ -f "$framework" ] || missing+=(android-framework-res)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "make.sh: missing; run: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A test key: PKCS#8 and a certificate that outlives everybody. Worthless on purpose, hence checked in.
make_key() { # name, common name
    [ -f "keys/$1.pk8.pem" ] && return
    mkdir -p keys
    openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 36500 -subj "/CN=$2" \
        -keyout "keys/$1.pk8.pem" -out "keys/$1.x509.pem" 2>/dev/null
}

# An aligned APK without a signature.
make_unsigned() { # package, versionCode, versionName, result, split (none: the base), permissions that it asks for, flags of the app
    local split= permissions= permission
    [ -z "${5:-}" ] || split="split=\"$5\""
    for permission in ${6:-}; do
        permissions+="<uses-permission android:name=\"android.permission.$permission\" />"
    done
    cat >"$work/AndroidManifest.xml" <<XML
<?xml version="1.0" encoding="utf-8"?>
<manifest xmlns:android="http://schemas.android.com/apk/res/android"
    package="$1" $split android:versionCode="$2" android:versionName="$3">
    <uses-sdk android:minSdkVersion="24" android:targetSdkVersion="29" />$permissions
    <application android:label="$1" android:hasCode="false" ${7:-}/>
</manifest>
XML
    touch -d 1980-01-01T00:00:00Z "$work/AndroidManifest.xml"
    TZ=UTC aapt package -f -M "$work/AndroidManifest.xml" -I "$framework" -F "$work/raw.apk"
    zipalign -f 4 "$work/raw.apk" "$4"
}

make_signed() { # package, versionCode, versionName, key, result, split, permissions, flags of the app
    make_unsigned "$1" "$2" "$3" "$work/aligned.apk" "${6:-}" "${7:-}" "${8:-}"
    openssl pkcs8 -in "keys/$4.pk8.pem" -topk8 -nocrypt -outform DER -out "$work/key.pk8"
    apksigner sign --key "$work/key.pk8" --cert "keys/$4.x509.pem" --v1-signing-enabled false \
        --v2-signing-enabled true --v3-signing-enabled true --v4-signing-enabled false --out "$5" "$work/aligned.apk"
    apksigner verify "$5"
}

make_key a "test key A"
make_key b "test key B"
make_signed org.example.agent 1 1.0 a agent-1.apk
make_signed org.example.agent 2 2.0 a agent-2.apk
make_signed org.example.agent 3 3.0 a agent-3.apk
make_signed org.example.agent 2 2.0 b agent-2-other-key.apk
make_signed org.example.agent 2 2.0 a agent-2-split-en.apk config.en
make_signed org.example.agent 2 2.0 b agent-2-split-fr-other-key.apk config.fr
make_signed org.example.other 1 1.0 a other-package-1.apk
for version in 1 2; do
    make_signed org.example.trial $version $version.0 a trial-$version.apk "" "CAMERA RECORD_AUDIO INTERNET" \
        'android:debuggable="true" android:testOnly="true" '
done
make_unsigned org.example.agent 2 2.0 agent-2-unsigned.apk
# Cut in the middle of the signing block: the local headers are there, the central directory is not.
head -c "$(($(stat -c %s agent-2.apk) / 2))" agent-2.apk >agent-2-truncated.apk

for key in a b; do
    printf 'key %s, certificate SHA-256: ' "$key"
    openssl x509 -in "keys/$key.x509.pem" -outform DER | sha256sum | cut -d' ' -f1
done
