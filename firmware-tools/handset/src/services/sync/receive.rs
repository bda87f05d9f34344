//! A file from the host: SEND and SND2.

use bytes::Bytes;

use super::lz4::Unpacker;
use super::{Closed, End, Packing, Purpose, fail, failure, header, numbers};
use crate::device::{Content, Errno, FileSystem, NewNode};
use crate::stream::Stream;

/// Bits of a mode that say what it is.
const TYPE_MASK: u32 = 0o170_000;
const LINK: u32 = 0o120_000;

/// Takes a file. A refusal is told at once; what still comes is read and dropped until DONE, then the service ends.
pub(super) async fn file<F: FileSystem>(
    files: &F,
    stream: &mut Stream,
    path: &str,
    mode: u32,
    packing: Packing,
    purpose: Purpose,
) -> Result<(), End> {
    // A link is made once its target has come, and only then refused.
    if purpose == Purpose::Write
        && mode & TYPE_MASK != LINK
        && let Err(refused) = files.writable(path)
    {
        return refuse(stream, &refused.to_string()).await;
    }
    let mut sink = FileSink { content: Content::default(), unpacker: Unpacker::of(packing), purpose };
    loop {
        let (id, argument) = header(stream).await?;
        match &id {
            b"DATA" => {
                let mut left = argument;
                while left > 0 {
                    let data = stream.read_some(left).await.ok_or(Closed)?;
                    left -= data.len();
                    if let Err(why) = sink.take(files, data).await {
                        return refuse_after(stream, left, why).await;
                    }
                }
            }
            b"DONE" => {
                return match sink.finish(files, path, mode, argument as i64) {
                    Ok(()) => Ok(stream.write(numbers(*b"OKAY", &[0])).await?),
                    Err(why) => fail(stream, &why).await,
                };
            }
            _ => return fail(stream, "invalid data message").await,
        }
    }
}

/// Where the bytes of a file go.
struct FileSink {
    content: Content,
    unpacker: Unpacker,
    purpose: Purpose,
}

impl FileSink {
    async fn take<F: FileSystem>(&mut self, files: &F, data: Bytes) -> Result<(), String> {
        let room = files.free_bytes().saturating_sub(self.content.len());
        let time = files.time_for(data.len() as u64);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        if let Some(piece) = self.unpacker.unpack(data, room)?
            && self.purpose == Purpose::Write
        {
            if piece.len() as u64 > room {
                return Err(format!("write failed: {}", Errno::NoSpace));
            }
            self.content.push(piece);
        }
        Ok(())
    }

    fn finish<F: FileSystem>(mut self, files: &F, path: &str, mode: u32, mtime: i64) -> Result<(), String> {
        let held_back = self.unpacker.finish(files.free_bytes())?;
        if self.purpose == Purpose::DryRun {
            return Ok(());
        }
        if !held_back.is_empty() {
            self.content = Content::from(held_back);
        }
        if mode & TYPE_MASK == LINK {
            let target = String::from_utf8_lossy(&self.content.joined()).into_owned();
            let node = NewNode::Link(target.split('\0').next().unwrap_or_default().to_owned());
            return files.write(path, permissions(mode), mtime, node).map_err(|errno| match errno {
                Errno::IsDirectory => format!("symlink failed: {}", Errno::Exists),
                errno => format!("symlink failed: {errno}"),
            });
        }
        let node = NewNode::File(self.content);
        files.write(path, permissions(mode), mtime, node).map_err(|errno| format!("couldn't create file: {errno}"))
    }
}

/// adbd gives group and others what the owner has.
fn permissions(mode: u32) -> u32 {
    let owner = mode & 0o777;
    let group = owner | owner >> 3 & 0o070;
    group | group >> 3 & 0o007
}

/// Tells why, then takes what the host still sends of this file.
async fn refuse(stream: &mut Stream, why: &str) -> Result<(), End> {
    refuse_after(stream, 0, why.to_owned()).await
}

/// The same in the middle of DATA, of which `left` bytes have not come yet.
async fn refuse_after(stream: &mut Stream, mut left: usize, why: String) -> Result<(), End> {
    stream.write(failure(&why)).await?;
    loop {
        while left > 0 {
            left -= stream.read_some(left).await.ok_or(Closed)?.len();
        }
        match header(stream).await? {
            (id, length) if &id == b"DATA" => left = length,
            _ => return Err(End::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_and_others_get_what_the_owner_has() {
        assert_eq!(permissions(0o100_644), 0o666);
        assert_eq!(permissions(0o755), 0o777);
        assert_eq!(permissions(0o600), 0o666);
        assert_eq!(permissions(0), 0);
    }
}
