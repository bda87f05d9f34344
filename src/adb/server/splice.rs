//! Bytes between a client and a stream of a phone, untouched.
//!
//! Both directions end together, as with Google's server: a client that has nothing more to say closes the stream behind what it said;
//! when the phone closes it, the client reads all that came and then the end.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::keeper::StreamUse;
use super::socket::{ReadHalf, WriteHalf};
use crate::adb::driver::Stream;

/// What is read at once at first, in bytes: a shell's input needs no more.
const ROOM_MIN: usize = 16 << 10;
/// What still comes from a client is read for so long after the phone has closed: a socket that is closed with bytes unread in it is reset,
/// and the client would lose the end of what the phone said.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Carries bytes until either end has had enough; the client's in pieces of `piece_max` bytes at most.
pub(super) async fn splice(
    mut reader: ReadHalf,
    mut writer: WriteHalf,
    stream: Stream,
    piece_max: usize,
    tally: &StreamUse,
) {
    let said_all = CancellationToken::new();
    let ended = {
        let upload = async {
            let read = upload(&mut reader, &stream, piece_max, tally).await;
            said_all.cancel();
            read
        };
        let download = download(&mut writer, &stream, &said_all, tally);
        tokio::pin!(upload, download);
        tokio::select! {
            ended = &mut download => ended,
            // What was being written goes out whole.
            _ = &mut upload => download.await,
        }
    };
    match ended {
        Ok(End::ByPhone) => linger(reader, writer).await,
        Ok(End::ByClient) => stream.finish().await,
        Err(_) => {}
    }
}

/// Who ended it.
enum End {
    ByPhone,
    ByClient,
}

async fn upload(reader: &mut ReadHalf, stream: &Stream, piece_max: usize, tally: &StreamUse) -> io::Result<()> {
    let mut room = ROOM_MIN.min(piece_max);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(room);
        let read = (&mut *reader).take(room as u64).read_buf(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        // A few bytes must not keep a large buffer while they wait for the phone.
        let bytes = if read <= ROOM_MIN / 4 { Bytes::copy_from_slice(&buffer) } else { buffer.split().freeze() };
        buffer.clear();
        room = if read == room { (room * 2).min(piece_max) } else { room };
        if stream.write(bytes).await.is_err() {
            // What the phone said before it closed is still to be read.
            return std::future::pending().await;
        }
        tally.add_to_phone(read);
    }
}

async fn download(
    writer: &mut WriteHalf,
    stream: &Stream,
    said_all: &CancellationToken,
    tally: &StreamUse,
) -> io::Result<End> {
    loop {
        let bytes = tokio::select! {
            biased;
            bytes = stream.read() => bytes,
            () = said_all.cancelled() => return Ok(End::ByClient),
        };
        // A lost phone ends the stream as a closed one does: a client can be told no more than that.
        let Ok(Some(bytes)) = bytes else { return Ok(End::ByPhone) };
        tally.add_from_phone(bytes.len());
        writer.write_all(&bytes).await?;
        // TLS may keep the last of it, where the socket was full.
        writer.flush().await?;
    }
}

/// Says that nothing comes any more, and waits a little for the client to see it.
pub(super) async fn linger(mut reader: ReadHalf, mut writer: WriteHalf) {
    if writer.shutdown().await.is_err() {
        return;
    }
    let rest = async {
        let mut unread = [0; 4096];
        while reader.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    // Whoever does not hang up is left.
    let _ = timeout(LINGER_MAX, rest).await;
}
