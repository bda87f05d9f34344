//! What a client asks: four hex digits, and a text of so many bytes.
//!
//! `000chost:version` is a question to the server; `0008shell:ls` goes to the phone that the connection was bound to by `host:transport…`.
//! Whom a question is about stands before it: `host-serial:A1:get-state`, or `host:` where there is only one phone.

use super::devices::{DeviceState, Scope, Target};

/// The length of a request's head, in bytes.
pub const HEAD_LEN: usize = 4;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To the server itself.
    Host(Host),
    /// A service of the phone that the connection is bound to.
    Service(String),
}

/// A request to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Its version.
    Version,
    /// End the server.
    Kill,
    /// Who is here.
    Devices(Listing),
    /// Who is here, now and whenever that changes.
    TrackDevices(Listing),
    /// What the server can do.
    HostFeatures,
    /// Binds the connection to a phone.
    Transport(Target, TransportReply),
    /// Something about one phone.
    About(Target, Question),
    /// Has connections to `local` on this host go to `remote` on the phone.
    Forward {
        /// Which phone.
        target: Target,
        /// Whether an earlier forward of `local` may be replaced.
        rebind: Rebind,
        /// `tcp:6100`.
        local: String,
        /// `tcp:7100`.
        remote: String,
    },
    /// Ends a forward.
    KillForward {
        /// `tcp:6100`.
        local: String,
    },
    /// Ends all forwards.
    KillForwardAll,
    /// All forwards.
    ListForward,
    /// Waits until a phone is in one of the states.
    WaitFor(WaitFor),
    /// Opens again what is offline.
    ReconnectOffline,
    /// Takes a phone at a TCP address in.
    Connect(String),
    /// Gives up a phone at a TCP address; all of them if empty.
    Disconnect(String),
    /// Pairs with a phone over Wi-Fi.
    Pair,
    /// Whether mDNS is at work.
    MdnsCheck,
    /// Phones that mDNS has found.
    MdnsServices,
    /// An emulator says that it has started; nobody waits for an answer.
    Emulator,
}

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Serial and state.
    Short,
    /// With place, model and number.
    Long,
}

/// How a binding is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportReply {
    /// `OKAY`.
    Plain,
    /// `OKAY` and the transport's number.
    WithId,
}

/// What can be asked about one phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its features.
    Features,
    /// Its state.
    State,
    /// Its serial.
    Serial,
    /// Its place on USB.
    DevPath,
    /// No question: have its connection made anew.
    Reconnect,
}

/// What becomes of an earlier forward of the same local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebind {
    /// It is replaced.
    Allowed,
    /// It stays, and the new one is refused.
    Refused,
}

/// A wait for a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFor {
    /// Which phone.
    pub target: Target,
    /// For which of these.
    pub states: Vec<Awaited>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// A state.
    State(DeviceState),
    /// Any state at all.
    Any,
    /// A state in which farmhand gives nobody a phone, such as `recovery`.
    Never,
    /// That the phone is gone.
    Disconnect,
}

/// Why a request can't be carried out, in the words of Google's server where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The head is no number.
    #[error("a request begins with its length in four hex digits, not with {0:?}")]
    Head(String),
    /// The text is empty.
    #[error("a request of no bytes asks for nothing")]
    Empty,
    /// The text is no UTF-8.
    #[error("the request is no UTF-8")]
    Text,
    /// Nobody knows it.
    #[error("unknown host service")]
    Unknown,
    /// It names a transport by something that is no number.
    #[error("invalid transport id")]
    TransportId,
    /// It is known, and makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It names a wait that can't be: told behind an `OKAY`, as a wait's end is.
    #[error("{0}")]
    BadWait(String),
}

/// The length of the text behind this head, in bytes.
///
/// # Errors
/// [`RequestError::Head`] and [`RequestError::Empty`]: the connection has no more sense.
pub fn text_len(head: [u8; HEAD_LEN]) -> Result<usize, RequestError> {
    let digit = |sum: usize, byte: &u8| Some(sum * 16 + usize::try_from(char::from(*byte).to_digit(16)?).ok()?);
    match head.iter().try_fold(0, digit) {
        Some(0) => Err(RequestError::Empty),
        Some(len) => Ok(len),
        None => Err(RequestError::Head(head.escape_ascii().to_string())),
    }
}

impl Request {
    /// Reads the text behind the head.
    ///
    /// # Errors
    /// Why it is no request that can be carried out.
    pub fn parse(text: &[u8]) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(text).map_err(|_| RequestError::Text)?;
        if let Some(question) = text.strip_prefix("host:").filter(|question| !question.is_empty()) {
            return parse_host(question, &Target::Any).map(Self::Host);
        }
        if let Some(question) = text.strip_prefix("host-usb:") {
            return parse_host(question, &Target::Of(Scope::Usb)).map(Self::Host);
        }
        if let Some(question) = text.strip_prefix("host-local:") {
            return parse_host(question, &Target::Of(Scope::Tcp)).map(Self::Host);
        }
        if let Some(rest) = text.strip_prefix("host-transport-id:") {
            let (id, question) = rest.split_once(':').ok_or(RequestError::TransportId)?;
            let id = id.parse().map_err(|_| RequestError::TransportId)?;
            return parse_host(question, &Target::Id(id)).map(Self::Host);
        }
        if let Some(rest) = text.strip_prefix("host-serial:") {
            return parse_named(rest).map(Self::Host);
        }
        Ok(Self::Service(text.to_owned()))
    }

    /// The request as a client sends it, with its head. Only what [`Request::parse`] gives is asked for.
    #[must_use]
    pub fn emit(text: &str) -> Vec<u8> {
        super::answer::text(text)
    }
}

/// The text of a question about one phone, such as `get-state`: what [`Request::parse`] takes apart.
#[must_use]
pub fn about(target: &Target, question: &str) -> String {
    match target {
        Target::Any => format!("host:{question}"),
        Target::Of(Scope::Usb) => format!("host-usb:{question}"),
        Target::Of(Scope::Tcp) => format!("host-local:{question}"),
        Target::Named(name) => format!("host-serial:{name}:{question}"),
        Target::Id(id) => format!("host-transport-id:{id}:{question}"),
    }
}

/// `127.0.0.1:5555:get-state`: a serial may hold colons, so the question is the first rest that is one.
fn parse_named(text: &str) -> Result<Host, RequestError> {
    for (at, _) in text.match_indices(':') {
        let (Some(serial), Some(question)) = (text.get(..at), text.get(at + 1..)) else { continue };
        match parse_host(question, &Target::Named(serial.to_owned())) {
            Err(RequestError::Unknown) => {}
            parsed => return parsed,
        }
    }
    Err(RequestError::Unknown)
}

fn parse_host(question: &str, target: &Target) -> Result<Host, RequestError> {
    let about = |question| Ok(Host::About(target.clone(), question));
    match question {
        "version" => Ok(Host::Version),
        "kill" => Ok(Host::Kill),
        "devices" => Ok(Host::Devices(Listing::Short)),
        "devices-l" => Ok(Host::Devices(Listing::Long)),
        "track-devices" => Ok(Host::TrackDevices(Listing::Short)),
        "track-devices-l" => Ok(Host::TrackDevices(Listing::Long)),
        "host-features" => Ok(Host::HostFeatures),
        "features" => about(Question::Features),
        "get-state" => about(Question::State),
        "get-serialno" => about(Question::Serial),
        "get-devpath" => about(Question::DevPath),
        "reconnect" => about(Question::Reconnect),
        "reconnect-offline" => Ok(Host::ReconnectOffline),
        "list-forward" => Ok(Host::ListForward),
        "killforward-all" => Ok(Host::KillForwardAll),
        "mdns:check" => Ok(Host::MdnsCheck),
        "mdns:services" => Ok(Host::MdnsServices),
        _ => parse_with_argument(question, target),
    }
}

fn parse_with_argument(question: &str, target: &Target) -> Result<Host, RequestError> {
    if let Some(which) = question.strip_prefix("tport:") {
        let target = match which {
            "usb" => Target::Of(Scope::Usb),
            "local" => Target::Of(Scope::Tcp),
            _ => which.strip_prefix("serial:").map_or_else(|| target.clone(), |name| Target::Named(name.to_owned())),
        };
        return Ok(Host::Transport(target, TransportReply::WithId));
    }
    if question.starts_with("transport") {
        return Ok(Host::Transport(transport_target(question, target)?, TransportReply::Plain));
    }
    if let Some(spec) = question.strip_prefix("wait-for-") {
        return parse_wait(spec, target).map(Host::WaitFor);
    }
    if let Some(pair) = question.strip_prefix("forward:") {
        return parse_forward(pair, target);
    }
    if let Some(local) = question.strip_prefix("killforward:") {
        return match local {
            "" => Err(RequestError::Bad("bad killforward: ".to_owned())),
            _ if local.contains(';') => Err(RequestError::Bad(format!("bad killforward: {local}"))),
            _ => Ok(Host::KillForward { local: local.to_owned() }),
        };
    }
    match question.split_once(':') {
        Some(("connect", address)) => Ok(Host::Connect(address.to_owned())),
        Some(("disconnect", address)) => Ok(Host::Disconnect(address.to_owned())),
        Some(("pair", _)) => Ok(Host::Pair),
        Some(("emulator", _)) => Ok(Host::Emulator),
        _ => Err(RequestError::Unknown),
    }
}

/// Google's server takes any other word after `transport` for whom the request is about anyway.
fn transport_target(question: &str, target: &Target) -> Result<Target, RequestError> {
    if let Some(id) = question.strip_prefix("transport-id:") {
        return id.parse().map(Target::Id).map_err(|_| RequestError::TransportId);
    }
    Ok(match question {
        "transport-usb" => Target::Of(Scope::Usb),
        "transport-local" => Target::Of(Scope::Tcp),
        _ => question.strip_prefix("transport:").map_or_else(|| target.clone(), |name| Target::Named(name.to_owned())),
    })
}

fn parse_forward(pair: &str, target: &Target) -> Result<Host, RequestError> {
    let (rebind, pair) = match pair.strip_prefix("norebind:") {
        Some(pair) => (Rebind::Refused, pair),
        None => (Rebind::Allowed, pair),
    };
    match pair.split_once(';') {
        Some((local, remote))
            if !local.is_empty() && !remote.is_empty() && !remote.contains(';') && !remote.starts_with('*') =>
        {
            Ok(Host::Forward { target: target.clone(), rebind, local: local.to_owned(), remote: remote.to_owned() })
        }
        _ => Err(RequestError::Bad(format!("bad forward: {pair}"))),
    }
}

fn parse_wait(spec: &str, target: &Target) -> Result<WaitFor, RequestError> {
    let mut words = spec.split('-');
    let scope = words.next();
    let states: Vec<&str> = words.collect();
    if states.is_empty() {
        return Err(RequestError::BadWait(format!("short wait-for-: {spec}")));
    }
    let of_scope = match scope {
        Some("usb") => Target::Of(Scope::Usb),
        Some("local") => Target::Of(Scope::Tcp),
        Some("any") => Target::Any,
        _ => return Err(RequestError::BadWait(format!("bad wait-for- transport: {spec}"))),
    };
    let target = match target {
        Target::Named(_) | Target::Id(_) => target.clone(),
        Target::Any | Target::Of(_) => of_scope,
    };
    let states = states.into_iter().map(awaited).collect::<Option<_>>();
    let states = states.ok_or_else(|| RequestError::BadWait(format!("bad wait-for- state: {spec}")))?;
    Ok(WaitFor { target, states })
}

fn awaited(word: &str) -> Option<Awaited> {
    Some(match word {
        "device" => Awaited::State(DeviceState::Device),
        "recovery" | "rescue" | "sideload" | "bootloader" => Awaited::Never,
        "any" => Awaited::Any,
        "disconnect" => Awaited::Disconnect,
        _ => return None,
    })
}

/// What the fuzzer calls: any bytes are a request or an error, and a request is found again in what a client would send for it.
///
/// # Panics
/// When a text that was taken is not framed to what it was.
pub fn fuzz_request(bytes: &[u8]) {
    let Some((head, text)) = bytes.split_first_chunk::<HEAD_LEN>() else { return };
    // A length that can't be is an error; the text is read all the same, as if its length were right.
    let _ = text_len(*head);
    let text = text.get(..text.len().min(super::answer::TEXT_MAX)).unwrap_or_default();
    if let Ok(Request::Service(service)) = Request::parse(text) {
        assert_eq!(service.as_bytes(), text);
        let framed = Request::emit(&service);
        if let Some(head) = framed.first_chunk().filter(|_| !service.is_empty()) {
            assert_eq!(text_len(*head), Ok(service.len()));
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
