//! An APK as large as one likes, truly signed.

use std::io;
use std::path::Path;

use farmhand::agent::StoredApk;

/// A checked-in APK with a large entry of so many bytes more, signed by scheme v2 and v3 with a test key by Google's own signer.
pub(crate) fn signed(dir: &Path, len: usize) -> io::Result<StoredApk> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools");
    let (unsigned, path) = (dir.join("unsigned.apk"), dir.join("large.apk"));
    std::fs::write(&unsigned, with_large_entry(&std::fs::read(tools.join("apks/agent-2-unsigned.apk"))?, len))?;
    let run = |program: &Path, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let text = |path: &Path| path.to_str().expect("a path that is text").to_owned();
    let (key, pem) = (dir.join("a.pk8"), tools.join("apks/keys/a.pk8.pem"));
    let der = ["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", &text(&pem), "-out", &text(&key)];
    run(Path::new("openssl"), &der);
    let apksigner = run(&tools.join("fetch-apksigner.sh"), &[]);
    let (certificate, out, from) = (text(&tools.join("apks/keys/a.x509.pem")), text(&path), text(&unsigned));
    let signing = ["sign", "--key", &text(&key), "--cert", &certificate, "--v1-signing-enabled", "false"];
    let signing = [&signing[..], &["--v4-signing-enabled", "false", "--out", &out, &from]].concat();
    run(Path::new(&apksigner), &signing);
    Ok(StoredApk { size: std::fs::metadata(&path)?.len(), path, sha256: String::new() })
}

/// The same archive with one stored entry more, of bytes that repeat only after a long time.
fn with_large_entry(apk: &[u8], len: usize) -> Vec<u8> {
    const NAME: &[u8] = b"assets/large.bin";
    let number = |at: usize| u32::from_le_bytes(apk[at..at + 4].try_into().expect("four bytes"));
    let end = apk.len() - 22;
    let directory = number(end + 16) as usize;
    let mut state = 1_u64;
    let data: Vec<u8> = (0..len / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        })
        .collect();
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    let len = u32::try_from(data.len()).expect("below 4 GiB").to_le_bytes();
    let fields = [&[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &crc.sum().to_le_bytes(), &len, &len, &[16, 0]].concat();
    let local = [b"PK\x03\x04", fields.as_slice(), &[0; 2], NAME, &data].concat();
    let at = u32::try_from(directory).expect("below 4 GiB").to_le_bytes();
    let entry = [b"PK\x01\x02\x14\0", fields.as_slice(), &[0; 12], &at, NAME].concat();
    let count = (u16::from_le_bytes([apk[end + 10], apk[end + 11]]) + 1).to_le_bytes();
    let size = u32::try_from(end - directory + entry.len()).expect("below 4 GiB").to_le_bytes();
    let place = u32::try_from(directory + local.len()).expect("below 4 GiB").to_le_bytes();
    let record = [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &place, &[0; 2]].concat();
    [&apk[..directory], &local, &apk[directory..end], &entry, &record].concat()
}
