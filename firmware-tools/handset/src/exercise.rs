//! What fuzzing calls: each parser on any bytes. Each panics only by a broken invariant.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_util::codec::Decoder as _;

use crate::auth::AndroidPublicKey;
use crate::device::FileSystem as _;
use crate::memory::MemoryFiles;
use crate::reverse::Request;
use crate::services::{Offers, Service, sync};
use crate::stream::{Flow, Shared, Stream};
use crate::wire::{Codec, Command, Sums, Terms};

/// The most that a file system holds here.
const CAPACITY_BYTES: u64 = 1 << 20;

/// Bytes of a host as messages, cut into pieces of the first byte's length.
pub fn messages(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let terms = Terms { payload_bytes_max: 4096, agreed_bytes_max: 1024, sums: Sums::Unchecked };
    let mut codec = Codec::with(terms);
    let mut buffer = BytesMut::new();
    for piece in bytes.chunks(usize::from(piece).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(message)) => assert!(message.payload.len() <= 1024, "a payload is longer than agreed"),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(buffer.len() < 24 + 4096, "more is held than a message");
    }
}

/// The name of a service, a request for tunnels, and a public key.
pub fn names(bytes: &[u8]) {
    let _ = Service::parse(bytes);
    let _ = AndroidPublicKey::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Request::parse(text);
    }
}

/// Bulk transfers of a host.
pub fn transfers(bytes: &[u8]) {
    crate::functionfs::exercise(bytes);
}

/// An lz4 frame of a host.
pub fn lz4(bytes: &[u8]) {
    sync::exercise_lz4(bytes);
}

/// Requests for files: whatever comes, the service ends when its stream does, and no more is kept than fits.
///
/// # Panics
/// An invariant is broken.
pub fn sync(bytes: &[u8]) {
    const HOST_ID: u32 = 7;
    let files = MemoryFiles::new(CAPACITY_BYTES, &["/sdcard"]);
    let shared = Shared::new(1, HOST_ID, Flow::Window { send_bytes: u32::MAX });
    for piece in bytes.chunks(1000) {
        assert!(shared.received(Bytes::copy_from_slice(piece)).is_ok(), "it fits into the window");
    }
    let (outgoing, mut sent) = mpsc::channel(8);
    let mut stream = Stream::new(shared, outgoing, 4096);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(async {
        let serving = async {
            // The host hangs up: without this the service would wait for more.
            let closed = stream.writer();
            let hang_up = async {
                closed.close_when_read().await;
                std::future::pending::<()>().await;
            };
            // A service that ends by itself leaves unread what came behind.
            tokio::select! {
                _ = sync::serve(&files, &mut stream, Offers { lz4: true }) => {}
                () = hang_up => {}
            }
            drop(stream);
        };
        let reading = async {
            while let Some(message) = sent.recv().await {
                assert!(matches!(message.command, Command::WRTE | Command::OKAY), "only data and its acknowledgement");
                assert!(message.payload.len() <= 4096, "a message is longer than agreed");
            }
        };
        tokio::join!(serving, reading);
    });
    assert!(files.free_bytes() <= CAPACITY_BYTES, "the room is counted right");
}
