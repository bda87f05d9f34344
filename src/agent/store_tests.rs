//! Stories of the store: what stays, what goes, and what happens when nothing more goes in.
#![cfg(feature = "daemon")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::store::{ApkStore, StoreError};

const MIB: u64 = 1024 * 1024;

/// A file of one MiB, used so many minutes after the first of all.
fn put(dir: &Path, name: &str, minute: u64) {
    let file = std::fs::File::create(dir.join(format!("{name}.apk"))).unwrap();
    file.set_len(MIB).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + 60 * minute)).unwrap();
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_start_removes_what_a_crash_left_and_no_more_than_is_too_much() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.part"), b"x").unwrap();
    for (minute, name) in ["aa", "bb", "cc"].into_iter().enumerate() {
        put(dir.path(), name, minute as u64);
    }
    let store = ApkStore::open(dir.path().to_owned(), 2 * MIB).unwrap();
    assert_eq!(files(dir.path()), ["aa.apk", "bb.apk", "cc.apk"]);
    store.pin_only(&["aa".to_owned()].into()).unwrap();
    assert_eq!(files(dir.path()), ["aa.apk", "cc.apk"], "the oldest is pinned, so the next one goes");
}

#[test]
fn room_is_made_by_what_was_used_longest_ago() {
    let dir = tempfile::tempdir().unwrap();
    for (minute, name) in ["aa", "bb", "cc", "dd"].into_iter().enumerate() {
        put(dir.path(), name, minute as u64);
    }
    let store = ApkStore::open(dir.path().to_owned(), 4 * MIB).unwrap();
    store.pin_only(&["bb".to_owned()].into()).unwrap();
    // Whoever is asked for was used just now; and it is pinned until the next word.
    assert_eq!(store.find("aa").unwrap().size, MIB);
    store.pin_only(&["bb".to_owned()].into()).unwrap();
    drop(store.part(Some(2 * MIB)).unwrap());
    assert_eq!(files(dir.path()), ["aa.apk", "bb.apk"]);
    let refused = store.part(Some(4 * MIB)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Budget { wanted, pinned: MIB, .. } if wanted == 4 * MIB), "{refused}");
    let said = format!(
        "no room for 4194304 bytes among the APKs in {}: rollouts that are not over keep 1048576 of 4194304 bytes",
        dir.path().display()
    );
    assert_eq!(refused.to_string(), said);
}

#[test]
fn only_what_is_in_the_store_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "aa", 0);
    let store = ApkStore::open(dir.path().to_owned(), MIB).unwrap();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    assert!(store.discard(elsewhere.path()).is_err());
    store.discard(&dir.path().join("aa.apk")).unwrap();
    assert_eq!(files(dir.path()), [""; 0]);
}

/// A thread of its own sees a small disk at `dir`, and with it all threads that it begins.
fn on_a_small_disk(mib: u32, story: impl AsyncFnOnce(&Path) + Send + 'static) {
    let on_disk = move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made: run as root");
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(nothing, dir.path(), Some("tmpfs"), MsFlags::empty(), Some(format!("size={mib}m").as_str())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(story(dir.path()));
        drop(runtime);
        nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    };
    std::thread::spawn(on_disk).join().unwrap();
}

#[test]
fn a_full_disk_is_told_before_the_first_byte_and_in_the_middle() {
    on_a_small_disk(40, async |dir: &Path| {
        let store = ApkStore::open(dir.to_owned(), 100 * MIB).unwrap();
        let refused = store.part(Some(30 * MIB)).map(|_| ()).unwrap_err();
        assert!(matches!(refused, StoreError::DiskFull { wanted, .. } if wanted == 30 * MIB), "{refused}");
        let mut part = store.part(Some(12 * MIB)).unwrap();
        part.write(&[1; 1024 * 1024]).await.unwrap();
        // Somebody else fills the disk meanwhile.
        std::fs::write(dir.join("others"), vec![0; 38 * 1024 * 1024]).unwrap();
        let full = part.write(&vec![1; 4 * 1024 * 1024]).await.unwrap_err();
        assert_eq!(
            full.to_string(),
            format!("the disk of {} is full: an APK of 5242880 bytes or more has no room on it", dir.display())
        );
        drop(part);
        assert_eq!(files(dir), ["others"], "nothing is left behind");
    });
}
