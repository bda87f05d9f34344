//! Running a command and taking all it says.

use std::time::Duration;

use super::{Packet, PacketDecoder, PacketError};
use crate::adb::driver::{Adb, OpenError, Stream, StreamError};

/// What a command said and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShellOutput {
    /// Its output; without shell_v2 its errors, too.
    pub stdout: Vec<u8>,
    /// Its errors.
    pub stderr: Vec<u8>,
    /// Its status; none where the handset is too old to tell.
    pub exit: Option<u8>,
}

impl ShellOutput {
    /// Output and, behind it, errors: some programs print their failure as the one, some as the other.
    #[must_use]
    pub fn all(self) -> String {
        String::from_utf8_lossy(&[self.stdout, self.stderr].concat()).into_owned()
    }

    /// The output as text, without white space around it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// How long a command may take and how much it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShellLimits {
    /// From OPEN to its end.
    pub wait: Duration,
    /// Output and errors together, in bytes.
    pub output_max: usize,
}

impl Default for ShellLimits {
    /// For what the daemon asks by itself: properties, settings, dumpsys.
    fn default() -> Self {
        Self { wait: Duration::from_secs(15), output_max: 4 << 20 }
    }
}

/// Why a service did not do its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// It was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its stream ended early.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// It sent nonsense.
    #[error("the handset's shell sent nonsense: {0}")]
    Packet(#[from] PacketError),
    /// It took too long.
    #[error("waited {after:?} for {why}")]
    Timeout {
        /// What for.
        why: &'static str,
        /// How long.
        after: Duration,
    },
    /// It said too much.
    #[error("the command said more than {max} bytes")]
    TooMuch {
        /// The limit.
        max: usize,
    },
    /// It complained.
    #[error("the handset said: {0}")]
    Said(String),
}

impl Adb {
    /// Runs a command and gives what it said. Its standard input is empty.
    ///
    /// # Errors
    /// It could not be run to its end. A status other than 0 is no error here.
    pub async fn shell(&self, command: &str) -> Result<ShellOutput, ServiceError> {
        self.shell_within(command, ShellLimits::default()).await
    }

    /// Runs a command within other limits than the usual ones.
    ///
    /// # Errors
    /// As [`shell`](Self::shell).
    pub async fn shell_within(&self, command: &str, limits: ShellLimits) -> Result<ShellOutput, ServiceError> {
        let work = async {
            if self.banner().offers("shell_v2") {
                let stream = self.open(format!("shell,v2,raw:{command}")).await?;
                // A command that reads its input must not wait for ever. If it ended already, what it said is still to be read.
                let _ = stream.write(Packet::CloseStdin.emit()).await;
                read_packets(&stream, limits.output_max).await
            } else {
                let stream = self.open(format!("shell:{command}")).await?;
                let stdout = read_all(&stream, limits.output_max).await?;
                Ok(ShellOutput { stdout, ..ShellOutput::default() })
            }
        };
        let late = ServiceError::Timeout { why: "the end of a shell command", after: limits.wait };
        tokio::time::timeout(limits.wait, work).await.unwrap_or(Err(late))
    }

    /// Runs a command without a shell's protocol around it and gives the first `len` bytes that it says, or less if it says less. What
    /// it says beyond that, and its end, are not waited for. Every handset since Android 5 offers it.
    ///
    /// # Errors
    /// It could not be run, or said too little within `wait`.
    pub async fn exec_head(&self, command: &str, len: usize, wait: Duration) -> Result<Vec<u8>, ServiceError> {
        let work = async {
            let stream = self.open(format!("exec:{command}")).await?;
            let mut head = Vec::new();
            while head.len() < len {
                let Some(chunk) = stream.read().await? else { break };
                head.extend_from_slice(&chunk);
            }
            head.truncate(len);
            Ok(head)
        };
        let late = ServiceError::Timeout { why: "a command's first words", after: wait };
        tokio::time::timeout(wait, work).await.unwrap_or(Err(late))
    }
}

/// All that a command says in packets, until its end or that of the stream.
pub(in crate::adb::services) async fn read_packets(
    stream: &Stream,
    output_max: usize,
) -> Result<ShellOutput, ServiceError> {
    let mut output = ShellOutput::default();
    let mut decoder = PacketDecoder::default();
    while let Some(chunk) = stream.read().await? {
        decoder.push(&chunk);
        while let Some(packet) = decoder.next_packet()? {
            match packet {
                Packet::Stdout(data) => output.stdout.extend_from_slice(&data),
                Packet::Stderr(data) => output.stderr.extend_from_slice(&data),
                Packet::Exit(status) => {
                    output.exit = Some(status);
                    return Ok(output);
                }
                Packet::Stdin(_) | Packet::CloseStdin | Packet::WindowSize(_) => {}
            }
            if output.stdout.len() + output.stderr.len() > output_max {
                return Err(ServiceError::TooMuch { max: output_max });
            }
        }
    }
    Ok(output)
}

/// All that a stream says until the handset closes it.
pub(in crate::adb::services) async fn read_all(stream: &Stream, output_max: usize) -> Result<Vec<u8>, ServiceError> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.read().await? {
        all.extend_from_slice(&chunk);
        if all.len() > output_max {
            return Err(ServiceError::TooMuch { max: output_max });
        }
    }
    Ok(all)
}
