//! The agent on a phone, as far as its line goes: it registers with the phone's identity, says notices, acknowledges tasks, and upgrades
//! itself when it is told to.
//!
//! It finds its line where the phone's reverse tunnel begins ([`find_line`]), as the real one does on its phone's own loopback. It frames
//! with `tokio-util` and encodes with prost, not with farmhand's own codec.

mod upgrade;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use farmhand::central::catalogue::{self, Kind};
use farmhand::central::proto::{
    DeviceAuthReqMessage, DeviceAuthRspMessage, EnumMsgType as Type, FriendTalkNoticeMessage, TransportMessage,
    WeChatOnlineNoticeMessage,
};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use prost_types::Any;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

pub use upgrade::{App, Home, carry_out};

/// The longest frame that is taken, as farmhand's own default.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// The answer to DeviceAuthReq may take so long.
const AUTH_MAX: Duration = Duration::from_secs(10);
/// Messages that are kept while something else is waited for.
const KEPT_MAX: usize = 4096;

/// A registered agent.
pub struct Agent {
    frames: Framed<TcpStream, LengthDelimitedCodec>,
    token: String,
    next_id: i64,
    /// What came while an acknowledgement was waited for.
    kept: VecDeque<TransportMessage>,
}

/// Where the tunnel of a phone begins that leads to its line: the one of the file's lines `phone local remote` that names the phone and
/// a remote of farmhand's own.
///
/// # Errors
/// The file cannot be read, or has no such line.
pub fn find_line(tunnels: &Path, phone: &str) -> io::Result<SocketAddr> {
    let text = std::fs::read_to_string(tunnels)?;
    let local = text.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [name, local, remote] if name == phone && remote.contains("farmhand") => local.parse().ok(),
        _ => None,
    });
    let why = || format!("{} has no line for {phone} that leads to farmhand", tunnels.display());
    local.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, why()))
}

impl Agent {
    /// Connects and registers as the phone with this IMEI.
    ///
    /// # Errors
    /// Nobody listens, or the answer is no DeviceAuthRsp.
    pub async fn register(line: SocketAddr, imei: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(line).await?;
        stream.set_nodelay(true)?;
        let codec = LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec();
        let frames = Framed::new(stream, codec);
        let mut agent = Self { frames, token: String::new(), next_id: 1, kept: VecDeque::new() };
        let request = DeviceAuthReqMessage { auth_type: 1, credential: imei.to_owned() };
        agent.send(Type::DeviceAuthReq as i32, Some(any("DeviceAuthReqMessage", &request)), 0).await?;
        let answer = timeout(AUTH_MAX, agent.next()).await??;
        let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        let content = answer.content.map(|content| content.value).unwrap_or_default();
        match Type::try_from(answer.msg_type) {
            Ok(Type::DeviceAuthRsp) => {
                let response = DeviceAuthRspMessage::decode(&content[..]).map_err(io::Error::other)?;
                agent.token = response.access_token;
                Ok(agent)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it is not let in: {}", catalogue::describe(answer.msg_type)),
            )),
        }
    }

    /// Sends any message; its Id.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send(&mut self, code: i32, content: Option<Any>, reference: i64) -> io::Result<i64> {
        let id = self.next_id;
        self.next_id += 1;
        let message = TransportMessage {
            id,
            access_token: self.token.clone(),
            msg_type: code,
            content,
            ref_message_id: reference,
        };
        self.send_bytes(message.encode_to_vec()).await?;
        Ok(id)
    }

    /// Sends any bytes as a frame.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send_bytes(&mut self, frame: Vec<u8>) -> io::Result<()> {
        self.frames.send(Bytes::from(frame)).await
    }

    /// The token that each message of it names.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Says that an account is online on the phone; the Id.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn is_online(&mut self, wechat_id: &str) -> io::Result<i64> {
        let notice = WeChatOnlineNoticeMessage { we_chat_id: wechat_id.to_owned(), ..Default::default() };
        self.send(Type::WeChatOnlineNotice as i32, Some(any("WeChatOnlineNoticeMessage", &notice)), 0).await
    }

    /// Says that somebody has written to an account; the Id.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn was_told(&mut self, wechat_id: &str, text: &[u8]) -> io::Result<i64> {
        self.send(Type::FriendTalkNotice as i32, Some(talk(wechat_id, text)), 0).await
    }

    /// Says all of this in one write, as [`Self::was_told`] does, and ends its half of the connection at once: its last words. It still
    /// hears.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn says_at_last(&mut self, wechat_id: &str, texts: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for text in texts {
            let message = TransportMessage {
                id: self.next_id,
                access_token: self.token.clone(),
                msg_type: Type::FriendTalkNotice as i32,
                content: Some(talk(wechat_id, text)),
                ref_message_id: 0,
            };
            self.next_id += 1;
            let length = u32::try_from(message.encoded_len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&length.to_be_bytes());
            message.encode(&mut bytes).map_err(io::Error::other)?;
        }
        let stream = self.frames.get_mut();
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    }

    /// Sends a heartbeat; its Id.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn beat(&mut self) -> io::Result<i64> {
        self.send(Type::HeartBeatReq as i32, None, 0).await
    }

    /// The next message; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// What comes is no message.
    pub async fn next(&mut self) -> io::Result<Option<TransportMessage>> {
        match self.kept.pop_front() {
            Some(kept) => Ok(Some(kept)),
            None => self.read().await,
        }
    }

    /// Waits for the acknowledgement of message `id`; what comes before it is kept for [`Self::next`].
    ///
    /// # Errors
    /// The connection has ended, or too much came instead.
    pub async fn acknowledged(&mut self, id: i64) -> io::Result<()> {
        while let Some(message) = self.read().await? {
            if message.msg_type == Type::MsgReceivedAck as i32 && message.ref_message_id == id {
                return Ok(());
            }
            if self.kept.len() >= KEPT_MAX {
                break;
            }
            self.kept.push_back(message);
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("message {id} was not acknowledged")))
    }

    /// Acknowledges what wants it, as an agent does at once.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn take(&mut self, message: &TransportMessage) -> io::Result<()> {
        let wants =
            catalogue::lookup(message.msg_type).is_none_or(|entry| matches!(entry.kind, Kind::Task | Kind::Notice));
        if wants {
            self.send(Type::MsgReceivedAck as i32, None, message.id).await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<Option<TransportMessage>> {
        match self.frames.next().await {
            Some(frame) => TransportMessage::decode(frame?.freeze()).map(Some).map_err(io::Error::other),
            None => Ok(None),
        }
    }
}

fn talk(wechat_id: &str, text: &[u8]) -> Any {
    let notice =
        FriendTalkNoticeMessage { we_chat_id: wechat_id.to_owned(), content: text.to_vec(), ..Default::default() };
    any("FriendTalkNoticeMessage", &notice)
}

fn any<M: prost::Message>(name: &str, message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/Jubo.JuLiao.IM.Wx.Proto.{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_phone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tunnels");
        std::fs::write(&file, "P1 127.66.4.1:5000 tcp:7100\nP2 127.66.4.2:9200 localabstract:farmhand-line\n").unwrap();
        assert_eq!(find_line(&file, "P2").unwrap(), "127.66.4.2:9200".parse().unwrap());
        assert!(find_line(&file, "P1").unwrap_err().to_string().contains("P1"));
    }
}
