//! The server's door: a task a connection, which reads requests and answers them, or becomes a stream of a phone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::answer::{self, OKAY, VERSION};
use super::client::{Client, Entrance};
use super::devices::{Condition, Device, DeviceList, DeviceState, Numbers, Target};
use super::forward::{Forwards, PhoneRoute};
use super::keeper::{AuditEntry, Keeper};
use super::request::{HEAD_LEN, Host, Listing, Question, Request, RequestError, TransportReply, WaitFor, text_len};
use super::reverse::{Tunnel, host_address};
use super::roles;
use super::socket::{ReadHalf, WriteHalf};
use super::splice::{linger, splice};
use super::uses::{Family, time_away};
use crate::accept::accept_all;
use crate::adb::driver::Adb;
use crate::adb::online::OnlinePhones;
use crate::rack::ids::PhoneId;
use crate::rack::snapshot::PhoneView;
use crate::rack::{Event, Snapshot};

/// The most connections at once by each entrance, so that a crowd at one does not shut the other; the next one waits in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 512;
/// The most tunnels from phones to this host at once.
const TUNNELS_MAX: usize = 256;
/// The longest between a connection and its whole request, and between its binding to a phone and the service: clients ask at once.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// The longest that a client may take to read an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What this server can do, as `host-features` tells: Google's adb 34 without mDNS and libusb.
const HOST_FEATURES: &str = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,apex,abb,fixed_push_symlink_timestamp,abb_exec,remount_shell,track_app,sendrecv_v2,sendrecv_v2_brotli,sendrecv_v2_lz4,sendrecv_v2_zstd,sendrecv_v2_dry_run_send,push_sync";

/// The adb server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdbServer {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) online: OnlinePhones,
    events: mpsc::Sender<Event>,
    devices: watch::Receiver<Arc<DeviceList>>,
    pub(super) keeper: Keeper,
    forwards: Forwards<PhoneRoute>,
    tunnels: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl AdbServer {
    /// A server of the phones in `snapshots` that are `online`. Uses that begin and that are over go to
    /// `records`; what it starts ends with `cancel`.
    #[must_use]
    pub fn start(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        online: OnlinePhones,
        events: mpsc::Sender<Event>,
        records: mpsc::Sender<AuditEntry>,
        cancel: &CancellationToken,
    ) -> Self {
        let (tasks, keeper) = (TaskTracker::new(), Keeper::new(online.clone()));
        let mut numbers = Numbers::default();
        let (list, devices) = watch::channel(Arc::new(list_of(&mut numbers, &snapshots, &online)));
        tokio::spawn(follow(numbers, snapshots.clone(), online.clone(), list, cancel.clone()));
        tokio::spawn(keeper.clone().run(events.clone(), records, cancel.clone()));
        let forwards = Forwards::new(tasks.clone());
        let tunnels = Arc::new(Semaphore::new(TUNNELS_MAX));
        Self { snapshots, online, events, devices, keeper, forwards, tunnels, tasks }
    }

    /// Serves programs at the Unix socket until `cancel`: its permissions say who may.
    pub async fn serve_unix(self, listener: UnixListener, cancel: CancellationToken) {
        self.serve(Entrance::Unix(listener), cancel).await;
    }

    /// Serves programs at a TCP port of the loopback until `cancel`.
    pub async fn serve_tcp(self, listener: TcpListener, cancel: CancellationToken) {
        self.serve(Entrance::Loopback(listener), cancel).await;
    }

    async fn serve(self, entrance: Entrance, cancel: CancellationToken) {
        let carry = |(client, (reader, writer))| {
            let server = self.clone();
            async move {
                if let Err(error) = server.converse(&client, reader, writer).await {
                    debug!("an adb client broke off: {error}");
                }
            }
        };
        let (permits, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), JoinSet::new());
        let accepting = accept_all("adb client", &permits, &mut connections, || entrance.accept(), carry);
        cancel.run_until_cancelled(accepting).await;
        self.forwards.end_all();
    }

    /// Requests of one connection, until one of them is its last: all are but those that bind it to a phone.
    pub(super) async fn converse(
        &self,
        client: &Client,
        mut reader: ReadHalf,
        mut writer: WriteHalf,
    ) -> io::Result<()> {
        let mut bound = None;
        loop {
            let Ok(text) = timeout(REQUEST_MAX, read_request(&mut reader)).await else { return Ok(()) };
            let request = match text? {
                Some(text) => text.and_then(|text| Request::parse(&text)),
                None => return Ok(()),
            };
            let refused = request.as_ref().ok().and_then(|request| roles::allow(client.role(), request).err());
            let answer = match request {
                _ if refused.is_some() => answer::fail(&refused.unwrap_or_default()),
                Ok(Request::Host(Host::Transport(target, reply))) => match self.bind(&target, bound) {
                    Ok(device) => {
                        bound = Some(device);
                        let answer = match reply {
                            TransportReply::Plain => OKAY.to_vec(),
                            TransportReply::WithId => answer::transport(device),
                        };
                        tell(&mut writer, &answer).await?;
                        continue;
                    }
                    Err(why) => answer::fail(&why),
                },
                Ok(Request::Host(Host::TrackDevices(listing))) => return self.track(listing, reader, writer).await,
                Ok(Request::Host(Host::WaitFor(wait))) => return self.wait(&wait, reader, writer).await,
                Ok(Request::Host(Host::Emulator)) => Vec::new(),
                Ok(Request::Host(host)) => {
                    self.answer(client, host, bound).await.unwrap_or_else(|why| answer::fail(&why))
                }
                Ok(Request::Service(service)) => match self.open(client, service, bound).await {
                    Ok(opened) => {
                        tell(&mut writer, OKAY).await?;
                        return self.carry(opened, reader, writer).await;
                    }
                    Err(why) => answer::fail(&why),
                },
                Err(RequestError::BadWait(why)) => [OKAY, &answer::fail(&why)].concat(),
                Err(error) => answer::fail(&error.to_string()),
            };
            tell(&mut writer, &answer).await?;
            linger(reader, writer).await;
            return Ok(());
        }
    }

    fn bind(&self, target: &Target, bound: Option<u64>) -> Result<u64, String> {
        self.devices.borrow().choose(&about(target, bound), Condition::Connected).map(|device| device.id)
    }

    async fn answer(&self, client: &Client, host: Host, bound: Option<u64>) -> Result<Vec<u8>, String> {
        let devices = Arc::clone(&self.devices.borrow());
        Ok(match host {
            Host::Version => answer::okay(&format!("{VERSION:04x}")),
            Host::Devices(listing) => answer::okay(&devices.text(listing)),
            Host::HostFeatures => answer::okay(HOST_FEATURES),
            Host::About(target, Question::Reconnect) => {
                let target = about(&target, bound);
                let device = devices.choose(&target, Condition::AnyState);
                let told = device.and_then(|device| self.reconnect(client, device));
                answer::okay(&told.unwrap_or_else(|why| why))
            }
            Host::About(target, question) => {
                let device = devices.choose(&about(&target, bound), Condition::Connected)?;
                answer::okay(&about_device(device, question))
            }
            Host::Forward { target, rebind, local, remote } => {
                let device = devices.choose(&about(&target, bound), Condition::Connected)?;
                let (phone, adb, who) = self.admit(client, device)?;
                let route = PhoneRoute { phone, adb, remote, who, keeper: self.keeper.clone() };
                self.forwards.begin(&local, rebind, route).await?
            }
            Host::KillForward { local } => self.forwards.end(&local)?,
            Host::KillForwardAll => self.forwards.end_all(),
            Host::ListForward => self.forwards.listed(),
            // What is offline farmhand opens by itself, as often as its recovery allows.
            Host::ReconnectOffline | Host::MdnsServices | Host::MdnsCheck => answer::okay(""),
            Host::Connect(address) => answer::okay(&connect(&devices, &address)),
            Host::Disconnect(address) => return Err(disconnect(&devices, &address)),
            Host::Pair => [OKAY, &answer::fail("farmhand does not pair with phones over Wi-Fi")].concat(),
            Host::Kill => {
                return Err(
                    "this adb server is farmhand, the rack's daemon: it is stopped by `systemctl stop farmhand`"
                        .to_owned(),
                );
            }
            // Each is taken before it comes here.
            Host::Transport(..) | Host::TrackDevices(_) | Host::WaitFor(_) | Host::Emulator => Vec::new(),
        })
    }

    /// Ends the phone's connection: recovery opens it again.
    fn reconnect(&self, client: &Client, device: &Device) -> Result<String, String> {
        if device.state == DeviceState::Device {
            let (_, adb, _) = self.admit(client, device)?;
            adb.close();
        }
        Ok(format!("reconnecting {} [{}]\n", device.phone, device.state.as_str()))
    }

    /// The phone's connection, if nobody else holds the phone, and who uses it.
    fn admit(&self, client: &Client, device: &Device) -> Result<(PhoneId, Adb, String), String> {
        let who = client.name();
        let snapshot = self.snapshots.borrow();
        let phone = snapshot.phones.iter().find(|phone| phone.id == device.phone);
        if let Some(hold) = phone.and_then(|phone| phone.held_against(&who)) {
            let name = phone.map(called).unwrap_or_default();
            return Err(format!(
                "{name} is taken: {}; ask there, or end the hold with `farmhand phone {name} release`",
                hold.sentence()
            ));
        }
        let adb = self.online.at(&device.endpoint).ok_or("device offline")?;
        Ok((device.phone.clone(), adb.for_person(&who), who))
    }

    async fn open(&self, client: &Client, service: String, bound: Option<u64>) -> Result<Opened, String> {
        let bound = bound.ok_or("device offline (no transport)")?;
        let devices = Arc::clone(&self.devices.borrow());
        let device = devices
            .choose(&Target::Id(bound), Condition::Connected)
            .map_err(|_| "device offline (transport offline)".to_owned())?;
        let (phone, adb, who) = self.admit(client, device)?;
        let tunnel = host_address(&service)?;
        let tally = self.keeper.begin(&phone, &who, Family::of(&service)).await?;
        if let Some((address, local)) = tunnel {
            let permit = self.tunnels.clone().try_acquire_owned();
            let _permit = permit.map_err(|_| format!("{TUNNELS_MAX} tunnels to this host stand already"))?;
            // First, so that the phone finds somebody at the very first connection.
            let incoming = adb.listen(local).await.map_err(|fault| fault.to_string())?;
            let (phone, who, keeper) = (phone.clone(), who.clone(), self.keeper.clone());
            let tunnel = Tunnel { incoming, address, adb: adb.clone(), phone, who, keeper, _permit };
            self.tasks.spawn(tunnel.run());
        }
        self.expect(&phone, &service).await;
        let installs = changes_packages(&service);
        let stream = adb.open(service).await.map_err(|error| {
            debug!("{phone}: {error}");
            // Google's server says no more, and scripts look for it.
            "closed".to_owned()
        })?;
        Ok(Opened { stream, tally, piece_max: adb.piece_max(), changed: installs.then_some(phone) })
    }

    /// Has recovery know of a service that ends the phone's connections.
    pub(super) async fn expect(&self, phone: &PhoneId, service: &str) {
        if let Some(time) = time_away(service) {
            // A model that has ended recovers nothing any more.
            let _ = self.events.send(Event::Leaves { phone: phone.clone(), time }).await;
        }
    }

    async fn carry(&self, opened: Opened, reader: ReadHalf, writer: WriteHalf) -> io::Result<()> {
        splice(reader, writer, opened.stream, opened.piece_max, &opened.tally).await;
        if let Some(phone) = opened.changed {
            // A model that has ended shows nothing any more.
            let _ = self.events.send(Event::Changed { phone }).await;
        }
        Ok(())
    }

    /// The list now and at each change, until the client hangs up.
    async fn track(&self, listing: Listing, mut reader: ReadHalf, mut writer: WriteHalf) -> io::Result<()> {
        let mut devices = self.devices.clone();
        let mut shown = devices.borrow_and_update().text(listing);
        tell(&mut writer, &answer::okay(&shown)).await?;
        loop {
            tokio::select! {
                changed = devices.changed() => if changed.is_err() { return Ok(()) },
                () = hung_up(&mut reader) => return Ok(()),
            }
            let text = devices.borrow_and_update().text(listing);
            if text != shown {
                tell(&mut writer, &answer::text(&text)).await?;
                shown = text;
            }
        }
    }

    async fn wait(&self, wait: &WaitFor, mut reader: ReadHalf, mut writer: WriteHalf) -> io::Result<()> {
        tell(&mut writer, OKAY).await?;
        let mut devices = self.devices.clone();
        let met = devices.wait_for(|devices| devices.awaited(wait).is_some());
        let met = tokio::select! {
            met = met => met.ok().and_then(|devices| devices.awaited(wait)),
            () = hung_up(&mut reader) => return Ok(()),
        };
        let answer = match met {
            Some(Ok(())) => OKAY.to_vec(),
            Some(Err(why)) => answer::fail(&why),
            None => return Ok(()),
        };
        tell(&mut writer, &answer).await?;
        linger(reader, writer).await;
        Ok(())
    }
}

/// A stream that is open.
struct Opened {
    stream: crate::adb::driver::Stream,
    tally: super::keeper::StreamUse,
    piece_max: usize,
    /// The phone on which packages may have changed.
    changed: Option<PhoneId>,
}

/// A connection that is bound asks about its phone, unless it names another one.
fn about(target: &Target, bound: Option<u64>) -> Target {
    match (target, bound) {
        (Target::Any, Some(id)) => Target::Id(id),
        _ => target.clone(),
    }
}

fn about_device(device: &Device, question: Question) -> String {
    match question {
        Question::Features => device.features(),
        Question::State => device.state.as_str().to_owned(),
        Question::Serial => device.phone.to_string(),
        Question::DevPath => device.devpath().unwrap_or_else(|| "unknown".to_owned()),
        Question::Reconnect => String::new(),
    }
}

fn connect(devices: &DeviceList, address: &str) -> String {
    match devices.choose(&Target::Named(address.to_owned()), Condition::Connected) {
        Ok(_) => format!("already connected to {address}"),
        Err(_) => format!(
            "failed to connect to '{address}': farmhand takes phones from its configuration: [[slot]] with endpoint = \"tcp:{address}\""
        ),
    }
}

fn disconnect(devices: &DeviceList, address: &str) -> String {
    if !address.is_empty() && devices.choose(&Target::Named(address.to_owned()), Condition::AnyState).is_err() {
        return format!("no such device '{address}'");
    }
    "farmhand keeps the phones of its configuration connected; take the [[slot]] out of farmhand.toml".to_owned()
}

fn changes_packages(service: &str) -> bool {
    let is_command = ["abb", "exec:", "shell"].iter().any(|family| service.starts_with(family));
    is_command && (service.contains("install")) && (service.contains("package") || service.contains("pm "))
}

fn called(phone: &PhoneView) -> String {
    phone.slot.as_ref().map_or_else(|| phone.id.to_string(), ToString::to_string)
}

/// The next request's text; none when the client has hung up.
pub(super) async fn read_request(reader: &mut ReadHalf) -> io::Result<Option<Result<Vec<u8>, RequestError>>> {
    let mut head = [0; HEAD_LEN];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = match text_len(head) {
        Ok(len) => len,
        Err(error) => return Ok(Some(Err(error))),
    };
    // Grows as it comes: whoever announces 64 kB and sends nothing costs nothing.
    let mut text = Vec::new();
    let read = reader.take(len as u64).read_to_end(&mut text).await?;
    Ok((read == len).then_some(Ok(text)))
}

pub(super) async fn tell(writer: &mut WriteHalf, bytes: &[u8]) -> io::Result<()> {
    let said = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    let told = timeout(ANSWER_MAX, said).await;
    told.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not read its answer")))
}

/// Ends when the client has; what it says meanwhile is dropped.
async fn hung_up(reader: &mut ReadHalf) {
    let mut unread = [0; 64];
    while reader.read(&mut unread).await.is_ok_and(|read| read > 0) {}
}

fn list_of(numbers: &mut Numbers, snapshots: &watch::Receiver<Arc<Snapshot>>, online: &OnlinePhones) -> DeviceList {
    let snapshot = Arc::clone(&snapshots.borrow());
    numbers.list(&snapshot.phones, |endpoint| online.seat_at(endpoint).map(|(seat, adb)| (seat, adb.shared_banner())))
}

/// Keeps the list: seats change at once, the rest with the snapshots.
async fn follow(
    mut numbers: Numbers,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    online: OnlinePhones,
    list: watch::Sender<Arc<DeviceList>>,
    cancel: CancellationToken,
) {
    let mut seats = online.changes();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            changed = seats.changed() => if changed.is_err() { return },
        }
        snapshots.mark_unchanged();
        let fresh = list_of(&mut numbers, &snapshots, &online);
        list.send_if_modified(|known| {
            let is_new = **known != fresh;
            if is_new {
                *known = Arc::new(fresh);
            }
            is_new
        });
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
