//! A slot's port: `adb connect` finds whichever phone sits in the slot there, always under the same address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::door::AdbServer;
use super::keeper::StreamUse;
use super::portal::{Order, Portal, STREAMS_MAX};
use super::roles;
use super::uses::Family;
use crate::accept::accept_all;
use crate::adb::auth::{KnownKeys, owner_in};
use crate::adb::driver::{Adb, Stream};
use crate::adb::message::{Decoder, Framing, Message};
use crate::adb::tcp::{TcpTransport, TcpWriter};
use crate::adb::transport::{Reader as _, Transport as _, Writer as _};
use crate::peer;
use crate::rack::ids::{PhoneId, SlotName};

/// The most connections to one slot's port at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// The longest between a connection and its CNXN.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// How long a client whose key is not known is left waiting, as by a phone: its server shows it as unauthorized meanwhile.
const UNKNOWN_MAX: Duration = Duration::from_secs(60);
/// The longest that a client may take to read one message.
const WRITE_MAX: Duration = Duration::from_secs(30);

impl AdbServer {
    /// Speaks for the phone in `slot` at a port until `cancel`: of the loopback, or else with those only who have one of `keys`.
    pub async fn serve_slot(
        self,
        slot: SlotName,
        listener: TcpListener,
        keys: Option<Arc<KnownKeys>>,
        cancel: CancellationToken,
    ) {
        let carry = |(socket, client)| {
            let (server, slot, keys) = (self.clone(), slot.clone(), keys.clone());
            async move {
                if let Err(error) = server.speak(&slot, socket, client, keys).await {
                    debug!("an adb client of slot {slot} broke off: {error}");
                }
            }
        };
        let (permits, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), JoinSet::new());
        let accepting = accept_all("adb client of a slot", &permits, &mut connections, || listener.accept(), carry);
        cancel.run_until_cancelled(accepting).await;
    }

    async fn speak(
        &self,
        slot: &SlotName,
        socket: TcpStream,
        client: SocketAddr,
        keys: Option<Arc<KnownKeys>>,
    ) -> io::Result<()> {
        let who = match &keys {
            None => peer::user_of_tcp(client, socket.local_addr()?),
            // The key says so.
            Some(_) => client.to_string(),
        };
        // Without a phone there is nobody who could answer: the client sees its connection end.
        let Some((phone, adb)) = self.in_slot(slot) else { return Ok(()) };
        let (mut reader, writer) = TcpTransport::from_socket(socket)?.split();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (happened, mut happenings) = mpsc::channel(STREAMS_MAX);
        let (offers, mut offered) = mpsc::channel(STREAMS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(write_all(writer, queue));
        let portal = if keys.is_some() { Portal::guarded(adb.banner()) } else { Portal::new(adb.banner()) };
        let mut talk = Talk {
            server: self,
            slot,
            phone,
            adb,
            who,
            keys,
            token: None,
            is_unknown: false,
            portal,
            outgoing,
            happened,
            offers,
            streams: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tasks,
        };
        let mut decoder = Decoder::aligned(Framing::HANDSHAKE);
        let greeting = tokio::time::sleep(GREETING_MAX);
        tokio::pin!(greeting);
        loop {
            tokio::select! {
                read = reader.read(decoder.want()) => {
                    let chunk = read?;
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    let Some(message) = decoder.push(chunk).map_err(io::Error::other)? else { continue };
                    let order = talk.portal.receive(message).map_err(io::Error::other)?;
                    let was_unknown = talk.is_unknown;
                    talk.carry_out(order).await;
                    decoder.agree(talk.portal.framing());
                    if talk.is_unknown && !was_unknown {
                        greeting.as_mut().reset(Instant::now() + UNKNOWN_MAX);
                    }
                }
                Some((stream, what)) = happenings.recv() => talk.take_in(stream, what).await,
                Some((service, stream)) = offered.recv() => talk.offer(&service, stream).await,
                _ = talk.adb.closed() => return Ok(()),
                // The writer has ended: the client does not read.
                Some(ended) = talk.tasks.join_next() => if let Ok(Ended::Writer) = ended { return Ok(()) },
                () = &mut greeting, if !talk.portal.is_connected() => return Ok(()),
            }
        }
    }

    fn in_slot(&self, slot: &SlotName) -> Option<(PhoneId, Adb)> {
        let snapshot = self.snapshots.borrow();
        let phone = snapshot.phones.iter().find(|phone| phone.slot.as_ref() == Some(slot))?;
        Some((phone.id.clone(), self.online.at(phone.endpoint.as_ref()?)?))
    }
}

/// What a stream's task tells.
enum Happened {
    Opened,
    Said(Bytes),
    Taken,
    Ended,
}

/// Which task has ended.
enum Ended {
    Stream,
    Writer,
}

/// A stream as the connection sees it. Dropping it ends the stream behind what was given.
struct Handle {
    give: mpsc::Sender<Bytes>,
    go_on: Arc<Semaphore>,
}

/// One connection of a client.
struct Talk<'s> {
    server: &'s AdbServer,
    slot: &'s SlotName,
    phone: PhoneId,
    adb: Adb,
    who: String,
    /// Those who are let in; everybody, if there are none.
    keys: Option<Arc<KnownKeys>>,
    /// What the client is to sign.
    token: Option<[u8; 20]>,
    /// It has offered a key that nobody here knows.
    is_unknown: bool,
    portal: Portal,
    /// Some messages a stream at most: each waits for its answer.
    outgoing: mpsc::UnboundedSender<Message>,
    happened: mpsc::Sender<(u32, Happened)>,
    offers: mpsc::Sender<(String, Stream)>,
    streams: BTreeMap<u32, Handle>,
    /// Streams of the phone that the client has not taken yet.
    waiting: BTreeMap<u32, Stream>,
    tasks: JoinSet<Ended>,
}

impl Talk<'_> {
    async fn carry_out(&mut self, order: Option<Order>) {
        match order {
            // The writer's end ends the connection.
            Some(Order::Send(message)) => drop(self.outgoing.send(message)),
            Some(Order::Challenge) => self.challenge(),
            Some(Order::Check { signature }) => self.check(&signature),
            Some(Order::Unknown { key }) => self.leave_waiting(&key),
            Some(Order::Open { stream, service }) => self.open(stream, service).await,
            Some(Order::Begin { stream }) => {
                if let Some(taken) = self.waiting.remove(&stream) {
                    self.start(stream, Family::of("reverse:"), Source::Taken(taken));
                }
            }
            Some(Order::Give { stream, bytes }) => {
                if let Some(handle) = self.streams.get(&stream) {
                    // There is room for the one message that may be under way.
                    let _ = handle.give.try_send(bytes);
                }
            }
            Some(Order::Continue { stream }) => {
                if let Some(handle) = self.streams.get(&stream) {
                    handle.go_on.add_permits(1);
                }
            }
            Some(Order::End { stream, answer }) => {
                self.end(stream);
                if let Some(answer) = answer {
                    drop(self.outgoing.send(answer));
                }
            }
            None => {}
        }
    }

    fn challenge(&mut self) {
        let token = rand::random();
        self.token = Some(token);
        if let Some(Order::Send(message)) = self.portal.challenge(token) {
            // The writer's end ends the connection.
            let _ = self.outgoing.send(message);
        }
    }

    fn check(&mut self, signature: &[u8]) {
        let signer = self.token.take().zip(self.keys.as_ref()).and_then(|(token, keys)| keys.signer(&token, signature));
        let Some(owner) = signer.map(str::to_owned) else { return self.challenge() };
        debug!("slot {}: {owner} is let in from {}", self.slot, self.who);
        self.who = owner;
        if let Some(Order::Send(message)) = self.portal.admit() {
            // The writer's end ends the connection.
            let _ = self.outgoing.send(message);
        }
    }

    /// Told once: a client may offer its key again and again.
    fn leave_waiting(&mut self, key: &[u8]) {
        if !std::mem::replace(&mut self.is_unknown, true) {
            let text = String::from_utf8_lossy(key);
            let owner = owner_in(text.split_once(' ').map_or("", |(_, owner)| owner));
            warn!("slot {}: {owner} at {} is not let in: none of [adb_server] keys is his", self.slot, self.who);
        }
    }

    async fn take_in(&mut self, stream: u32, what: Happened) {
        let order = match what {
            Happened::Opened => self.portal.opened(stream),
            Happened::Said(bytes) => self.portal.said(stream, bytes),
            Happened::Taken => self.portal.taken(stream),
            Happened::Ended => {
                self.end(stream);
                self.portal.ended(stream)
            }
        };
        self.carry_out(order).await;
    }

    fn end(&mut self, stream: u32) {
        self.waiting.remove(&stream);
        self.streams.remove(&stream);
    }

    async fn open(&mut self, stream: u32, service: String) {
        if let Some(why) = self.refusal(&service) {
            warn!("slot {}: {} is refused {}: {why}", self.slot, self.who, Family::of(&service));
            let order = self.portal.ended(stream);
            if let Some(Order::Send(message)) = order {
                // The writer's end ends the connection.
                let _ = self.outgoing.send(message);
            }
            return;
        }
        if let Some(local) = local_end(&service) {
            // The client's own server knows whether it asked for this tunnel.
            if let Ok(mut incoming) = self.adb.listen(local).await {
                let (offers, local) = (self.offers.clone(), local.to_owned());
                self.tasks.spawn(async move {
                    while let Some(stream) = incoming.next().await {
                        if offers.send((local.clone(), stream)).await.is_err() {
                            break;
                        }
                    }
                    Ended::Stream
                });
            }
        }
        self.server.expect(&self.phone, &service).await;
        let family = Family::of(&service);
        self.start(stream, family, Source::Service(service));
    }

    fn refusal(&self, service: &str) -> Option<String> {
        if self.keys.is_some() && !roles::allow_at_slot(service) {
            return Some("it would end tunnels of others".to_owned());
        }
        let snapshot = self.server.snapshots.borrow();
        let phone = snapshot.phones.iter().find(|phone| phone.id == self.phone)?;
        phone.held_against(&self.who).map(crate::rack::lease::Lease::sentence)
    }

    /// The phone opens a stream to the client's host.
    async fn offer(&mut self, service: &str, stream: Stream) {
        // One that finds no room is closed by its drop.
        let Some((number, order)) = self.portal.offer(service) else { return };
        self.waiting.insert(number, stream);
        self.carry_out(Some(order)).await;
    }

    fn start(&mut self, stream: u32, family: Family, source: Source) {
        let (give, given) = mpsc::channel(1);
        let go_on = Arc::new(Semaphore::new(1));
        let carried = Carried {
            stream,
            happened: self.happened.clone(),
            go_on: Arc::clone(&go_on),
            payload_max: self.portal.framing().payload_max,
        };
        let (adb, keeper) = (self.adb.for_person(&self.who), self.server.keeper.clone());
        let (phone, who) = (self.phone.clone(), self.who.clone());
        self.tasks.spawn(async move {
            match keeper.begin(&phone, &who, family).await {
                Ok(tally) => carried.run(adb, source, given, &tally).await,
                Err(why) => {
                    // This protocol has no words for it.
                    warn!("{who} is refused {family} of {phone}: {why}");
                    carried.tell(Happened::Ended).await;
                }
            }
            Ended::Stream
        });
        self.streams.insert(stream, Handle { give, go_on });
    }
}

/// The address on the client's host that a tunnel leads to.
fn local_end(service: &str) -> Option<&str> {
    let pair = service.strip_prefix("reverse:forward:")?;
    pair.strip_prefix("norebind:").unwrap_or(pair).split_once(';').map(|(_, local)| local)
}

/// Where a stream comes from.
enum Source {
    Service(String),
    Taken(Stream),
}

/// A stream under way.
struct Carried {
    stream: u32,
    happened: mpsc::Sender<(u32, Happened)>,
    go_on: Arc<Semaphore>,
    payload_max: usize,
}

impl Carried {
    async fn run(self, adb: Adb, source: Source, mut given: mpsc::Receiver<Bytes>, tally: &StreamUse) {
        let stream = match source {
            Source::Taken(stream) => stream,
            Source::Service(service) => match adb.open(service).await {
                Ok(stream) => {
                    self.tell(Happened::Opened).await;
                    stream
                }
                Err(error) => {
                    debug!("{error}");
                    return self.tell(Happened::Ended).await;
                }
            },
        };
        let upload = async {
            while let Some(bytes) = given.recv().await {
                let len = bytes.len();
                if stream.write(bytes).await.is_err() {
                    // What the phone said before is still to be read.
                    return std::future::pending().await;
                }
                tally.add_to_phone(len);
                self.tell(Happened::Taken).await;
            }
        };
        let is_over = tokio::select! {
            () = upload => false,
            is_over = self.download(&stream, tally) => is_over,
        };
        if is_over {
            self.tell(Happened::Ended).await;
        } else {
            stream.finish().await;
        }
    }

    /// Whether the phone has ended it, and not the client.
    async fn download(&self, stream: &Stream, tally: &StreamUse) -> bool {
        loop {
            let Ok(Some(mut bytes)) = stream.read().await else { return true };
            tally.add_from_phone(bytes.len());
            while !bytes.is_empty() {
                let Ok(permit) = self.go_on.acquire().await else { return false };
                permit.forget();
                let now = bytes.split_to(bytes.len().min(self.payload_max));
                self.tell(Happened::Said(now)).await;
            }
        }
    }

    async fn tell(&self, what: Happened) {
        // A connection that has ended needs to know nothing any more.
        let _ = self.happened.send((self.stream, what)).await;
    }
}

async fn write_all(mut writer: TcpWriter, mut queue: mpsc::UnboundedReceiver<Message>) -> Ended {
    while let Some(message) = queue.recv().await {
        let written = timeout(WRITE_MAX, writer.write(message.header.emit(), message.payload)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    Ended::Writer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_names_the_clients_end() {
        assert_eq!(local_end("reverse:forward:norebind:localabstract:scrcpy;tcp:27183"), Some("tcp:27183"));
        assert_eq!(local_end("reverse:list-forward"), None);
        assert_eq!(local_end("shell:a;b"), None);
    }
}
