//! `farmhand keys`: works beside the daemon, mostly as another user than the daemon's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::desk::{farmhand, farmhand_with};

/// The user `nobody`: the daemon's, where a test needs another one than root.
const DAEMON: u32 = 65534;

/// A key as Google's adb makes it, at `home/.android/adbkey`.
fn google_key(home: &Path) -> PathBuf {
    fs::create_dir_all(home.join(".android")).unwrap();
    let path = home.join(".android/adbkey");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    path
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn looking_at_keys_makes_none() {
    let state = tempfile::tempdir().unwrap();
    let listed = farmhand(state.path(), &["keys", "list"]);
    assert_eq!((listed.code, listed.out.as_str()), (0, "no key yet: the daemon makes one at its first start\n"));
    assert_eq!(farmhand(state.path(), &["keys", "list", "--json"]).json(), serde_json::json!([]));
    for arguments in [&["keys", "export"][..], &["keys", "export", "--private", "copy"]] {
        let exported = farmhand(state.path(), arguments);
        assert_eq!(exported.code, 1);
        assert!(exported.err.contains("keys.unusable") && exported.err.contains("there is no key in"), "{exported:?}");
    }
    assert_eq!(entries(state.path()), [""; 0].map(PathBuf::from));
}

#[test]
fn a_state_directory_that_is_not_there_is_not_made_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("state");
    let listed = farmhand(dir.path(), &["--state", missing.to_str().unwrap(), "keys", "list"]);
    assert!(listed.code == 1 && listed.err.contains("No such file or directory"), "{listed:?}");
    assert!(!missing.exists());
}

#[test]
fn without_a_file_the_key_of_googles_adb_is_imported() {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let nothing = farmhand_with(state.path(), &[("HOME", home.path())], &["keys", "import"]);
    assert!(nothing.code == 2 && nothing.err.contains("there is no ~/.android/adbkey"), "{nothing:?}");
    let key = google_key(home.path());
    let imported = farmhand_with(state.path(), &[("HOME", home.path())], &["keys", "import"]);
    assert_eq!(imported.code, 0, "{imported:?}");
    assert!(imported.out.contains(&key.display().to_string()), "{imported:?}");
    let kept = state.path().join("adbkeys/adbkey");
    assert_eq!(fs::read(&kept).unwrap(), fs::read(&key).unwrap());
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let again = farmhand_with(state.path(), &[("HOME", home.path())], &["keys", "import"]);
    assert!(again.code == 1 && again.err.contains("--name"), "{again:?}");
    let passed_over = farmhand_with(state.path(), &[("HOME", home.path())], &["keys", "import", "--name", "key.pub"]);
    assert_eq!(passed_over.code, 1, "{passed_over:?}");
}

#[test]
fn the_list_says_what_the_daemon_tries_and_what_it_leaves_out() {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let google = google_key(home.path());
    fs::copy(&google, state.path().join("adbkey")).unwrap();
    fs::create_dir(state.path().join("adbkeys")).unwrap();
    fs::write(state.path().join("adbkeys/damaged"), "-----BEGIN").unwrap();
    let said = farmhand_with(state.path(), &[("HOME", home.path())], &["keys", "list", "--json"]).json();
    let rows = said.as_array().unwrap();
    let files: Vec<_> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    let expected = [state.path().join("adbkey"), state.path().join("adbkeys/damaged"), google];
    assert_eq!(files, expected.map(|path| path.display().to_string()));
    assert_eq!(rows[0]["fingerprint"], rows[2]["fingerprint"]);
    assert!(rows[0]["left_out"].is_null() && rows[1]["fingerprint"].is_null(), "{said}");
    let listed = farmhand(state.path(), &["keys", "list"]);
    assert!(
        listed.out.contains("left out: ") && listed.out.contains("damaged is not an RSA private key"),
        "{listed:?}"
    );
}

/// Only root can give files away; elsewhere there is nothing to show.
#[test]
fn what_root_imports_belongs_to_the_daemons_user() {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if fs::metadata(state.path()).unwrap().uid() != 0 {
        return;
    }
    let key = google_key(home.path());
    let key = key.to_str().unwrap();
    chown(state.path(), Some(DAEMON), Some(DAEMON)).unwrap();
    assert_eq!(farmhand(state.path(), &["keys", "import", key, "--name", "mara"]).code, 0);
    let kept = state.path().join("adbkeys/mara");
    for path in [state.path().join("adbkeys"), kept.clone()] {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (DAEMON, DAEMON), "{}", path.display());
        assert_eq!(metadata.mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(farmhand(state.path(), &["keys", "list", "--json"]).json()[0]["left_out"], serde_json::Value::Null);

    chown(&kept, Some(0), Some(0)).unwrap();
    let listed = farmhand(state.path(), &["keys", "list"]);
    assert!(listed.out.contains("left out: ") && listed.out.contains("chown nobody"), "{listed:?}");

    // The daemon's user may lead root's writing nowhere else.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(state.path().join("adbkeys"), state.path().join("before")).unwrap();
    symlink(elsewhere.path(), state.path().join("adbkeys")).unwrap();
    assert_eq!(farmhand(state.path(), &["keys", "import", key]).code, 1);
    assert_eq!(entries(elsewhere.path()), [""; 0].map(PathBuf::from));
}
