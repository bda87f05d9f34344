//! What the handset at a port says to an ADB greeting: `cargo run --example usb_hello -- 1-2.3`.
//!
//! Shows the bus alone, without ADB's state machine: opens the handset, sends CNXN and prints the header and the banner of the
//! answer (a phone that wants a key answers AUTH with a token instead).
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farmhand::adb::transport::{HEADER_LEN, Reader, Transport, Writer};
use farmhand::rack::ids::PortPath;
use farmhand::usb::{Bus, BusEvent};
use tokio_util::sync::CancellationToken;

/// How long the handset may take to be found, and to answer.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path: PortPath = std::env::args().nth(1).ok_or("which port? for example 1-2.3")?.parse()?;
    tokio::time::timeout(DEADLINE, hello(path)).await?
}

async fn hello(path: PortPath) -> Result<(), Box<dyn Error>> {
    let (bus, mut events) = Bus::start(CancellationToken::new())?;
    while let Some(event) = events.recv().await {
        if matches!(event, BusEvent::Arrived(handset) if handset.path == path) {
            break;
        }
    }
    let (mut reader, mut writer) = bus.open(&path).await?.split();
    let banner = Bytes::from_static(b"host::features=shell_v2");
    writer.write(header(*b"CNXN", 0x0100_0001, 1 << 20, &banner), banner).await?;
    let answer = exactly(&mut reader, HEADER_LEN).await?;
    let word = |at: usize| answer[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
    println!("{} version={:#x} payload_max={}", answer[..4].escape_ascii(), word(4), word(8));
    let payload = exactly(&mut reader, word(12) as usize).await?;
    println!("{}", payload.escape_ascii());
    Ok(())
}

fn header(command: [u8; 4], arg0: u32, arg1: u32, payload: &[u8]) -> [u8; HEADER_LEN] {
    let command = u32::from_le_bytes(command);
    let sum = payload.iter().copied().map(u32::from).sum();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = [0; HEADER_LEN];
    for (to, word) in bytes.chunks_exact_mut(4).zip([command, arg0, arg1, length, sum, !command]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

async fn exactly(reader: &mut impl Reader, len: usize) -> Result<Bytes, Box<dyn Error>> {
    let mut bytes = BytesMut::with_capacity(len);
    while bytes.len() < len {
        let chunk = reader.read(len - bytes.len()).await?;
        if chunk.is_empty() {
            return Err("the way to the handset ended".into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
