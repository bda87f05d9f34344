//! The server's sockets: takes connections, frames them, and carries tasks to the device that they are for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use farmhand::central::catalogue;
use farmhand::central::proto::{self, EnumMsgType};
use farmhand::clock::UnixMillis;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use prost_types::Any;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use super::acknowledge::Acknowledge;
use super::faults;
use super::record::{DeviceRecord, Record};
use super::session::{self, Seen, Session, Upgrade};
use super::tls::{self, Pipe, ServerTls};
use crate::rack_file::{Allow, CentralAck, CentralFault};

/// A reference server as the rack file or the command line describes it.
#[derive(Clone, Debug)]
pub struct CentralSpec {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A session that is silent for so long is ended.
    pub silence_max: Duration,
    /// Which tasks it may send.
    pub allow: Allow,
    /// What is wrong with it.
    pub fault: Option<CentralFault>,
    /// How it answers notices.
    pub ack: CentralAck,
    /// Every frame of both directions is appended to this file, as it is on the wire: length and bytes.
    pub capture: Option<PathBuf>,
    /// TLS, if it speaks it.
    pub tls: Option<ServerTls>,
}

/// A reference server; it ends when it is dropped.
pub struct CentralServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: AsyncMutex<Option<Running>>,
}

/// Why a task was not sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    /// No session of this device is open.
    #[error(
        "no device is registered here as {imei}: after a start of this server each phone's line comes back within a minute"
    )]
    NotRegistered {
        /// The device.
        imei: String,
    },
    /// The task acts on people, and the server was started without that permission.
    #[error("{task} acts on people, and this server was started without `--allow people`")]
    NotAllowed {
        /// The task, by name and number.
        task: String,
    },
}

struct Shared {
    spec: CentralSpec,
    record: Mutex<Record>,
    fault: Mutex<Option<CentralFault>>,
    /// Who can be reached, by credential, and by which session.
    reachable: Mutex<BTreeMap<String, (u64, mpsc::Sender<Outgoing>)>>,
    capture: Option<Mutex<File>>,
    acceptor: Option<TlsAcceptor>,
}

struct Running {
    stop: CancellationToken,
    accepting: tokio::task::JoinHandle<()>,
}

/// Something that another task sends on a session.
enum Outgoing {
    Task { code: i32, content: Option<Any>, sent: oneshot::Sender<i64> },
    ReplacedByAnother,
}

type Frames = Framed<Box<dyn Pipe>, LengthDelimitedCodec>;

/// The longest frame that is taken, as farmhand's own default.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Tasks that wait for one device; the sender waits when it is full.
const OUTGOING_MAX: usize = 16;
/// A device that does not read for so long is let go.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

impl CentralServer {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The address is taken, the capture file cannot be opened, or a file for TLS is wrong.
    pub async fn start(spec: CentralSpec) -> io::Result<Self> {
        let capture = match &spec.capture {
            Some(file) => Some(Mutex::new(File::options().create(true).append(true).open(file)?)),
            None => None,
        };
        let acceptor = spec.tls.as_ref().map(ServerTls::acceptor).transpose()?;
        let fault = Mutex::new(spec.fault);
        let listen = spec.listen;
        let (record, reachable) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { spec, record, fault, reachable, capture, acceptor });
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let running = AsyncMutex::new(Some(Running::start(listener, &shared)));
        Ok(Self { address, shared, running })
    }

    /// Where it listens, also while it is stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and listens no more, as a server that was killed.
    pub async fn stop(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.stop.cancel();
            let _ = running.accepting.await;
        }
    }

    /// Listens again at the same address; does nothing if it already does.
    ///
    /// # Errors
    ///
    /// The address was taken meanwhile.
    pub async fn resume(&self) -> io::Result<()> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            *running = Some(Running::start(listener, &self.shared));
        }
        Ok(())
    }

    /// What it has seen so far.
    #[must_use]
    pub fn record(&self) -> Record {
        lock(&self.shared.record).clone()
    }

    /// From now on it behaves like this towards what it receives.
    pub fn set_fault(&self, fault: Option<CentralFault>) {
        *lock(&self.shared.fault) = fault;
    }

    /// Asks for an upgrade of one device's app; gives the `Id` of the notice.
    ///
    /// # Errors
    ///
    /// The device is not registered here.
    pub async fn upgrade(&self, imei: &str, upgrade: &Upgrade) -> Result<i64, SendError> {
        let content = session::upgrade_content(imei, upgrade);
        self.send(imei, EnumMsgType::UpgradeDeviceAppNotice as i32, Some(content)).await
    }

    /// Sends any message of the centre to one device; gives its `Id`.
    ///
    /// # Errors
    ///
    /// The device is not registered here, or the task acts on people and that was not permitted.
    pub async fn send(&self, imei: &str, code: i32, content: Option<Any>) -> Result<i64, SendError> {
        if !session::may_send(code, self.shared.spec.allow) {
            return Err(SendError::NotAllowed { task: catalogue::describe(code) });
        }
        let away = || SendError::NotRegistered { imei: imei.to_owned() };
        let (_, device) = lock(&self.shared.reachable).get(imei).cloned().ok_or_else(away)?;
        let (sent, id) = oneshot::channel();
        device.send(Outgoing::Task { code, content, sent }).await.map_err(|_| away())?;
        id.await.map_err(|_| away())
    }
}

impl Drop for CentralServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut().take() {
            running.stop.cancel();
        }
    }
}

impl Running {
    fn start(listener: TcpListener, shared: &Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, Arc::clone(shared), stop.clone()));
        Self { stop, accepting }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let number = {
                    let mut record = lock(&shared.record);
                    record.connections += 1;
                    record.connections
                };
                connections.spawn(serve(stream, number, Arc::clone(&shared), stop.clone()));
            }
            Err(error) => tracing::warn!(%error, "a connection could not be taken"),
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, number: u64, shared: Arc<Shared>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    // Whoever is let in is heard, and nobody else is waited for.
    let shaken = stop.run_until_cancelled(tls::shake_hands(stream, shared.acceptor.clone())).await;
    let stream = match shaken {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => {
            lock(&shared.record).bad_handshakes += 1;
            return tracing::info!(session = number, %error, "no TLS was agreed on");
        }
        None => return,
    };
    let codec = LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec();
    let (outgoing, tasks) = mpsc::channel(OUTGOING_MAX);
    let (frames, session, acknowledge) =
        (Framed::new(stream, codec), Session::new(number), Acknowledge::new(shared.spec.ack));
    let connection = Connection { frames, session, number, shared, outgoing, acknowledge };
    connection.serve(tasks, stop).await;
}

struct Connection {
    frames: Frames,
    session: Session,
    number: u64,
    shared: Arc<Shared>,
    /// Registered under the device's credential once it authenticated.
    outgoing: mpsc::Sender<Outgoing>,
    acknowledge: Acknowledge,
}

/// Why a connection ends, as a sentence.
type End = String;

impl Connection {
    async fn serve(mut self, mut tasks: mpsc::Receiver<Outgoing>, stop: CancellationToken) {
        let silence_max = self.shared.spec.silence_max;
        let why = loop {
            let step = tokio::select! {
                () = stop.cancelled() => Err("the server was stopped".to_owned()),
                frame = timeout(silence_max, self.frames.next()) => match frame {
                    Ok(Some(Ok(frame))) => self.receive(frame.freeze()).await,
                    Ok(Some(Err(error))) => {
                        lock(&self.shared.record).bad_frames += 1;
                        Err(format!("what came is no frame: {error}"))
                    }
                    Ok(None) => Err("the device ended the connection".to_owned()),
                    Err(_) => Err(format!("the device was silent for {silence_max:?}")),
                },
                Some(task) = tasks.recv() => self.pass(task).await,
                late = self.acknowledge.due() => self.send(&late).await,
            };
            if let Err(why) = step {
                break why;
            }
        };
        self.end(why);
    }

    async fn receive(&mut self, frame: Bytes) -> Result<(), End> {
        self.shared.capture(&frame);
        let Ok(message) = proto::TransportMessage::decode(frame) else {
            lock(&self.shared.record).bad_frames += 1;
            return Err("a frame is no TransportMessage".to_owned());
        };
        let fault = *lock(&self.shared.fault);
        if fault == Some(CentralFault::Silent) {
            return Ok(());
        }
        if fault == Some(CentralFault::ReadsSlowly) {
            tokio::time::sleep(faults::SLOWLY).await;
        }
        let step = self.session.receive(&message, fault);
        let registered = matches!(step.seen, Some(Seen::Registered { .. }));
        if let Some(seen) = step.seen {
            self.note(seen);
        }
        let answer = step.answer.and_then(|answer| self.acknowledge.answer(&message, answer, fault));
        let Some(fault) = fault else {
            return match answer {
                Some(answer) => self.send(&answer).await,
                None => Ok(()),
            };
        };
        for next in faults::moves(fault, answer, registered, &mut self.session) {
            self.make(next).await?;
        }
        Ok(())
    }

    async fn make(&mut self, next: faults::Move) -> Result<(), End> {
        match next {
            faults::Move::Send(message) => self.send(&message).await,
            faults::Move::Frame(bytes) => self.send_bytes(bytes).await,
            faults::Move::Raw(bytes) => self.send_raw(&bytes).await,
            faults::Move::ByteByByte(message) => {
                for byte in faults::wire(&message) {
                    self.send_raw(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            faults::Move::End(why) => Err(why),
        }
    }

    async fn pass(&mut self, task: Outgoing) -> Result<(), End> {
        match task {
            Outgoing::Task { code, content, sent } => {
                let message = self.session.originate(code, content);
                self.send(&message).await?;
                // Whoever asked may have gone; the task is on its way all the same.
                let _ = sent.send(message.id);
                Ok(())
            }
            Outgoing::ReplacedByAnother => {
                let notice = proto::AccountForceOfflineNoticeMessage { reason: 1, ..Default::default() };
                let content = session::any("AccountForceOfflineNoticeMessage", &notice);
                let message = self.session.originate(EnumMsgType::AccountForceOfflineNotice as i32, Some(content));
                self.send(&message).await?;
                Err("another connection authenticated as this device".to_owned())
            }
        }
    }

    /// Writes down what was learnt; a device that has just registered can be reached from now on.
    fn note(&mut self, seen: Seen) {
        if let Seen::Registered { imei } = &seen {
            let entry = (self.number, self.outgoing.clone());
            let before = lock(&self.shared.reachable).insert(imei.clone(), entry);
            if let Some((number, other)) = before
                && number != self.number
            {
                // A session whose queue is full is stuck and will end by its own deadline.
                let _ = other.try_send(Outgoing::ReplacedByAnother);
            }
        }
        let mut record = lock(&self.shared.record);
        match seen {
            Seen::Refused => record.refusals += 1,
            Seen::BadBody => record.bad_frames += 1,
            _ => {}
        }
        if let Some(imei) = self.session.imei() {
            note_device(record.devices.entry(imei.to_owned()).or_default(), seen);
        }
    }

    fn end(self, why: End) {
        tracing::info!(session = self.number, device = self.session.imei().unwrap_or("?"), why, "a session ended");
        let Some(imei) = self.session.imei() else { return };
        let mut reachable = lock(&self.shared.reachable);
        // A newer session of the same device goes on.
        if reachable.get(imei).is_some_and(|(number, _)| *number == self.number) {
            reachable.remove(imei);
            let mut record = lock(&self.shared.record);
            let device = record.devices.entry(imei.to_owned()).or_default();
            device.connected = false;
            device.ended_at = Some(now());
            device.ended_why = Some(why);
        }
    }

    async fn send(&mut self, message: &proto::TransportMessage) -> Result<(), End> {
        self.send_bytes(Bytes::from(message.encode_to_vec())).await
    }

    async fn send_bytes(&mut self, frame: Bytes) -> Result<(), End> {
        self.shared.capture(&frame);
        match timeout(SEND_TIMEOUT, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the device cannot be reached: {error}")),
            Err(_) => Err(format!("the device did not read for {SEND_TIMEOUT:?}")),
        }
    }

    /// Past the framing.
    async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), End> {
        use tokio::io::AsyncWriteExt as _;
        let sent = timeout(SEND_TIMEOUT, self.frames.get_mut().write_all(bytes)).await;
        sent.map_or_else(|error| Err(error.to_string()), |sent| sent.map_err(|error| error.to_string()))
    }
}

impl Shared {
    fn capture(&self, frame: &[u8]) {
        let Some(file) = &self.capture else { return };
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        if let Err(error) = lock(file).write_all(&bytes) {
            tracing::warn!(%error, "a frame is missing in the capture");
        }
    }
}

fn note_device(device: &mut DeviceRecord, seen: Seen) {
    match seen {
        Seen::Registered { .. } => {
            device.connected = true;
            device.sessions += 1;
            device.session_heartbeats = 0;
            device.registered_at = Some(now());
        }
        Seen::Heartbeat => {
            device.heartbeats += 1;
            device.session_heartbeats += 1;
        }
        Seen::DeviceInfo(info) => {
            device.device_infos += 1;
            device.device_info = Some(info);
        }
        Seen::TaskResult(result) => device.task_results.push(result),
        Seen::Error(error) => device.errors.push(error),
        Seen::Acknowledged { ref_message_id } => device.acknowledged.push(ref_message_id),
        Seen::Other { code } => *device.others.entry(code).or_default() += 1,
        Seen::Refused | Seen::BadBody => {}
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
