//! Files: `sync:`.
//!
//! Requests and answers begin with four letters and a number; version 2 of some carries 64-bit sizes and error numbers.
//!
//! Invariant: a request that makes no sense ends the service, since there is no way to find the next one; a request that
//! fails is answered and the service goes on.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::device::{Errno, FileSystem, Stat};
use crate::limits;
use crate::stream::{Closed, Stream};

type Id = [u8; 4];

/// Only with this flag SND2 writes nothing. Compression flags are refused: none was offered.
const DRY_RUN: u32 = 0x8000_0000;

/// Answers requests until QUIT or nonsense.
pub(super) async fn serve<F: FileSystem>(files: &F, stream: &mut Stream) -> Result<(), Closed> {
    loop {
        let (id, length) = header(stream).await?;
        if &id == b"QUIT" {
            return Ok(());
        }
        if length > limits::PATH_BYTES_MAX {
            return fail(stream, "path too long").await;
        }
        let path = stream.read_exact(length).await.ok_or(Closed)?;
        let Ok(path) = std::str::from_utf8(&path) else {
            return fail(stream, "path is not UTF-8").await;
        };
        match &id {
            b"STAT" => stream.write(stat_v1(files.stat(path))).await?,
            b"STA2" | b"LST2" => stream.write(stat_v2(id, files.stat(path))).await?,
            b"LIST" => list(files, stream, path, Version::V1).await?,
            b"LIS2" => list(files, stream, path, Version::V2).await?,
            b"SEND" => match path.rsplit_once(',').map(|(path, mode)| (path, mode.parse())) {
                Some((path, Ok(mode))) => receive(files, stream, path, mode, Purpose::Write).await?,
                _ => return fail(stream, "missing , in ID_SEND").await,
            },
            b"SND2" => {
                let (mode, flags) = setup_send_v2(stream).await?;
                match flags {
                    0 => receive(files, stream, path, mode, Purpose::Write).await?,
                    DRY_RUN => receive(files, stream, path, mode, Purpose::DryRun).await?,
                    _ => return fail(stream, "unsupported compression").await,
                }
            }
            b"RECV" => send(files, stream, path).await?,
            b"RCV2" => match header(stream).await? {
                (id, 0) if &id == b"RCV2" => send(files, stream, path).await?,
                _ => return fail(stream, "unsupported compression").await,
            },
            other => return fail(stream, &format!("unknown command {}", other.escape_ascii())).await,
        }
    }
}

async fn header(stream: &mut Stream) -> Result<(Id, usize), Closed> {
    let mut raw = stream.read_exact(8).await.ok_or(Closed)?;
    let mut id = Id::default();
    raw.copy_to_slice(&mut id);
    Ok((id, raw.get_u32_le() as usize))
}

/// Mode and flags.
async fn setup_send_v2(stream: &mut Stream) -> Result<(u32, u32), Closed> {
    let mut raw = stream.read_exact(12).await.ok_or(Closed)?;
    raw.advance(4);
    Ok((raw.get_u32_le(), raw.get_u32_le()))
}

async fn fail(stream: &Stream, reason: &str) -> Result<(), Closed> {
    let mut answer = numbers(*b"FAIL", &[reason.len() as u32]);
    answer.put_slice(reason.as_bytes());
    stream.write(answer).await
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
    let mut bytes = numbers(id, &[error]);
    bytes.put_u64_le(DEVICE * u64::from(there));
    bytes.put_u64_le(stat.inode);
    for field in [stat.mode, there, SHELL_USER * there, SHELL_USER * there] {
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
    // A folder that can't be read has no entries: the protocol knows no error here.
    for entry in files.list(path).unwrap_or_default() {
        let mut bytes = match version {
            Version::V1 => numbers(*b"DENT", &fields_v1(entry.stat)),
            Version::V2 => stat_v2(*b"DNT2", Ok(entry.stat)),
        };
        bytes.put_u32_le(entry.name.len() as u32);
        bytes.put_slice(entry.name.as_bytes());
        stream.write(bytes).await?;
    }
    let fields = match version {
        Version::V1 => 4,
        Version::V2 => 18,
    };
    stream.write(numbers(*b"DONE", &vec![0; fields])).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Write,
    DryRun,
}

/// Takes a file from the host. A refusal is told at once; what still comes is read and dropped.
async fn receive<F: FileSystem>(
    files: &F,
    stream: &mut Stream,
    path: &str,
    mode: u32,
    purpose: Purpose,
) -> Result<(), Closed> {
    let mut failed = false;
    if let Err(errno) = files.writable(path) {
        failed = true;
        fail(stream, &format!("couldn't create file: {errno}")).await?;
    }
    let mut content = BytesMut::new();
    loop {
        let (id, argument) = header(stream).await?;
        match &id {
            b"DATA" if argument > limits::SYNC_DATA_BYTES_MAX => {
                fail(stream, "oversize data message").await?;
                return Err(Closed);
            }
            b"DATA" => {
                let data = stream.read_exact(argument).await.ok_or(Closed)?;
                if failed || purpose == Purpose::DryRun {
                    continue;
                }
                if (content.len() + data.len()) as u64 > files.free_bytes() {
                    failed = true;
                    content = BytesMut::new();
                    fail(stream, &format!("write failed: {}", Errno::NoSpace)).await?;
                } else {
                    content.extend_from_slice(&data);
                }
            }
            b"DONE" => {
                let mtime = argument as i64;
                let written = match purpose {
                    _ if failed => return Ok(()),
                    Purpose::DryRun => Ok(()),
                    Purpose::Write => files.write(path, mode, mtime, content.freeze()),
                };
                return match written {
                    Ok(()) => stream.write(numbers(*b"OKAY", &[0])).await,
                    Err(errno) => fail(stream, &format!("couldn't create file: {errno}")).await,
                };
            }
            _ => {
                fail(stream, "invalid data message").await?;
                return Err(Closed);
            }
        }
    }
}

/// Gives a file to the host.
async fn send<F: FileSystem>(files: &F, stream: &Stream, path: &str) -> Result<(), Closed> {
    let mut content = match files.read(path) {
        Ok(content) => content,
        Err(errno) => return fail(stream, &format!("open failed: {errno}")).await,
    };
    while !content.is_empty() {
        let data: Bytes = content.split_to(content.len().min(limits::SYNC_DATA_BYTES_MAX));
        let mut bytes = numbers(*b"DATA", &[data.len() as u32]);
        bytes.put_slice(&data);
        stream.write(bytes).await?;
    }
    stream.write(numbers(*b"DONE", &[0])).await
}
