//! Archives as no tool packs them, made by hand, and what is said of each.
#![cfg(feature = "daemon")]

use std::fs::File;
use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;

use super::archive::Archive;
use super::zip;

/// One entry, as its headers say; the tests change what they lie about.
#[derive(Clone)]
struct Packed {
    name: &'static str,
    local_name: &'static str,
    method: u16,
    data: Vec<u8>,
    crc32: u32,
    unpacked: u32,
    /// Where its local header is said to be; where it is, unless the test says otherwise.
    claimed_at: Option<u32>,
}

fn stored(name: &'static str, data: &[u8]) -> Packed {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    let unpacked = u32::try_from(data.len()).unwrap();
    Packed { name, local_name: name, method: 0, data: data.to_vec(), crc32: crc.sum(), unpacked, claimed_at: None }
}

fn deflated(name: &'static str, data: &[u8]) -> Packed {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    Packed { method: 8, data: encoder.finish().unwrap(), ..stored(name, data) }
}

fn archive(entries: &[Packed]) -> Vec<u8> {
    let (mut whole, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = entry.claimed_at.unwrap_or(u32::try_from(whole.len()).unwrap());
        let sizes =
            [entry.crc32, u32::try_from(entry.data.len()).unwrap(), entry.unpacked].map(u32::to_le_bytes).concat();
        let middle = [&[20, 0, 0, 0][..], &entry.method.to_le_bytes(), &[0; 4], &sizes].concat();
        let length = |name: &str| u16::try_from(name.len()).unwrap().to_le_bytes();
        whole.extend([b"PK\x03\x04", middle.as_slice(), &length(entry.local_name), &[0; 2]].concat());
        whole.extend([entry.local_name.as_bytes(), &entry.data].concat());
        directory.extend([b"PK\x01\x02\x14\0", middle.as_slice(), &length(entry.name), &[0; 12]].concat());
        directory.extend([&at.to_le_bytes(), entry.name.as_bytes()].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let place = [directory.len(), whole.len()].map(|len| u32::try_from(len).unwrap().to_le_bytes()).concat();
    [whole, directory, [b"PK\x05\x06\0\0\0\0", &count[..], &count, &place, &[0; 2]].concat()].concat()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn why(entries: &[Packed]) -> String {
    Archive::open(&file(&archive(entries))).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_is_packed_is_read_back() {
    let text = b"a manifest".repeat(100);
    let file = file(&archive(&[stored("a", b"hello"), deflated("b", &text), stored("lib/arm64-v8a/libx.so", b"")]));
    let archive = Archive::open(&file).unwrap();
    assert_eq!(archive.unpack("a", 100).unwrap().unwrap(), b"hello");
    assert_eq!(archive.unpack("b", 1000).unwrap().unwrap(), text);
    assert_eq!(archive.unpack("c", 1000).unwrap(), None);
    assert_eq!(archive.abis(), ["arm64-v8a".to_owned()].into());
    let large = archive.unpack("b", 999).unwrap_err().to_string();
    assert!(large.ends_with("entry `b` is larger than any that is read"), "{large}");
}

#[test]
fn entries_that_overlap_are_refused() {
    let twice = [stored("a", b"hello"), Packed { claimed_at: Some(0), local_name: "a", ..stored("a", b"hello") }];
    assert!(why(&twice).ends_with("entry `a` is there twice"), "{}", why(&twice));
    // `c` lies within the bytes of `a`, which begin at 31.
    let inner = archive(&[stored("c", b"in")]);
    let nested = [stored("a", &inner[..33]), Packed { claimed_at: Some(31), ..stored("c", b"in") }];
    assert_eq!(why(&nested), "its ZIP archive is malformed: entries `a` and `c` overlap");
}

#[test]
fn an_archive_that_says_two_things_is_refused() {
    let says = |entry: Packed| why(&[entry]);
    let other_name = Packed { local_name: "b", ..stored("a", b"x") };
    assert!(says(other_name).ends_with("entry `a` has another name in its local header"));
    let two_sizes = Packed { unpacked: 9, ..stored("a", b"x") };
    assert!(says(two_sizes).ends_with("entry `a` is stored as it is, and yet has two sizes"));
    let unknown = Packed { method: 99, ..stored("a", b"x") };
    assert!(says(unknown).ends_with("entry `a` is packed in a way that Android does not know"));
    let outside = Packed { claimed_at: Some(1000), ..stored("a", b"x") };
    assert!(says(outside).ends_with("entry `a` has its local header outside of the entries"));
    let elsewhere = Packed { claimed_at: Some(1), ..stored("a", b"0123456789") };
    assert!(says(elsewhere).ends_with("entry `a` has no local header"));
    let nameless = Packed { name: "", local_name: "", ..stored("a", b"x") };
    assert!(says(nameless).ends_with("entry `` has a name that is no text"));
    let mut counted = archive(&[stored("a", b"x")]);
    let at = counted.len() - 14;
    counted[at..at + 4].copy_from_slice(&[2, 0, 2, 0]);
    let counted = Archive::open(&file(&counted)).map(|_| ()).unwrap_err().to_string();
    assert!(counted.ends_with("counts another number of entries than there are"), "{counted}");
}

#[test]
fn a_bomb_is_refused_by_what_it_claims_and_by_what_it_does() {
    let impossible = Packed { unpacked: 1 << 30, ..deflated("a", b"small") };
    assert!(why(&[impossible]).ends_with("entry `a` claims to unpack to more than its bytes can hold"));
    let bomb = why(&[Packed { unpacked: 80 << 20, method: 8, ..stored("a", &[0; 100_000]) }]);
    assert_eq!(bomb, "it is a ZIP bomb: 100078 bytes that unpack to 83886080");
    let zeros = [0; 100_000];
    let lie = file(&archive(&[Packed { unpacked: 10, ..deflated("a", &zeros) }]));
    let lie = Archive::open(&lie).unwrap().unpack("a", 100_000).unwrap_err().to_string();
    assert!(lie.ends_with("entry `a` does not unpack to what it claims"), "{lie}");
    let broken = file(&archive(&[Packed { data: vec![0xff; 9], method: 8, ..stored("a", b"hello") }]));
    let broken = Archive::open(&broken).unwrap().unpack("a", 100).unwrap_err().to_string();
    assert!(broken.ends_with("entry `a` does not unpack"), "{broken}");
}

proptest! {
    #[test]
    fn a_changed_archive_is_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = archive(&[stored("a", b"hello"), deflated("lib/x86/b.so", &[7; 500]), stored("c", b"")]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        zip::fuzz_apk_zip(&bytes);
        let file = file(&bytes);
        if let Ok(archive) = Archive::open(&file) {
            for name in ["a", "lib/x86/b.so", "c"] {
                drop(archive.unpack(name, 1000));
            }
        }
    }
}
