//! Commands: `shell:`, `exec:`, `abb:` and `abb_exec:`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::device::{Command, Device, Output};
use crate::stdin::{Protocol, Stdin, packet};
use crate::stream::{Closed, Stream};

/// One command line.
pub(super) async fn line<D: Device>(
    device: &D,
    stream: &mut Stream,
    protocol: Protocol,
    line: &str,
) -> Result<(), Closed> {
    let output = device.run(Command::Line(line), &mut Stdin::new(stream, protocol)).await;
    answer(stream, protocol, output).await
}

/// A system service.
pub(super) async fn system_service<D: Device>(
    device: &D,
    stream: &mut Stream,
    protocol: Protocol,
    arguments: &[String],
) -> Result<(), Closed> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = device.run(Command::Service(&arguments), &mut Stdin::new(stream, protocol)).await;
    answer(stream, protocol, output).await
}

/// A shell without terminal: each line of the input is a command; the last exit code is the shell's.
pub(super) async fn lines<D: Device>(device: &D, stream: &mut Stream, protocol: Protocol) -> Result<(), Closed> {
    let mut stdin = Stdin::new(stream, protocol);
    let mut code = 0;
    while let Some(line) = stdin.line().await {
        match line.trim() {
            "" => continue,
            "exit" => break,
            line => {
                let output = device.run(Command::Line(line), &mut stdin).await;
                code = output.code;
                print(stdin.stream(), protocol, &output).await?;
            }
        }
    }
    exit(stdin.stream(), protocol, code).await
}

async fn answer(stream: &Stream, protocol: Protocol, output: Output) -> Result<(), Closed> {
    print(stream, protocol, &output).await?;
    exit(stream, protocol, output.code).await
}

async fn print(stream: &Stream, protocol: Protocol, output: &Output) -> Result<(), Closed> {
    for (id, bytes) in [(packet::STDOUT, &output.stdout), (packet::STDERR, &output.stderr)] {
        match protocol {
            Protocol::Raw => stream.write(Bytes::copy_from_slice(bytes)).await?,
            Protocol::Packets if bytes.is_empty() => {}
            Protocol::Packets => stream.write(framed(id, bytes)).await?,
        }
    }
    Ok(())
}

async fn exit(stream: &Stream, protocol: Protocol, code: u8) -> Result<(), Closed> {
    match protocol {
        Protocol::Raw => Ok(()),
        Protocol::Packets => stream.write(framed(packet::EXIT, &[code])).await,
    }
}

/// Bytes as packets of the shell protocol.
fn framed(id: u8, bytes: &[u8]) -> Bytes {
    /// adbd's packets carry what fits into its buffer of 4096 bytes.
    const DATA_BYTES_MAX: usize = 4096 - packet::HEADER_BYTES;
    let mut packets = BytesMut::with_capacity(bytes.len() + packet::HEADER_BYTES);
    for data in bytes.chunks(DATA_BYTES_MAX) {
        packets.put_u8(id);
        packets.put_u32_le(data.len() as u32);
        packets.put_slice(data);
    }
    packets.freeze()
}
