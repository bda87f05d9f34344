//! A file to the host: RECV and RCV2.

use bytes::{BufMut, BytesMut};

use super::{Closed, End, Packing, fail, lz4, numbers};
use crate::buffers::Buffers;
use crate::device::{Errno, FileSystem};
use crate::limits;
use crate::stream::Stream;

/// Gives a file to the host, in messages that are filled to what was agreed.
pub(super) async fn file<F: FileSystem>(files: &F, stream: &Stream, path: &str, packing: Packing) -> Result<(), End> {
    let content = match files.read(path) {
        Ok(content) => content,
        Err(errno @ Errno::IsDirectory) => return fail(stream, &format!("read failed: {errno}")).await,
        Err(errno) => return fail(stream, &format!("open failed: {errno}")).await,
    };
    let content = match packing {
        Packing::None => content,
        Packing::Lz4 => lz4::pack(&content),
    };
    let mut full = Batch::new(stream);
    let mut left = content;
    while !left.is_empty() {
        let data = left.split_to(left.len().min(limits::SYNC_DATA_BYTES_MAX));
        let time = files.time_for(data.len() as u64);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        full.put(&numbers(*b"DATA", &[data.len() as u32])).await?;
        full.put(&data).await?;
    }
    full.put(&numbers(*b"DONE", &[0])).await?;
    Ok(full.flush().await?)
}

/// Bytes that are collected to whole messages.
struct Batch<'a> {
    stream: &'a Stream,
    bytes: BytesMut,
    buffers: Buffers,
}

impl<'a> Batch<'a> {
    fn new(stream: &'a Stream) -> Self {
        Self { stream, bytes: BytesMut::new(), buffers: Buffers::default() }
    }

    async fn put(&mut self, mut more: &[u8]) -> Result<(), Closed> {
        let full = self.stream.payload_bytes_max().max(1);
        loop {
            let (fits, rest) = more.split_at(more.len().min(full.saturating_sub(self.bytes.len())));
            self.bytes.put_slice(fits);
            if rest.is_empty() {
                return Ok(());
            }
            self.flush().await?;
            self.bytes = self.buffers.take(full);
            self.bytes.clear();
            more = rest;
        }
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        let message = std::mem::take(&mut self.bytes).freeze();
        self.buffers.lend(&message);
        self.stream.write(message).await
    }
}
