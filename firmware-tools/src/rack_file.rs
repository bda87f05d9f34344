//! The rack file: one TOML file that describes a virtual rack, so that a test writes the rack it needs in ten lines.
//!
//! ```toml
//! [rack]
//! name = "small"
//! [[hub]]
//! name = "H1"
//! ports = 4
//! [[phone]]
//! name = "P1"
//! hub = "H1"
//! port = 3
//! packages = ["agent-1.apk"]
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::Deserialize;
use toml::Spanned;

use crate::phone::{AdbGeneration, Auth, BadFault, Fault, Network};

/// A whole rack.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RackFile {
    /// Its name.
    #[serde(default)]
    pub rack: RackSection,
    /// Its phones.
    #[serde(default, rename = "phone")]
    pub phones: Vec<Phone>,
    /// Its power hubs.
    #[serde(default, rename = "hub")]
    pub hubs: Vec<Hub>,
    /// The reference central server; there is none without this section.
    pub central: Option<Central>,
    /// The MQTT broker; there is none without this section.
    pub broker: Option<Broker>,
    /// The HTTP server for APKs; there is none without this section.
    pub files: Option<Files>,
    /// The daemon's page; it has none without this section.
    pub web: Option<Web>,
    /// What the daemon's configuration says beyond the rack's parts.
    #[serde(default)]
    pub daemon: Daemon,
}

/// `[rack]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RackSection {
    /// The rack's name: MQTT topics and the page's title.
    pub name: String,
}

impl Default for RackSection {
    fn default() -> Self {
        Self { name: "virtual".to_owned() }
    }
}

/// `[[phone]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phone {
    /// What the rack's orders call it, such as `P1`.
    pub name: String,
    /// The slot in which it sits; its own name by default.
    pub slot: Option<String>,
    /// `ro.serialno`; made from the name by default.
    pub serial: Option<String>,
    /// Its IMEI; made from its place in the file by default.
    pub imei: Option<String>,
    /// `ro.product.brand`.
    #[serde(default = "brand")]
    pub brand: String,
    /// `ro.product.model`.
    #[serde(default = "model")]
    pub model: String,
    /// `ro.build.version.sdk`.
    #[serde(default = "sdk")]
    pub sdk: u32,
    /// Where it speaks ADB; any free port by default.
    #[serde(default = "any_port")]
    pub listen: SocketAddr,
    /// APKs (names in the directory of APKs) that are installed on it.
    #[serde(default)]
    pub packages: Vec<PathBuf>,
    /// What is in its battery, 0 to 100.
    #[serde(default = "battery")]
    pub battery: u8,
    /// The hub on which it hangs.
    pub hub: Option<Spanned<String>>,
    /// The hub's port on which it hangs, from 1.
    pub port: Option<Spanned<u8>>,
    /// Whom it lets in; everybody by default.
    #[serde(default)]
    pub auth: Auth,
    /// Which ADB it speaks.
    #[serde(default)]
    pub adb: AdbGeneration,
    /// The network that it uses.
    #[serde(default)]
    pub network: Network,
    /// Whether it is a build for developers: `adb root` works.
    #[serde(default)]
    pub debuggable: bool,
    /// Seconds that its adbd is away when only that restarts, as for `adb root`; with 0 nothing but the connection ends.
    #[serde(default)]
    pub adbd_away_s: f64,
    /// What is wrong with it from the start.
    #[serde(default)]
    pub faults: Vec<PhoneFault>,
}

/// What can be wrong with a phone, in the words of [`Fault`]: `stalls`, `install-fails:INSTALL_FAILED_DEXOPT`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneFault(pub Fault);

impl TryFrom<String> for PhoneFault {
    type Error = BadFault;

    fn try_from(text: String) -> Result<Self, BadFault> {
        text.parse()
    }
}

impl std::str::FromStr for PhoneFault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        text.parse().map(Self)
    }
}

impl From<PhoneFault> for String {
    fn from(PhoneFault(fault): PhoneFault) -> Self {
        fault.to_string()
    }
}

/// `[[hub]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// Its name, such as `H1`.
    pub name: String,
    /// How many ports it has.
    #[serde(default = "ports")]
    pub ports: u8,
    /// The serial number that it says of itself; made from its name by default.
    pub serial: Option<String>,
}

/// `[central]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Central {
    /// Where it listens; any free port by default.
    #[serde(default = "any_port")]
    pub listen: SocketAddr,
    /// What the daemon is told to keep between heartbeats, in seconds.
    #[serde(default = "heartbeat_s")]
    pub heartbeat_s: u64,
    /// A session that was silent for so long is ended, in seconds.
    #[serde(default = "silence_s_max")]
    pub silence_s_max: u64,
    /// What is wrong with it from the start.
    pub fault: Option<CentralFault>,
    /// How it answers notices.
    #[serde(default)]
    pub ack: CentralAck,
    /// Whether it may send tasks that act on people.
    #[serde(default)]
    pub allow: Allow,
    /// Who speaks for a phone.
    #[serde(default)]
    pub mode: CentralMode,
    /// Every frame of both directions is appended to this file.
    pub capture: Option<PathBuf>,
}

/// Who speaks for a phone by its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CentralMode {
    /// The rack alone.
    #[default]
    Hold,
    /// Its agent, where one is there.
    Relay,
}

/// Which tasks the central server may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    /// Only those that manage a device.
    #[default]
    Device,
    /// Those that act on people, too.
    People,
}

/// What can be wrong with the central server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CentralFault {
    /// It takes connections and never answers.
    Silent,
    /// It refuses every device.
    RefusesAuth,
    /// It answers with a frame that is no protobuf.
    GarbageFrame,
    /// It answers with a length of two gigabytes.
    HugeLength,
    /// It answers, and sends a message of an unknown type with each answer.
    UnknownCode,
    /// It answers byte by byte.
    ByteByByte,
    /// It ends the connection in the middle of an answer.
    ClosesMidFrame,
    /// Its answers name messages that were never sent.
    WrongReference,
    /// It takes each device off line as soon as it has registered, as if another had its credential.
    ForcesOffline,
    /// It sends each device that registers to another server.
    Redirects,
    /// It reads one message a second.
    ReadsSlowly,
    /// It answers each notice by an Error, however often it comes.
    RefusesNotices,
}

/// How the central server answers notices and results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CentralAck {
    /// By an acknowledgement, each at once.
    #[default]
    Each,
    /// Not at all: the acknowledgement of a later heartbeat shows that all is well.
    Silent,
    /// By an acknowledgement, two seconds later.
    Late,
    /// The first time that it sees one by an Error, then by an acknowledgement.
    Error,
}

/// `[broker]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Where it listens; any free port by default.
    #[serde(default = "any_port")]
    pub listen: SocketAddr,
}

/// `[files]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Where it listens; any free port by default.
    #[serde(default = "any_port")]
    pub listen: SocketAddr,
}

/// `[web]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Where the daemon's page listens; a free port that is looked for at start by default.
    #[serde(default = "any_port")]
    pub listen: SocketAddr,
}

/// `[daemon]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// The APK (a name in the directory of APKs) that the daemon keeps on each phone; it installs nothing without.
    pub agent: Option<PathBuf>,
    /// The certificates (SHA-256, hex) that may have signed the agent; any by default.
    #[serde(default)]
    pub signers: Vec<String>,
    /// Whether the daemon keeps the phones from putting the agent to sleep.
    #[serde(default)]
    pub battery_exempt: bool,
    /// The sizes of a rollout's waves; the daemon's own by default.
    #[serde(default)]
    pub waves: Vec<usize>,
}

fn brand() -> String {
    "google".to_owned()
}
fn model() -> String {
    "Pixel 4a".to_owned()
}
fn sdk() -> u32 {
    33
}
fn battery() -> u8 {
    80
}
fn ports() -> u8 {
    8
}
fn heartbeat_s() -> u64 {
    60
}
fn silence_s_max() -> u64 {
    180
}
fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What is wrong with a rack file.
#[derive(Debug, Diagnostic, thiserror::Error)]
pub enum RackFileError {
    /// It cannot be read.
    #[error("the rack file {} cannot be read: {error}", .file.display())]
    #[diagnostic(code("rack_file.unreadable"))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What it says makes no rack.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Wrong(#[from] Box<Wrong>),
}

/// A text that makes no rack: it is no TOML, holds a key that is not known, or things that do not fit each other.
#[derive(Debug, Diagnostic, thiserror::Error)]
#[error("{what}")]
#[diagnostic(code("rack_file.wrong"))]
pub struct Wrong {
    what: String,
    #[source_code]
    text: NamedSource<String>,
    #[label("here")]
    at: Option<SourceSpan>,
    #[help]
    help: Option<String>,
}

impl RackFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or what it says makes no rack.
    pub fn read(path: &std::path::Path) -> Result<Self, RackFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| RackFileError::Unreadable { file: path.to_owned(), error })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a text; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// What it says makes no rack.
    pub fn parse(text: &str, name: &str) -> Result<Self, RackFileError> {
        let source = Source { text, name };
        let file: Self =
            toml::from_str(text).map_err(|error| source.wrong(error.message().to_owned(), error.span(), None))?;
        file.check(&source)?;
        Ok(file)
    }

    fn check(&self, source: &Source<'_>) -> Result<(), RackFileError> {
        let mut ports: BTreeMap<&str, BTreeMap<u8, &str>> =
            self.hubs.iter().map(|hub| (hub.name.as_str(), BTreeMap::new())).collect();
        if ports.len() < self.hubs.len() {
            return Err(source.wrong("two hubs have the same name".to_owned(), None, None));
        }
        let mut names = BTreeMap::new();
        for phone in &self.phones {
            if names.insert(&phone.name, ()).is_some() {
                return Err(source.wrong(format!("two phones are named `{}`", phone.name), None, None));
            }
            let (hub, port) = match (&phone.hub, &phone.port) {
                (Some(hub), Some(port)) => (hub, port),
                (None, None) => continue,
                (Some(half), None) => return Err(source.half_a_port(&phone.name, half.span())),
                (None, Some(half)) => return Err(source.half_a_port(&phone.name, half.span())),
            };
            let last = self.hubs.iter().find(|known| known.name == *hub.as_ref()).map_or(0, |known| known.ports);
            let Some(taken) = ports.get_mut(hub.as_ref().as_str()) else {
                let what = format!("phone `{}` hangs on hub `{}`, which is not in this file", phone.name, hub.as_ref());
                return Err(source.wrong(
                    what,
                    Some(hub.span()),
                    Some(format!("add [[hub]] name = \"{}\"", hub.as_ref())),
                ));
            };
            if !(1..=last).contains(port.as_ref()) {
                let what = format!("hub `{}` has no port {}", hub.as_ref(), port.as_ref());
                return Err(source.wrong(what, Some(port.span()), Some(format!("its ports are 1 to {last}"))));
            }
            if let Some(other) = taken.insert(*port.as_ref(), &phone.name) {
                let what = format!("phones `{other}` and `{}` hang on the same port", phone.name);
                return Err(source.wrong(what, Some(port.span()), None));
            }
        }
        Ok(())
    }
}

struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn wrong(&self, what: String, at: Option<std::ops::Range<usize>>, help: Option<String>) -> RackFileError {
        let text = NamedSource::new(self.name, self.text.to_owned()).with_language("TOML");
        RackFileError::Wrong(Box::new(Wrong { what, text, at: at.map(SourceSpan::from), help }))
    }

    fn half_a_port(&self, phone: &str, at: std::ops::Range<usize>) -> RackFileError {
        let help = Some("write both `hub = \"H1\"` and `port = 3`, or none of them".to_owned());
        self.wrong(format!("phone `{phone}` has only half of its place on a hub"), Some(at), help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let error = RackFile::parse(text, "test.toml").unwrap_err();
        let mut shown = String::new();
        miette::NarratableReportHandler::new().render_report(&mut shown, &error).unwrap();
        shown
    }

    #[test]
    fn a_rack_takes_few_lines() {
        let rack = RackFile::parse(
            "[[hub]]\nname = 'H1'\n[[phone]]\nname = 'P1'\nhub = 'H1'\nport = 3\nfaults = ['install-fails:INSTALL_FAILED_DEXOPT', 'slow-disk:64']\n[central]\n",
            "test.toml",
        )
        .unwrap();
        let install = Fault::InstallFails { reason: "INSTALL_FAILED_DEXOPT".to_owned() };
        assert_eq!(rack.phones[0].faults, [install, Fault::SlowDisk { kib_per_s: 64 }].map(PhoneFault));
        assert_eq!(rack.hubs[0].ports, 8);
        assert!(rack.central.is_some() && rack.broker.is_none());
    }

    #[test]
    fn a_typo_is_shown_with_its_line() {
        let shown = shown("[[phone]]\nname = 'P1'\nbatery = 3\n");
        assert!(shown.contains("batery") && shown.contains("line 3") && shown.contains("battery"), "{shown}");
    }

    #[test]
    fn a_phone_hangs_on_a_port_that_exists_and_is_free() {
        for (phones, expected) in [
            ("[[phone]]\nname='P1'\nhub='H9'\nport=1", "which is not in this file"),
            ("[[phone]]\nname='P1'\nhub='H1'\nport=9", "its ports are 1 to 8"),
            ("[[phone]]\nname='P1'\nhub='H1'\nport=0", "its ports are 1 to 8"),
            ("[[phone]]\nname='P1'\nhub='H1'", "only half"),
            ("[[phone]]\nname='P1'\nhub='H1'\nport=1\n[[phone]]\nname='P2'\nhub='H1'\nport=1", "the same port"),
            ("[[phone]]\nname='P1'\n[[phone]]\nname='P1'", "two phones are named `P1`"),
        ] {
            let shown = shown(&format!("[[hub]]\nname = 'H1'\n{phones}\n"));
            assert!(shown.contains(expected), "{phones}: {shown}");
        }
    }
}
