//! What fuzzing calls: each parser on any bytes. Each panics only by a broken invariant.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_util::codec::Decoder as _;

use crate::auth::AndroidPublicKey;
use crate::connection::{Connection, exercise as connection};
use crate::device::FileSystem as _;
use crate::line::Line;
use crate::memory::MemoryFiles;
use crate::reverse::Request;
use crate::services::{Offers, Service, sync};
use crate::stream::Stream;
use crate::wire::{Codec, Command, Message, Sums, Terms};

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

/// What a host and the services of a phone may do, an operation for each two bytes.
///
/// # Panics
/// An invariant is broken.
pub fn connection(bytes: &[u8]) {
    connection::operations(bytes);
}

/// Requests for files: whatever comes, the service ends when its stream does, and no more is kept than fits.
///
/// # Panics
/// An invariant is broken.
pub fn sync(bytes: &[u8]) {
    let files = MemoryFiles::new(CAPACITY_BYTES, &["/sdcard"]);
    let (jobs, _run) = mpsc::channel(1);
    let line = Line::new(connection::online(4096), jobs);
    let Some(mut stream) = Stream::begin(&line, connection::open_sync) else { return };
    let local = stream.local();
    for piece in bytes.chunks(1000) {
        let message = Message::new(Command::WRTE, connection::HOST_ID, local, Bytes::copy_from_slice(piece));
        line.with(|core| core.receive(message, Duration::ZERO));
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(async {
        let serving = async {
            // The host hangs up when all it said is read: without this the service would wait for more.
            let hang_up = async {
                while !line.with(|core| core.is_read(local)) {
                    tokio::task::yield_now().await;
                }
                line.with(Connection::lose_host);
                std::future::pending::<()>().await;
            };
            // A service that ends by itself leaves unread what came behind.
            tokio::select! {
                _ = sync::serve(&files, &mut stream, Offers { lz4: true }) => {}
                () = hang_up => {}
            }
            line.with(Connection::hang_up);
        };
        let reading = async {
            while !line.with(|core| core.hangs_up()) {
                line.has_to_send().await;
                while let Some((message, _)) = line.with(Connection::next_message) {
                    assert!(
                        matches!(message.command, Command::WRTE | Command::OKAY),
                        "only data and its acknowledgement"
                    );
                    assert!(message.payload.len() <= 4096, "a message is longer than agreed");
                }
            }
        };
        tokio::join!(serving, reading);
    });
    assert!(files.free_bytes() <= CAPACITY_BYTES, "the room is counted right");
}
