//! A phone's USB port, played by a TCP port: what listens on it, and the connections on it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use handset::{AndroidPublicKey, Authorisation, Feature, Handset, KeyStore, Profile, UnknownKey};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::android::Android;
use super::battery::Power;
use super::line::Line;
use super::spec::{AdbGeneration, Auth, PhoneSpec};
use super::tunnels::Tunnels;
use super::{Behind, named, seconds};

/// Connections that wait to be accepted: a host opens one at a time.
const BACKLOG: u32 = 8;

/// Connections at once on one phone; what comes beyond is closed.
const CONNECTIONS_MAX: usize = 16;

/// A phone's port. It listens while the cable is plugged in and the phone is up.
pub(super) struct Port {
    shared: Arc<Shared>,
    address: Mutex<SocketAddr>,
    cable: AtomicBool,
    up: AtomicBool,
    listening: tokio::sync::Mutex<Option<Listening>>,
    stop: CancellationToken,
}

/// What each connection needs.
struct Shared {
    android: Arc<Android>,
    profile: Profile,
    authorisation: Authorisation,
    tunnels: Arc<Tunnels>,
    connections: AtomicUsize,
}

struct Listening {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Port {
    pub(super) fn new(android: Arc<Android>, tunnels: Arc<Tunnels>) -> io::Result<Self> {
        let spec = &android.spec;
        let profile = profile(spec, android.product());
        let address = Mutex::new(spec.listen);
        let authorisation = authorisation(&spec.auth)?;
        let shared = Arc::new(Shared { android, profile, authorisation, tunnels, connections: AtomicUsize::new(0) });
        Ok(Self {
            shared,
            address,
            cable: AtomicBool::new(false),
            up: AtomicBool::new(true),
            listening: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Plugs the cable in for the first time, when nobody else can know of this port.
    pub(super) fn plug_in_first(&self) -> io::Result<()> {
        self.cable.store(true, Ordering::SeqCst);
        let listening = self.listen()?;
        self.listening.try_lock().map_err(io::Error::other)?.replace(listening);
        Ok(())
    }

    pub(super) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cable(&self) -> bool {
        self.cable.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(super) async fn set_cable(&self, plugged: bool) -> io::Result<()> {
        self.cable.store(plugged, Ordering::SeqCst);
        self.settle().await
    }

    pub(super) async fn set_up(&self, up: bool) -> io::Result<()> {
        self.up.store(up, Ordering::SeqCst);
        self.settle().await
    }

    /// Ends all for ever, without waiting for it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Makes what listens agree with cable and phone.
    async fn settle(&self) -> io::Result<()> {
        let mut listening = self.listening.lock().await;
        let wanted = self.cable() && self.up.load(Ordering::SeqCst);
        match (wanted, listening.take()) {
            (true, None) => *listening = Some(self.listen()?),
            (false, Some(open)) => {
                open.stop.cancel();
                // The task can't panic; and if it did, its sockets would be closed as well.
                let _ = open.task.await;
                self.shared.android.set_power(if self.cable() { Power::Usb } else { Power::Battery });
            }
            (_, unchanged) => *listening = unchanged,
        }
        Ok(())
    }

    fn listen(&self) -> io::Result<Listening> {
        let wanted = self.address();
        let listener = named(wanted, bind(wanted))?;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = listener.local_addr()?;
        let stop = self.stop.child_token();
        let task = tokio::spawn(accept_all(listener, Arc::clone(&self.shared), stop.clone()));
        self.shared.android.set_power(Power::Usb);
        Ok(Listening { stop, task })
    }
}

/// With SO_REUSEADDR the same port can be bound at once after its connections were closed.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What phones could before `abb` came.
const MIDDLE_FEATURES: [&str; 3] = [Feature::SHELL_V2, Feature::CMD, Feature::STAT_V2];

/// What a phone tells of itself in CNXN.
pub(super) fn profile(spec: &PhoneSpec, product: String) -> Profile {
    match spec.adb {
        AdbGeneration::Old => Profile::old(product, &spec.model),
        AdbGeneration::Middle => {
            let mut profile = Profile::modern(product, &spec.model);
            profile.features.retain(|feature| MIDDLE_FEATURES.contains(&feature.as_str()));
            profile
        }
        AdbGeneration::Modern => Profile::modern(product, &spec.model),
        AdbGeneration::Windowed => Profile::modern(product, &spec.model).with(Feature::DELAYED_ACK),
    }
}

pub(super) fn authorisation(auth: &Auth) -> io::Result<Authorisation> {
    let keys = match auth {
        Auth::Off => return Ok(Authorisation::Off),
        Auth::Known(files) => {
            let keys = files.iter().map(|file| key(file)).collect::<io::Result<Vec<_>>>()?;
            KeyStore::new(keys, UnknownKey::Ignore)
        }
        Auth::Ask { accept_after_s } => KeyStore::new([], UnknownKey::AcceptAfter(seconds(*accept_after_s))),
    };
    Ok(Authorisation::Keys(keys))
}

fn key(file: &Path) -> io::Result<AndroidPublicKey> {
    let text = named(file.display(), std::fs::read(file))?;
    named(file.display(), AndroidPublicKey::parse(&text).map_err(io::Error::other))
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(phone = shared.android.spec.name, %error, "a connection could not be accepted");
                    continue;
                }
            },
        };
        if connections.len() < CONNECTIONS_MAX {
            connections.spawn(serve(stream, Arc::clone(&shared)));
        }
    }
    connections.shutdown().await;
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One connection, with whatever is wrong with the phone.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let counted = Counted::new(shared);
    let shared = &counted.0;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let mut faults = shared.android.faults.subscribe();
    let refuses = faults.borrow().refuses_auth;
    let authorisation =
        if refuses { Authorisation::Keys(KeyStore::new([], UnknownKey::Ignore)) } else { shared.authorisation.clone() };
    let (line, handle) = Line::new(stream);
    let behind = Behind::new(Arc::clone(&shared.android), Arc::clone(&shared.tunnels));
    let handset = Handset::new(Arc::new(behind), shared.profile.clone(), authorisation);
    let mut session = pin!(handset.serve(line));
    loop {
        let now = faults.borrow_and_update().clone();
        handle.spoil(now.spoils);
        handle.end_after(now.unplugs_after_bytes);
        if now.refuses_auth != refuses {
            // As when its owner revokes all authorisations: the host has to ask anew.
            return;
        }
        tokio::select! {
            // A session that is not polled neither reads nor answers: that is a phone that hangs.
            ended = &mut session, if !now.stalls => {
                if let Err(error) = ended {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(phone = shared.android.spec.name, error, "an ADB connection broke off");
                }
                if handle.is_worn_out() {
                    shared.android.pulled.notify_one();
                }
                if handset.device().ends_adbd() {
                    shared.android.adbd_ended.notify_one();
                }
                return;
            }
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}
