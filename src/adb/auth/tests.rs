use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rsa::PublicKey;

use super::*;

/// Runs openssl, which checks what this module makes.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A ring whose key openssl made: it does so at once, where this crate's unoptimised code takes seconds.
fn ring(dir: &Path) -> KeyRing {
    let path = dir.join(KEY_FILE);
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path.to_str().unwrap()]);
    KeyRing::load_or_create(dir).unwrap()
}

#[test]
fn openssl_accepts_the_signature_of_a_token_as_a_digest() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ring = ring(dir.path());
    let token = *b"twenty bytes, a token";
    let token: [u8; 20] = token[..20].try_into().unwrap();
    fs::write(file("token"), token).unwrap();
    fs::write(file("signature"), ring.sign(0, &token).unwrap()).unwrap();
    let seen = openssl(&[
        "pkeyutl",
        "-verify",
        "-inkey",
        &file(KEY_FILE),
        "-in",
        &file("token"),
        "-sigfile",
        &file("signature"),
        "-pkeyopt",
        "digest:sha1",
    ]);
    assert_eq!(String::from_utf8_lossy(&seen).trim(), "Signature Verified Successfully");
    assert_eq!(ring.sign(1, &token), None);
}

#[test]
fn a_key_in_the_older_form_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut ring = ring(dir.path());
    let old = dir.path().join("old");
    openssl(&[
        "rsa",
        "-traditional",
        "-in",
        dir.path().join(KEY_FILE).to_str().unwrap(),
        "-out",
        old.to_str().unwrap(),
    ]);
    assert!(fs::read_to_string(&old).unwrap().contains("BEGIN RSA PRIVATE KEY"));
    ring.add_file(&old).unwrap();
    assert_eq!(ring.sign(0, &[7; 20]), ring.sign(1, &[7; 20]));
    assert_eq!(ring.files().count(), 2);
}

#[test]
fn the_public_key_is_in_androids_form() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring(dir.path());
    let text = ring.public_key_text().unwrap();
    let (base64, owner) = text.split_once(' ').unwrap();
    assert!(owner.contains('@'));
    let form = BASE64_STANDARD.decode(base64).unwrap();
    assert_eq!(form.len(), 524);
    assert_eq!(form[..4], 64_u32.to_le_bytes());
    assert_eq!(form[520..], 65537_u32.to_le_bytes());
    let public: PublicKey = ring.keys[0].private.to_public_key();
    assert_eq!(form[8..264], little_endian(&public.n().as_ref().to_le_bytes()));
    let n0 = u32::from_le_bytes(form[8..12].try_into().unwrap());
    let n0inv = u32::from_le_bytes(form[4..8].try_into().unwrap());
    assert_eq!(n0.wrapping_mul(n0inv), u32::MAX, "n times n0inv is -1");
    // An independent way to 2^4096 mod n.
    let r_squared = rsa::BoxedUint::one_with_precision(4160).shl(4096).rem_vartime(public.n());
    assert_eq!(form[264..520], little_endian(&r_squared.to_le_bytes()));
}

#[test]
fn a_new_key_is_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("state/keys");
    let made = KeyRing::load_or_create(&keys).unwrap();
    let mode = fs::metadata(keys.join("adbkey")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_to_string(keys.join("adbkey.pub")).unwrap().trim_end(), made.public_key_text().unwrap());
    let loaded = KeyRing::load_or_create(&keys).unwrap();
    assert_eq!(loaded.sign(0, &[1; 20]), made.sign(0, &[1; 20]));
}

#[test]
fn what_is_no_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("adbkey"), "not a key").unwrap();
    let error = KeyRing::load_or_create(dir.path()).unwrap_err().to_string();
    assert!(error.contains("adbkey is not an RSA private key"), "{error}");
    let small = dir.path().join("small");
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", small.to_str().unwrap()]);
    let error = ring(dir.path()).add_file(&small).unwrap_err().to_string();
    assert!(error.contains("1024 bits"), "{error}");
}

#[test]
fn a_private_key_that_others_can_read_is_said_with_what_to_do() {
    let path = Path::new("/var/lib/farmhand/adbkey");
    assert_eq!(super::readers(path, 0o100_600), None);
    let warning = super::readers(path, 0o100_644).unwrap();
    assert!(warning.contains("0644") && warning.ends_with("chmod 600 /var/lib/farmhand/adbkey"), "{warning}");
}

#[test]
fn an_imported_key_is_tried_behind_the_own_one_and_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let own = ring(dir.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = ring(elsewhere.path());
    let file = elsewhere.path().join(KEY_FILE);
    let kept = KeyRing::import(dir.path(), &file, Some("laptop")).unwrap();
    assert_eq!(kept.path, dir.path().join("adbkeys/laptop"));
    assert_eq!(fs::metadata(&kept.path).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = KeyRing::of_host(dir.path()).unwrap();
    assert_eq!(loaded.sign(0, &[3; 20]), own.sign(0, &[3; 20]));
    assert_eq!(loaded.sign(1, &[3; 20]), other.sign(0, &[3; 20]));
    assert_eq!(loaded.public_key_text(), own.public_key_text(), "the own key is offered");
    for name in ["laptop", "", "../adbkey", ".hidden"] {
        assert!(matches!(KeyRing::import(dir.path(), &file, Some(name)), Err(KeyError::Name { .. })), "{name:?}");
    }
    fs::write(&kept.path, "damaged").unwrap();
    assert_eq!(KeyRing::of_host(dir.path()).unwrap().sign(1, &[3; 20]).is_some(), google_key().is_some());
}

#[test]
fn a_key_is_known_by_the_fingerprint_that_the_phone_shows() {
    let dir = tempfile::tempdir().unwrap();
    let info = ring(dir.path()).infos().remove(0);
    let form = dir.path().join("form");
    fs::write(&form, BASE64_STANDARD.decode(info.public.split(' ').next().unwrap()).unwrap()).unwrap();
    let seen = openssl(&["dgst", "-md5", "-c", form.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&seen).trim().to_uppercase().ends_with(&info.fingerprint), "{}", info.fingerprint);
}
