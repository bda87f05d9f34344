//! A command whose input and output flow while it runs: a shell on a terminal, logcat, whatever a person starts.

use std::sync::Arc;

use bytes::Bytes;

use super::run::ServiceError;
use super::{Packet, PacketDecoder};
use crate::adb::driver::{Adb, OpenError, Stream, StreamError};

/// How much input goes into one packet, in bytes: adbd takes no more than a payload of the smallest kind at once everywhere.
const INPUT_MAX: usize = 64 << 10;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WindowSize {
    /// In characters.
    pub rows: u16,
    /// In characters.
    pub columns: u16,
}

/// What a command runs on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellMode {
    /// Pipes: output and errors apart, no byte changed.
    Raw,
    /// A terminal.
    Terminal {
        /// `TERM`.
        name: String,
        /// Its size.
        size: WindowSize,
    },
}

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellEvent {
    /// Output; errors, too, on a terminal and where the handset is too old for `shell_v2`.
    Stdout(Bytes),
    /// Errors.
    Stderr(Bytes),
    /// It ended, with this status where the handset tells one.
    Exit(Option<u8>),
}

/// What a running command says.
#[derive(Debug)]
pub struct ShellReader {
    stream: Arc<Stream>,
    /// None without `shell_v2`.
    decoder: Option<PacketDecoder>,
}

/// What a running command is given. The command ends when reader and writer are dropped.
#[derive(Clone, Debug)]
pub struct ShellWriter {
    stream: Arc<Stream>,
    has_packets: bool,
}

impl Adb {
    /// Starts a command, or a shell of its own if `command` is empty.
    ///
    /// # Errors
    /// It was not started.
    pub async fn open_shell(&self, command: &str, mode: &ShellMode) -> Result<(ShellReader, ShellWriter), OpenError> {
        let has_packets = self.banner().offers("shell_v2");
        let service = match mode {
            _ if !has_packets => format!("shell:{command}"),
            ShellMode::Raw => format!("shell,v2,raw:{command}"),
            ShellMode::Terminal { name, .. } => format!("shell,v2,TERM={},pty:{command}", plain(name)),
        };
        let stream = Arc::new(self.open(service).await?);
        let writer = ShellWriter { stream: Arc::clone(&stream), has_packets };
        if let ShellMode::Terminal { size, .. } = mode {
            // A command that has ended already does not mind its terminal's size.
            let _ = writer.resize(*size).await;
        }
        Ok((ShellReader { stream, decoder: has_packets.then(PacketDecoder::default) }, writer))
    }
}

/// A terminal's name as it may stand between commas.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-._+".contains(*c)).take(64).collect()
}

impl ShellReader {
    /// The next event; behind [`ShellEvent::Exit`] nothing comes. It waits as long as nothing comes. Cancel-safe.
    ///
    /// # Errors
    /// The stream ended early, or nonsense came.
    pub async fn next(&mut self) -> Result<ShellEvent, ServiceError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(self.stream.read().await?.map_or(ShellEvent::Exit(None), ShellEvent::Stdout));
        };
        loop {
            match decoder.next_packet()? {
                Some(Packet::Stdout(data)) if data.is_empty() => {}
                Some(Packet::Stdout(data)) => return Ok(ShellEvent::Stdout(data)),
                Some(Packet::Stderr(data)) => return Ok(ShellEvent::Stderr(data)),
                Some(Packet::Exit(status)) => return Ok(ShellEvent::Exit(Some(status))),
                Some(Packet::Stdin(_) | Packet::CloseStdin | Packet::WindowSize(_)) => {}
                None => match self.stream.read().await? {
                    Some(chunk) => decoder.push(&chunk),
                    None => return Ok(ShellEvent::Exit(None)),
                },
            }
        }
    }
}

impl ShellWriter {
    /// Gives input; waits while the command takes none.
    ///
    /// # Errors
    /// The command has ended.
    pub async fn write(&self, mut input: Bytes) -> Result<(), StreamError> {
        if !self.has_packets {
            return self.stream.write(input).await;
        }
        while !input.is_empty() {
            let part = input.split_to(input.len().min(INPUT_MAX));
            self.stream.write(Packet::Stdin(part).emit()).await?;
        }
        Ok(())
    }

    /// Says that no more input follows. Without `shell_v2` there is no such word, and the command goes on waiting.
    ///
    /// # Errors
    /// The command has ended.
    pub async fn end(&self) -> Result<(), StreamError> {
        if self.has_packets { self.stream.write(Packet::CloseStdin.emit()).await } else { Ok(()) }
    }

    /// Says that the terminal has another size.
    ///
    /// # Errors
    /// The command has ended.
    pub async fn resize(&self, size: WindowSize) -> Result<(), StreamError> {
        if !self.has_packets {
            return Ok(());
        }
        let text = format!("{}x{},0x0\0", size.rows, size.columns);
        self.stream.write(Packet::WindowSize(text.into()).emit()).await
    }
}
