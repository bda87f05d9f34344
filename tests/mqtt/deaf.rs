//! A broker that takes everything and, until it is cured, acknowledges nothing that is published.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The broker; it ends with the runtime.
pub(crate) struct Deaf {
    pub(crate) port: u16,
    cured: watch::Sender<Ears>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ears {
    Deaf,
    Cured,
}

impl Deaf {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cured, ears) = watch::channel(Ears::Deaf);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, ears.clone()));
            }
        });
        Self { port, cured }
    }

    /// From now on it acknowledges, also what came before.
    pub(crate) fn cure(&self) {
        self.cured.send_replace(Ears::Cured);
    }
}

/// MQTT 3.1.1, as much of it as one publisher needs.
async fn serve(stream: TcpStream, mut ears: watch::Receiver<Ears>) {
    let (mut from, mut to) = stream.into_split();
    let (packets, mut inbox) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(packet) = packet(&mut from).await {
            if packets.send(packet).await.is_err() {
                return;
            }
        }
    });
    let mut owed = Vec::new();
    loop {
        let answer = tokio::select! {
            packet = inbox.recv() => match packet {
                None => return,
                Some((kind, body)) => match kind >> 4 {
                    1 => vec![0x20, 2, 0, 0],
                    8 => vec![0x90, 3, body[0], body[1], 1],
                    10 => vec![0xb0, 2, body[0], body[1]],
                    12 => vec![0xd0, 0],
                    3 => {
                        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                        owed.extend([0x40, 2, body[2 + topic], body[3 + topic]]);
                        Vec::new()
                    }
                    _ => Vec::new(),
                },
            },
            Ok(()) = ears.changed() => Vec::new(),
        };
        to.write_all(&answer).await.unwrap();
        if *ears.borrow() == Ears::Cured {
            to.write_all(&std::mem::take(&mut owed)).await.unwrap();
        }
    }
}

/// One packet: its first byte and what it holds.
async fn packet(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let mut length = 0;
    for place in 0..4 {
        let byte = from.read_u8().await?;
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}
