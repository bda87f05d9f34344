#!/bin/bash
# Makes schemes/: one APK for each way to sign, by Google's own signer (apksigner 35, which fetch-apksigner.sh brings). Run it only to
# change them. They are checked in, since they are small and the tests of the verifier must not need Java; what is broken is made from
# them when a test runs. ECDSA and DSA sign with chance: running this again gives other bytes that are as good.
set -euo pipefail
cd "$(dirname "$0")"
apksigner=$(../fetch-apksigner.sh)

missing=()
for tool in aapt zipalign openssl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ "${#missing[@]}" -eq 0 ] || { echo "make-schemes.sh: missing: ${missing[*]}" >&2; exit 1; }
framework=/usr/share/android-framework-res/framework-res.apk
[ -f "$framework" ] || { echo "make-schemes.sh: missing: android-framework-res" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p schemes

# Test keys beside the two of make.sh. Worthless on purpose, hence checked in.
make_key() { # name, arguments of openssl's genpkey
    local name=$1; shift
    [ -f "keys/$name.pk8.pem" ] || openssl genpkey "$@" -out "keys/$name.pk8.pem" 2>/dev/null
    [ -f "keys/$name.x509.pem" ] || openssl req -x509 -key "keys/$name.pk8.pem" -sha256 -days 36500 -subj "/CN=test key $name" \
        -out "keys/$name.x509.pem"
}
make_key rsa4096 -algorithm RSA -pkeyopt rsa_keygen_bits:4096
for curve in 256 384 521; do make_key "ec$curve" -algorithm EC -pkeyopt "ec_paramgen_curve:P-$curve"; done
if [ ! -f keys/dsa2048.pk8.pem ]; then
    openssl genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048 -pkeyopt dsa_paramgen_q_bits:256 -out "$work/dsa" 2>/dev/null
    make_key dsa2048 -paramfile "$work/dsa"
fi
for key in keys/*.pk8.pem; do
    openssl pkcs8 -in "$key" -topk8 -nocrypt -outform DER -out "$work/$(basename "$key" .pk8.pem).pk8"
done

# An aligned APK without a signature, for the Android versions from $1 on, with the rule of version $2.
base() { # minSdkVersion, targetSdkVersion
    cat >"$work/AndroidManifest.xml" <<XML
<?xml version="1.0" encoding="utf-8"?>
<manifest xmlns:android="http://schemas.android.com/apk/res/android"
    package="org.example.agent" android:versionCode="2" android:versionName="2.0">
    <uses-sdk android:minSdkVersion="$1" android:targetSdkVersion="$2" />
    <application android:label="agent" android:hasCode="false" />
</manifest>
XML
    touch -d 1980-01-01T00:00:00Z "$work/AndroidManifest.xml"
    TZ=UTC aapt package -f -M "$work/AndroidManifest.xml" -I "$framework" -F "$work/raw.apk"
    zipalign -f 4 "$work/raw.apk" "$work/base.apk"
}

key() { echo --key "$work/$1.pk8" --cert "keys/$1.x509.pem"; }
sign() { # result, v1, v2, v3, then arguments of apksigner
    local result=schemes/$1.apk v1=$2 v2=$3 v3=$4; shift 4
    "$apksigner" sign --v1-signing-enabled "$v1" --v2-signing-enabled "$v2" --v3-signing-enabled "$v3" --v4-signing-enabled false \
        "$@" --out "$result" "$work/base.apk"
    "$apksigner" verify "$result" || echo "$result is not accepted"
}

rotate() { # result, [older lineage], old key, new key
    local result=$work/$1.lineage before=()
    if [ $# = 4 ]; then before=(--in "$work/$2.lineage"); shift; fi
    "$apksigner" rotate --out "$result" "${before[@]}" --old-signer $(key "$2") --new-signer $(key "$3")
}
rotate a-b a b
rotate a-b-ec a-b b ec256
rotate ec-dsa ec256 dsa2048

base 24 30
sign v2 false true false $(key a)
sign v3 false false true $(key a)
sign v1 true false false $(key a)
sign v1-v2-v3 true true true $(key a)
for k in rsa4096 ec256 ec384 ec521 dsa2048; do sign "$k" false true true $(key "$k"); done
for k in a ec256 dsa2048; do sign "verity-$k" false true true --verity-enabled $(key "$k"); done
sign v2-two-signers false true false $(key a) --next-signer $(key b)
sign rotated false true true --lineage "$work/a-b.lineage" $(key a) --next-signer $(key b)
sign rotated-twice false true true --lineage "$work/a-b-ec.lineage" $(key a) --next-signer $(key b) --next-signer $(key ec256)
sign rotated-ec-dsa false true true --lineage "$work/ec-dsa.lineage" $(key ec256) --next-signer $(key dsa2048)
sign rotated-at-28 false true true --rotation-min-sdk-version 28 --lineage "$work/a-b.lineage" $(key a) --next-signer $(key b)
sign rotated-at-34 false true true --rotation-min-sdk-version 34 --lineage "$work/a-b.lineage" $(key a) --next-signer $(key b)
sign rotated-in-development false true true --rotation-min-sdk-version 34 --rotation-targets-dev-release true \
    --lineage "$work/a-b.lineage" $(key a) --next-signer $(key b)
base 21 30
sign min21 true true true $(key a)
base 28 30
sign min28 false true true $(key a)
base 33 34
sign min33 false false true $(key a)
sign min33-rotated false false true --rotation-min-sdk-version 33 --lineage "$work/a-b.lineage" $(key a) --next-signer $(key b)
