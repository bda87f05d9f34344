//! Files: `sync:`.
//!
//! ```text
//!   STAT LIST            ──▶ answers
//!   SEND DATA… DONE      ──▶ receive
//!   RECV                 ──▶ send      ──▶ DATA… DONE
//! ```
//!
//! Requests and answers begin with four letters and a number; version 2 of some carries 64-bit sizes and error numbers, or lz4.
//!
//! Invariant: a request that makes no sense, or that fails otherwise than by a path that is not there for STAT and LIST, is
//! answered by FAIL and ends the service, as it does with adbd.

mod lz4;
mod receive;
mod send;

use bytes::{Buf, BufMut, BytesMut};

use super::Offers;
use crate::device::{Errno, FileSystem, Stat};
use crate::limits;
use crate::stream::{Closed, Stream};

type Id = [u8; 4];

/// Flags of SND2 and RCV2: at most one compression.
mod flags {
    pub(super) const BROTLI: u32 = 1;
    pub(super) const LZ4: u32 = 2;
    pub(super) const ZSTD: u32 = 4;
    /// SND2 writes nothing.
    pub(super) const DRY_RUN: u32 = 0x8000_0000;
}

/// How the DATA of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Lz4,
}

/// What becomes of a file that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Write,
    DryRun,
}

/// Why a request could not be carried out; the host hears it.
struct Fail(String);

/// How the service ends.
enum End {
    Closed,
    /// After FAIL.
    Failed,
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

/// Answers requests until QUIT, nonsense or a failure.
pub(crate) async fn serve<F: FileSystem>(files: &F, stream: &mut Stream, offers: Offers) -> Result<(), Closed> {
    loop {
        let (id, length) = header(stream).await?;
        if &id == b"QUIT" {
            return Ok(());
        }
        match answer(files, stream, offers, id, length).await {
            Ok(()) => {}
            Err(End::Closed) => return Err(Closed),
            Err(End::Failed) => return Ok(()),
        }
    }
}

async fn answer<F: FileSystem>(
    files: &F,
    stream: &mut Stream,
    offers: Offers,
    id: Id,
    length: usize,
) -> Result<(), End> {
    if length > limits::PATH_BYTES_MAX {
        return fail(stream, "path too long").await;
    }
    let path = stream.read_exact(length).await.ok_or(Closed)?;
    // A C string ends at its first NUL, and a path that is no UTF-8 is not there.
    let path = String::from_utf8_lossy(path.split(|&byte| byte == 0).next().unwrap_or_default());
    let path = &*path;
    match &id {
        b"STAT" => stream.write(stat_v1(files.lstat(path))).await?,
        b"STA2" => stream.write(stat_v2(id, files.stat(path))).await?,
        b"LST2" => stream.write(stat_v2(id, files.lstat(path))).await?,
        b"LIST" => list(files, stream, path, Version::V1).await?,
        b"LIS2" => list(files, stream, path, Version::V2).await?,
        b"SEND" => match path.rsplit_once(',') {
            Some((path, mode)) => {
                receive::file(files, stream, path, mode_of(mode), Packing::None, Purpose::Write).await?;
            }
            None => return fail(stream, "missing , in ID_SEND_V1").await,
        },
        b"SND2" => {
            let mut raw = stream.read_exact(12).await.ok_or(Closed)?;
            raw.advance(4);
            let (mode, flags) = (raw.get_u32_le(), raw.get_u32_le());
            let purpose = if flags & flags::DRY_RUN == 0 { Purpose::Write } else { Purpose::DryRun };
            match packing(flags & !flags::DRY_RUN, offers) {
                Ok(packing) => receive::file(files, stream, path, mode, packing, purpose).await?,
                Err(Fail(why)) => return fail(stream, &why).await,
            }
        }
        b"RECV" => send::file(files, stream, path, Packing::None).await?,
        b"RCV2" => {
            let (_, flags) = header(stream).await?;
            match packing(flags as u32, offers) {
                Ok(packing) => send::file(files, stream, path, packing).await?,
                Err(Fail(why)) => return fail(stream, &why).await,
            }
        }
        other => return fail(stream, &format!("unknown command {:08x}", u32::from_le_bytes(*other))).await,
    }
    Ok(())
}

/// A mode as C's `strtoul` reads it, in any of its three bases; what is no number counts as 0.
fn mode_of(text: &str) -> u32 {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let digits = digits.chars().map_while(|letter| letter.to_digit(base));
    let number =
        digits.fold(0_u64, |number, digit| number.saturating_mul(u64::from(base)).saturating_add(u64::from(digit)));
    // A mode has 32 bits.
    if negative { number.wrapping_neg() as u32 } else { number as u32 }
}

fn packing(flags: u32, offers: Offers) -> Result<Packing, Fail> {
    const KNOWN: u32 = flags::BROTLI | flags::LZ4 | flags::ZSTD;
    match flags & KNOWN {
        _ if flags & !KNOWN != 0 => Err(Fail(format!("unknown flags: {}", flags & !KNOWN))),
        0 => Ok(Packing::None),
        flags::LZ4 if offers.lz4 => Ok(Packing::Lz4),
        one @ (flags::BROTLI | flags::LZ4 | flags::ZSTD) => Err(Fail(format!("unknown flags: {one}"))),
        many => Err(Fail(format!("multiple compression flags received: {many}"))),
    }
}

async fn header(stream: &mut Stream) -> Result<(Id, usize), Closed> {
    let mut raw = stream.read_exact(8).await.ok_or(Closed)?;
    let mut id = Id::default();
    raw.copy_to_slice(&mut id);
    Ok((id, raw.get_u32_le() as usize))
}

async fn fail(stream: &Stream, reason: &str) -> Result<(), End> {
    stream.write(failure(reason)).await?;
    Err(End::Failed)
}

fn failure(reason: &str) -> BytesMut {
    let mut answer = numbers(*b"FAIL", &[reason.len() as u32]);
    answer.put_slice(reason.as_bytes());
    answer
}

fn numbers(id: Id, fields: &[u32]) -> BytesMut {
    let mut bytes = BytesMut::from(&id[..]);
    fields.iter().for_each(|&field| bytes.put_u32_le(field));
    bytes
}

/// Sizes beyond 4 GiB are cut off and times too: that is why there is a version 2.
fn fields_v1(stat: Stat) -> [u32; 3] {
    [stat.mode, stat.size as u32, stat.mtime as u32]
}

fn stat_v1(stat: Result<Stat, Errno>) -> BytesMut {
    numbers(*b"STAT", &fields_v1(stat.unwrap_or_default()))
}

fn stat_v2(id: Id, stat: Result<Stat, Errno>) -> BytesMut {
    const DEVICE: u64 = 0xfe2d;
    const SHELL_USER: u32 = 2000;
    let error = stat.err().map_or(0, |errno| errno as u32);
    let there = u32::from(error == 0);
    let stat = stat.unwrap_or_default();
    let links = if stat.is_directory() { 2 } else { there };
    let mut bytes = numbers(id, &[error]);
    bytes.put_u64_le(DEVICE * u64::from(there));
    bytes.put_u64_le(stat.inode);
    for field in [stat.mode, links, SHELL_USER * there, SHELL_USER * there] {
        bytes.put_u32_le(field);
    }
    bytes.put_u64_le(stat.size);
    (0..3).for_each(|_| bytes.put_i64_le(stat.mtime));
    bytes
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V2,
}

async fn list<F: FileSystem>(files: &F, stream: &Stream, path: &str, version: Version) -> Result<(), Closed> {
    let mut bytes = BytesMut::new();
    // A folder that can't be read has no entries: the protocol knows no error here.
    for entry in files.list(path).unwrap_or_default() {
        bytes.unsplit(match version {
            Version::V1 => numbers(*b"DENT", &fields_v1(entry.stat)),
            Version::V2 => stat_v2(*b"DNT2", Ok(entry.stat)),
        });
        bytes.put_u32_le(entry.name.len() as u32);
        bytes.put_slice(entry.name.as_bytes());
    }
    let fields = match version {
        Version::V1 => 4,
        Version::V2 => 18,
    };
    bytes.unsplit(numbers(*b"DONE", &vec![0; fields]));
    stream.write(bytes).await
}

/// What fuzzing calls on an lz4 frame of a host.
pub(crate) fn exercise_lz4(frame: &[u8]) {
    lz4::exercise(frame);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mode_is_read_as_c_reads_it() {
        let all =
            [("33188", 33188), ("0644", 0o644), ("0x1a4", 0x1a4), ("abc", 0), ("", 0), ("-1", u32::MAX), ("7x", 7)];
        for (text, mode) in all {
            assert_eq!(mode_of(text), mode, "{text}");
        }
    }

    #[test]
    fn at_most_one_compression_and_only_what_was_offered() {
        let lz4 = Offers { lz4: true };
        assert!(matches!(packing(2, lz4), Ok(Packing::Lz4)));
        assert!(matches!(packing(0, lz4), Ok(Packing::None)));
        for (flags, offers, why) in [
            (6, lz4, "multiple compression flags received: 6"),
            (16, lz4, "unknown flags: 16"),
            (1, lz4, "unknown flags: 1"),
            (2, Offers { lz4: false }, "unknown flags: 2"),
        ] {
            assert_eq!(packing(flags, offers).err().map(|Fail(why)| why).as_deref(), Some(why));
        }
    }

    proptest! {
        #[test]
        fn any_mode_is_read(text in ".{0,20}") {
            let _ = mode_of(&text);
        }
    }
}
