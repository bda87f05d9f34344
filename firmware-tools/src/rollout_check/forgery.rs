//! The test APKs in one folder, with those beside them that no tool makes: changed, packed to deceive, too large.

use std::io;
use std::path::{Path, PathBuf};

use crate::rack::test_apks;

/// One entry of an archive, as its headers say.
struct Packed {
    name: &'static str,
    method: u16,
    data: Vec<u8>,
    crc32: u32,
    unpacked: u32,
    /// Where its local header is said to be; where it is, unless something else is said.
    claimed_at: Option<u32>,
}

/// Unpacked bytes of the bomb: far more than any APK, from a few hundred KiB.
const BOMB_LEN: usize = 256 << 20;
/// It is one packed part again and again, with an empty last block behind.
const BOMB_PARTS: usize = 256;
const LAST_BLOCK: [u8; 2] = [3, 0];
/// The byte of `agent-2.apk` that is changed: the time of its first entry, of which only the signature knows.
const FLIPPED_AT: usize = 10;

/// Lays them all out in `dir`, and gives it.
pub(super) fn lay_out(dir: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    for folder in [test_apks(), test_apks().join("schemes")] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|end| end == "apk")) {
                std::fs::copy(&path, dir.join(name))?;
            }
        }
    }
    let mut tampered = std::fs::read(dir.join("agent-2.apk"))?;
    if let Some(byte) = tampered.get_mut(FLIPPED_AT) {
        *byte ^= 0x20;
    }
    std::fs::write(dir.join("tampered.apk"), tampered)?;
    std::fs::write(dir.join("bomb.apk"), archive(&[bomb()?]))?;
    std::fs::write(dir.join("overlapping.apk"), overlapping())?;
    std::fs::canonicalize(dir)
}

fn stored(name: &'static str, data: &[u8]) -> Packed {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    let unpacked = u32::try_from(data.len()).unwrap_or(u32::MAX);
    Packed { name, method: 0, data: data.to_vec(), crc32: crc.sum(), unpacked, claimed_at: None }
}

fn bomb() -> io::Result<Packed> {
    let zeros = vec![0; BOMB_LEN / BOMB_PARTS];
    let mut part = Vec::with_capacity(zeros.len() / 100);
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    compress.compress_vec(&zeros, &mut part, flate2::FlushCompress::Full).map_err(io::Error::other)?;
    let mut data = part.repeat(BOMB_PARTS);
    data.extend(LAST_BLOCK);
    let (mut crc, mut one) = (flate2::Crc::new(), flate2::Crc::new());
    one.update(&zeros);
    (0..BOMB_PARTS).for_each(|_| crc.combine(&one));
    let unpacked = u32::try_from(BOMB_LEN).unwrap_or(u32::MAX);
    Ok(Packed { name: "AndroidManifest.xml", method: 8, data, crc32: crc.sum(), unpacked, claimed_at: None })
}

/// A second entry that lies within the bytes of the first, which begin behind its header of 31 bytes.
fn overlapping() -> Vec<u8> {
    const FIRST_DATA_AT: u32 = 31;
    let inner = archive(&[stored("c", b"in")]);
    let within = inner.get(..33).unwrap_or_default();
    archive(&[stored("a", within), Packed { claimed_at: Some(FIRST_DATA_AT), ..stored("c", b"in") }])
}

fn archive(entries: &[Packed]) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let (mut whole, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = entry.claimed_at.map_or_else(|| len(&whole), u32::to_le_bytes);
        let sizes = [entry.crc32.to_le_bytes(), len(&entry.data), entry.unpacked.to_le_bytes()].concat();
        let middle = [&[20, 0, 0, 0][..], &entry.method.to_le_bytes(), &[0; 4], &sizes].concat();
        let [low, high, ..] = len(entry.name.as_bytes());
        whole.extend([b"PK\x03\x04", middle.as_slice(), &[low, high], &[0; 2]].concat());
        whole.extend([entry.name.as_bytes(), &entry.data].concat());
        directory.extend([b"PK\x01\x02\x14\0", middle.as_slice(), &[low, high], &[0; 12]].concat());
        directory.extend([&at, entry.name.as_bytes()].concat());
    }
    let [low, high] = u16::try_from(entries.len()).unwrap_or(u16::MAX).to_le_bytes();
    let place = [len(&directory), len(&whole)].concat();
    let end = [b"PK\x05\x06\0\0\0\0", &[low, high, low, high][..], &place, &[0; 2]].concat();
    [whole, directory, end].concat()
}
