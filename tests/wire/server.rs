//! A central server that does what a test says, one connection at a time.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use farmhand::central::catalogue::lookup;
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::{self, HEADER, Split};
use farmhand::central::proto::{DeviceAuthRspMessage, EnumMsgType};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Nothing in these tests takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the line connects to.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("the line connects").unwrap();
        Peer { stream, buffer: BytesMut::new(), next_id: 0 }
    }

    /// Accepts the line and lets it register.
    pub(crate) async fn accept_registered(&self) -> Peer {
        let mut peer = self.accept().await;
        let auth = peer.expect(EnumMsgType::DeviceAuthReq).await;
        let response = DeviceAuthRspMessage { access_token: "token".to_owned(), ..Default::default() };
        peer.send(EnumMsgType::DeviceAuthRsp as i32, &response.encode_to_vec(), auth.id).await;
        peer.expect(EnumMsgType::PostDeviceInfoNotice).await;
        peer
    }
}

/// The server's end of one connection.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
    next_id: i64,
}

/// A message of the line.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: i64,
    pub(crate) token: String,
    pub(crate) code: i32,
    pub(crate) reference: i64,
    pub(crate) body: Vec<u8>,
}

impl Peer {
    /// The next message, which must have this code.
    pub(crate) async fn expect(&mut self, code: EnumMsgType) -> Received {
        let received = self.next().await.unwrap_or_else(|| panic!("closed instead of {}", code.as_str_name()));
        assert_eq!(received.code, code as i32, "{received:?}");
        received
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        loop {
            if let Split::Frame { payload, consumed } = frame::split(&self.buffer, 1 << 20).unwrap() {
                let received = received(payload);
                self.buffer.advance(consumed);
                return Some(received);
            }
            let read =
                timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("the line says something");
            if read.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Sends a message with the body that the catalogue names; returns its Id.
    pub(crate) async fn send(&mut self, code: i32, value: &[u8], reference: i64) -> i64 {
        self.next_id += 1;
        let body = lookup(code).and_then(|entry| entry.body).map(|type_name| Body { type_name, value });
        let envelope = Envelope { id: self.next_id, access_token: "", msg_type: code, body, ref_message_id: reference };
        self.send_raw(&envelope.frame().unwrap()).await;
        self.next_id
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }
}

fn received(frame: &[u8]) -> Received {
    let view = View::parse(frame).unwrap();
    assert!(frame.len() + HEADER < 1 << 20);
    Received {
        id: view.id,
        token: view.access_token.to_owned(),
        code: view.msg_type,
        reference: view.ref_message_id,
        body: view.body().to_vec(),
    }
}
