//! What a host can open a stream to.

mod shell;
pub(crate) mod sync;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::banner::{Feature, Profile};
use crate::console::{Console, Protocol, Terminal};
use crate::device::{Adbd, AdbdThen, Device, RebootTarget};
use crate::line::Line;
use crate::reverse::{Listeners, counted, pump};
use crate::stream::{Closed, Stream};

/// A service, as named in OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// `shell:` and `exec:`: a command line, or a shell that reads lines.
    Shell { protocol: Protocol, terminal: Terminal, line: String },
    /// `abb:` and `abb_exec:`: a system service and its arguments.
    Abb { protocol: Protocol, arguments: Vec<String> },
    /// `sync:`: files.
    Sync,
    /// `reboot:`.
    Reboot { target: String },
    /// `root:`, `unroot:`, `tcpip:`, `usb:`.
    Adbd(Adbd),
    /// `remount:`
    Remount,
    /// `reverse:`, which answers by OKAY or FAIL.
    Reverse { request: String },
    /// `track-jdwp`, `track-app`: the processes that can be debugged, and their changes. There are none.
    Track,
    /// `tcp:<port>`: a port of the phone.
    Tcp { port: u16 },
    /// `reconnect`: hang up.
    Reconnect,
}

impl Service {
    /// `None` if this phone has no such service.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let end = payload.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let text = std::str::from_utf8(payload.get(..end)?).ok()?;
        match text {
            "track-jdwp" | "track-app" => return Some(Self::Track),
            "reconnect" => return Some(Self::Reconnect),
            _ => {}
        }
        let (name, argument) = text.split_once(':')?;
        let (name, options) = name.split_once(',').unwrap_or((name, ""));
        match name {
            // `shell,v2,TERM=xterm,raw:line` has its options before the colon.
            "shell" => Some(Self::shell(options, argument)),
            "exec" => Some(Self::Shell { protocol: Protocol::Raw, terminal: Terminal::None, line: c_string(argument) }),
            "abb" => Self::system_service(Protocol::Packets, argument),
            "abb_exec" => Self::system_service(Protocol::Raw, argument),
            "sync" => Some(Self::Sync),
            "reboot" => Some(Self::Reboot { target: argument.to_owned() }),
            "root" => Some(Self::Adbd(Adbd::Root)),
            "unroot" => Some(Self::Adbd(Adbd::NoRoot)),
            "tcpip" => leading_number(argument).map(|port| Self::Adbd(Adbd::Tcp { port })),
            "usb" => Some(Self::Adbd(Adbd::Usb)),
            "remount" => Some(Self::Remount),
            "reverse" => Some(Self::Reverse { request: argument.to_owned() }),
            "tcp" => argument.parse().ok().map(|port| Self::Tcp { port }),
            _ => None,
        }
    }

    /// As adbd: a terminal where none is ruled out and no command given; what it does not know among the options it leaves.
    fn shell(options: &str, line: &str) -> Self {
        let has = |wanted| options.split(',').any(|option| option == wanted);
        let protocol = if has("v2") { Protocol::Packets } else { Protocol::Raw };
        let terminal = if has("pty") { Terminal::Pty } else { Terminal::None };
        Self::Shell { protocol, terminal, line: c_string(line) }
    }

    fn system_service(protocol: Protocol, argument: &str) -> Option<Self> {
        let arguments: Vec<_> = argument.split('\0').map(str::to_owned).collect();
        (!argument.is_empty()).then_some(Self::Abb { protocol, arguments })
    }
}

/// The number at the start of a text, as C's `%d` reads it.
fn leading_number(text: &str) -> Option<i32> {
    let text = text.trim_ascii_start();
    let digits_at = usize::from(text.starts_with(['-', '+']));
    let digits = text.get(digits_at..)?;
    let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    text.get(..digits_at + end)?.parse().ok()
}

/// What is left of a text for whoever takes it as a C string.
fn c_string(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().to_owned()
}

/// A service that can begin.
pub(crate) enum Ready {
    Service(Service),
    /// A port of the phone that took the connection.
    Connected(TcpStream),
}

/// Gets ready what must be before the stream is open; `None` refuses it.
pub(crate) async fn prepare<D: Device>(service: Service, device: &D) -> Option<Ready> {
    /// A port of the phone's own answers at once.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    match service {
        Service::Tcp { port } => {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, device.connect(port)).await;
            connected.ok()?.ok().map(Ready::Connected)
        }
        service => Some(Ready::Service(service)),
    }
}

/// Which of the sync service's compressions CNXN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offers {
    pub(crate) lz4: bool,
}

impl Offers {
    pub(crate) fn of(profile: &Profile) -> Self {
        Self { lz4: profile.offers(Feature::SENDRECV_V2_LZ4) }
    }
}

/// A phone that is not down by then does not go down.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of the connection when a service is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It goes on.
    Stay,
    /// It ends.
    Disconnect,
}

/// Runs a service to its end. Once the host closed its stream the service has a moment to come to its end.
pub(crate) async fn run<D: Device>(
    ready: Ready,
    mut stream: Stream,
    device: &Arc<D>,
    line: &Line,
    listeners: &Listeners,
    offers: Offers,
) -> Afterwards {
    /// An install whose last byte has come still works for a while.
    const GRACE: Duration = Duration::from_secs(5);
    let closed = stream.closed();
    let served = async {
        match ready {
            Ready::Connected(socket) => {
                pump(socket, stream).await;
                Ok(Afterwards::Stay)
            }
            Ready::Service(service) => serve(service, &mut stream, device, line, listeners, offers).await,
        }
    };
    let given_up = async {
        closed.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = served => result.unwrap_or_else(|Closed| {
            tracing::debug!("a service lost its host");
            Afterwards::Stay
        }),
        () = given_up => Afterwards::Stay,
    }
}

async fn serve<D: Device>(
    service: Service,
    stream: &mut Stream,
    device: &Arc<D>,
    line: &Line,
    listeners: &Listeners,
    offers: Offers,
) -> Result<Afterwards, Closed> {
    match service {
        Service::Shell { protocol, terminal, line } => {
            let console = Console::new(stream, protocol, terminal);
            match line.is_empty() {
                true => shell::lines(&**device, console).await?,
                false => shell::line(&**device, console, &line).await?,
            }
        }
        Service::Abb { protocol, arguments } => {
            let console = Console::new(stream, protocol, Terminal::None);
            shell::system_service(&**device, console, &arguments).await?;
        }
        Service::Sync => sync::serve(device.files(), stream, offers).await?,
        Service::Reboot { target } => {
            match device.reboot(if target.is_empty() { RebootTarget::Android } else { RebootTarget::Other(&target) }) {
                Err(sentence) => stream.write(sentence).await?,
                // The stream stays open, so that whoever waits for its end waits for the restart.
                Ok(()) => drop(tokio::time::timeout(RESTART_PATIENCE, stream.closed()).await),
            }
        }
        Service::Adbd(wanted) => {
            let answer = device.adbd(wanted);
            stream.write(answer.sentence).await?;
            if answer.then == AdbdThen::Restart {
                return Ok(Afterwards::Disconnect);
            }
        }
        Service::Remount => stream.write(device.remount()).await?,
        Service::Reverse { request } => stream.write(listeners.obey(&request, device, line).await).await?,
        Service::Track => {
            stream.write(counted("")).await?;
            stream.closed().await;
        }
        // A port was connected before the stream was open.
        Service::Tcp { .. } => {}
        // It hangs up before the stream is open.
        Service::Reconnect => return Ok(Afterwards::Disconnect),
    }
    Ok(Afterwards::Stay)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shell(protocol: Protocol, terminal: Terminal, line: &str) -> Option<Service> {
        Some(Service::Shell { protocol, terminal, line: line.to_owned() })
    }

    #[test]
    fn services_are_told_by_name() {
        let (raw, none) = (Protocol::Raw, Terminal::None);
        assert_eq!(Service::parse(b"shell:getprop\0"), shell(raw, none, "getprop"));
        assert_eq!(Service::parse(b"shell,v2,TERM=xterm,raw:a:b"), shell(Protocol::Packets, none, "a:b"));
        assert_eq!(Service::parse(b"shell,v2,pty:\0\0"), shell(Protocol::Packets, Terminal::Pty, ""));
        assert_eq!(Service::parse(b"exec:cmd package\0more"), shell(raw, none, "cmd package"));
        assert_eq!(
            Service::parse(b"abb_exec:package\0install\0-S\x0012\0"),
            Some(Service::Abb {
                protocol: Protocol::Raw,
                arguments: ["package", "install", "-S", "12"].map(str::to_owned).to_vec()
            })
        );
        assert_eq!(Service::parse(b"tcpip:5555"), Some(Service::Adbd(Adbd::Tcp { port: 5555 })));
        assert_eq!(Service::parse(b"tcpip: -7x"), Some(Service::Adbd(Adbd::Tcp { port: -7 })));
        assert_eq!(Service::parse(b"tcpip:x"), None);
        assert_eq!(Service::parse(b"tcp:80"), Some(Service::Tcp { port: 80 }));
        assert_eq!(Service::parse(b"track-jdwp\0"), Some(Service::Track));
        for none in [&b""[..], b"\0", b"shell", b"tcp:abc", b"tcp:99999", b"abb:", b"jdwp:1", b"\xff:"] {
            assert_eq!(Service::parse(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_a_service_or_none(name in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Service::parse(&name);
        }
    }
}
