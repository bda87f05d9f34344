//! A whole virtual rack: everything of a rack file started in one directory, with the `farmhand.toml` that fits.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apk_info::Apk;
use serde_json::{Value, json};

use crate::broker::{Broker, BrokerError};
use crate::cable::{Cable, Hand};
use crate::central::{CentralServer, CentralSpec, Upgrade};
use crate::daemon_config::{self, DaemonConfig};
use crate::files::Files;
use crate::hub::{Hub, HubSpec, LineFault};
use crate::order::{CentralAct, HubAct, Order, PhoneAct};
use crate::phone::{PhoneSpec, Tunnels, VirtualPhone};
use crate::ports::{self, Addresses};
use crate::rack_file::{self, RackFile};

/// A running rack; everything of it ends when it is dropped.
pub struct Rack {
    dir: PathBuf,
    apks: PathBuf,
    file: RackFile,
    phones: BTreeMap<String, Arc<Cable>>,
    imeis: BTreeMap<String, String>,
    hubs: BTreeMap<String, Hub>,
    central: Option<CentralServer>,
    broker: Option<Broker>,
    files: Option<Files>,
}

/// Why a rack could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RackError {
    /// A part could not be started.
    #[error("{part} could not be started: {error}")]
    Part {
        /// Which.
        part: String,
        /// Why.
        error: io::Error,
    },
    /// The broker could not be started.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// An APK is none.
    #[error("{} is not an APK that can be used here: {why}", .file.display())]
    Apk {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The rack's directory or the daemon's configuration could not be written.
    #[error("{} could not be written: {error}", .path.display())]
    Directory {
        /// Which path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The test APKs that come with this package.
#[must_use]
pub fn test_apks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apks")
}

impl Rack {
    /// Starts everything of `file` and writes `dir/farmhand.toml`. APKs are looked for in `apks`.
    ///
    /// # Errors
    ///
    /// A part cannot be started; what was started until then ends.
    pub async fn start(mut file: RackFile, addresses: Addresses, apks: &Path, dir: &Path) -> Result<Self, RackError> {
        let directory = |error| RackError::Directory { path: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(directory)?;
        let dir = std::fs::canonicalize(dir).map_err(directory)?;
        ports::settle(&mut file, addresses).map_err(part("the rack's addresses"))?;
        let mut rack = Self {
            dir,
            apks: apks.to_owned(),
            phones: BTreeMap::new(),
            imeis: BTreeMap::new(),
            hubs: BTreeMap::new(),
            central: None,
            broker: None,
            files: None,
            file,
        };
        rack.start_phones()?;
        rack.start_hubs()?;
        if let Some(section) = &rack.file.central {
            let started = CentralServer::start(central_spec(section)).await;
            rack.central = Some(started.map_err(part("the central server"))?);
        }
        if let Some(section) = &rack.file.broker {
            rack.broker = Some(Broker::start(section.listen).await?);
        }
        if let Some(section) = &rack.file.files {
            let started = Files::start(section.listen, rack.apks.clone()).await;
            rack.files = Some(started.map_err(part("the APK server"))?);
        }
        rack.write_config()?;
        Ok(rack)
    }

    fn start_phones(&mut self) -> Result<(), RackError> {
        let tunnels = Arc::new(Tunnels::written_to(self.dir.join("tunnels")));
        for (number, phone) in (1_u64..).zip(&self.file.phones) {
            let imei = phone.imei.clone().unwrap_or_else(|| format!("{:015}", 350_000_000_000_000 + number));
            let serial = phone.serial.clone().unwrap_or_else(|| format!("VIRTUAL{}", phone.name));
            let spec = PhoneSpec {
                imei: Some(imei.clone()),
                brand: phone.brand.clone(),
                model: phone.model.clone(),
                sdk: phone.sdk,
                listen: phone.listen,
                packages: phone.packages.iter().map(|apk| self.apks.join(apk)).collect(),
                battery_percent: f64::from(phone.battery),
                auth: phone.auth.clone(),
                adb: phone.adb,
                network: phone.network,
                debuggable: phone.debuggable,
                adbd_away_s: phone.adbd_away_s,
                ..PhoneSpec::new(phone.name.clone(), serial)
            };
            let started = VirtualPhone::start_among(spec, Arc::clone(&tunnels))
                .map_err(part(&format!("phone {}", phone.name)))?;
            for fault in &phone.faults {
                started.set_fault(fault.0.clone());
            }
            self.imeis.insert(phone.name.clone(), imei);
            self.phones.insert(phone.name.clone(), Arc::new(Cable::new(Arc::new(started))));
        }
        Ok(())
    }

    fn start_hubs(&mut self) -> Result<(), RackError> {
        for hub in &self.file.hubs {
            let mut cables = vec![None; usize::from(hub.ports)];
            for phone in self.file.phones.iter().filter(|phone| place(phone).is_some_and(|(name, _)| name == hub.name))
            {
                if let Some((_, port)) = place(phone)
                    && let Some(cable) = cables.get_mut(usize::from(port).saturating_sub(1))
                {
                    *cable = self.phones.get(&phone.name).cloned();
                }
            }
            let serial = hub.serial.clone().unwrap_or_else(|| format!("VIRTUAL{}", hub.name));
            let spec = HubSpec { name: hub.name.clone(), serial, ports: hub.ports };
            let started = Hub::start(spec, cables, &self.dir).map_err(part(&format!("hub {}", hub.name)))?;
            self.hubs.insert(hub.name.clone(), started);
        }
        Ok(())
    }

    /// The `farmhand.toml` that fits this rack.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("farmhand.toml")
    }

    /// The rack file as it is carried out: its addresses are the ones in use.
    #[must_use]
    pub fn file(&self) -> &RackFile {
        &self.file
    }

    /// The phone of this name, on its cable.
    #[must_use]
    pub fn phone(&self, name: &str) -> Option<&Cable> {
        self.phones.get(name).map(Arc::as_ref)
    }

    /// The same for whoever outlives a borrow, such as an agent on the phone.
    #[must_use]
    pub fn shared_phone(&self, name: &str) -> Option<Arc<Cable>> {
        self.phones.get(name).map(Arc::clone)
    }

    /// The IMEI of the phone of this name.
    #[must_use]
    pub fn imei(&self, name: &str) -> Option<&str> {
        self.imeis.get(name).map(String::as_str)
    }

    /// The hub of this name.
    #[must_use]
    pub fn hub(&self, name: &str) -> Option<&Hub> {
        self.hubs.get(name)
    }

    /// The central server, where there is one.
    #[must_use]
    pub fn central(&self) -> Option<&CentralServer> {
        self.central.as_ref()
    }

    /// The broker, where there is one.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// The APK server, where there is one.
    #[must_use]
    pub fn files(&self) -> Option<&Files> {
        self.files.as_ref()
    }

    /// Where the daemon's page will be, where it has one.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        self.file.web.as_ref().map(|web| format!("http://{}/", web.listen))
    }

    /// Carries out one order.
    ///
    /// # Errors
    ///
    /// The rack has no such thing, or the thing refused.
    pub async fn obey(&self, order: Order) -> Result<Value, Refused> {
        match order {
            Order::Show => Ok(self.show()),
            Order::Phone { name, act } => {
                let cable = self.phone(&name).ok_or_else(|| unknown("phone", &name, self.phones.keys()))?;
                act_on_phone(cable, act).await?;
                Ok(json!({ "phone": name, "packages": cable.phone().state().packages }))
            }
            Order::Hub { name, act } => {
                let hub = self.hub(&name).ok_or_else(|| unknown("hub", &name, self.hubs.keys()))?;
                hub.set_fault(match act {
                    HubAct::Cut => LineFault::Cut,
                    HubAct::Garbage => LineFault::Garbage,
                    HubAct::Restore => LineFault::None,
                });
                Ok(json!({ "hub": name }))
            }
            Order::Central { act } => self.act_on_central(act).await,
        }
    }

    async fn act_on_central(&self, act: CentralAct) -> Result<Value, Refused> {
        let central = self.central().ok_or_else(|| Refused("this rack has no [central]".to_owned()))?;
        match act {
            CentralAct::Stop => central.stop().await,
            CentralAct::Start => central.resume().await.map_err(refused)?,
            CentralAct::Fault { fault } => central.set_fault(Some(fault)),
            CentralAct::Clear => central.set_fault(None),
            CentralAct::Upgrade { apk, phones } => {
                let ids = self.upgrade(&apk, &phones).await?;
                return Ok(json!({ "sent": ids }));
            }
            CentralAct::Send { phone, code } => {
                let imei = self.imei(&phone).ok_or_else(|| unknown("phone", &phone, self.imeis.keys()))?;
                let id = central.send(imei, code, None).await.map_err(refused)?;
                return Ok(json!({ "sent": id }));
            }
        }
        Ok(json!({ "central": central.address() }))
    }

    /// Lets the central server ask each phone for an upgrade to an APK of the rack's APK server; gives the notices' ids by phone.
    ///
    /// # Errors
    ///
    /// The rack has no such server, phone or APK, or a phone is not registered.
    pub async fn upgrade(&self, apk: &str, phones: &[String]) -> Result<BTreeMap<String, i64>, Refused> {
        let central = self.central().ok_or_else(|| Refused("this rack has no [central]".to_owned()))?;
        let files = self.files().ok_or_else(|| Refused("this rack has no [files]".to_owned()))?;
        let facts = ApkFacts::read(&self.apks.join(apk)).map_err(refused)?;
        let upgrade = Upgrade {
            package: facts.package,
            version_code: facts.version_code,
            version_name: facts.version_name,
            url: files.url(apk),
        };
        let mut ids = BTreeMap::new();
        for phone in phones {
            let imei = self.imei(phone).ok_or_else(|| unknown("phone", phone, self.imeis.keys()))?;
            ids.insert(phone.clone(), central.upgrade(imei, &upgrade).await.map_err(refused)?);
        }
        Ok(ids)
    }

    fn show(&self) -> Value {
        let phones: BTreeMap<&String, Value> = self
            .phones
            .iter()
            .map(|(name, cable)| {
                let state = cable.phone().state();
                let shown = json!({
                    "address": cable.phone().address(),
                    "imei": self.imei(name),
                    "plugged": state.plugged,
                    "booted": state.booted,
                    "battery_percent": state.battery_percent,
                    "packages": state.packages,
                    "installs": state.installs,
                    "installs_failed": state.installs_failed,
                    "reboots": state.reboots,
                    "connections": state.connections,
                    "questions": state.questions,
                    "tunnels": state.tunnels.iter().map(|(endpoint, tunnel)| (endpoint, &tunnel.remote)).collect::<BTreeMap<_, _>>(),
                });
                (name, shown)
            })
            .collect();
        let hubs: BTreeMap<&String, Value> = self
            .hubs
            .iter()
            .map(|(name, hub)| (name, json!({ "device": hub.device(), "link": hub.link(), "modes": hub.modes() })))
            .collect();
        json!({
            "rack": self.file.rack.name,
            "phones": phones,
            "hubs": hubs,
            "central": self.central().map(|central| json!({ "address": central.address(), "record": central.record() })),
            "broker": self.broker().map(Broker::address),
            "files": self.files().map(Files::fetches),
        })
    }

    fn write_config(&self) -> Result<(), RackError> {
        let config = self.daemon_config()?;
        let path = self.config_file();
        let text = toml::to_string(&config).map_err(io::Error::other);
        text.and_then(|text| std::fs::write(&path, text)).map_err(|error| RackError::Directory { path, error })
    }

    fn daemon_config(&self) -> Result<DaemonConfig, RackError> {
        let agent = match &self.file.daemon.agent {
            Some(apk) => {
                let apk = self.apks.join(apk);
                let package = ApkFacts::read(&apk)?.package;
                let rack_file::Daemon { signers, battery_exempt, .. } = &self.file.daemon;
                Some(daemon_config::Agent { package, apk, signers: signers.clone(), battery_exempt: *battery_exempt })
            }
            None => None,
        };
        let slot = self.file.phones.iter().map(|phone| daemon_config::Slot {
            name: phone.slot.clone().unwrap_or_else(|| phone.name.clone()),
            endpoint: format!("tcp:{}", phone.listen),
            hub: place(phone).map(|(hub, _)| hub.to_owned()),
            port: place(phone).map(|(_, port)| port),
        });
        let hub = self
            .hubs
            .iter()
            .map(|(name, hub)| daemon_config::Hub { name: name.clone(), device: hub.link().to_owned() });
        Ok(DaemonConfig {
            rack: daemon_config::RackName { name: self.file.rack.name.clone() },
            agent,
            central: self.file.central.as_ref().map(|central| daemon_config::Central {
                server: central.listen,
                heartbeat_s: central.heartbeat_s,
                mode: central.mode,
                identity: daemon_config::Identity { credential: "imei" },
            }),
            mqtt: self.broker().map(|broker| daemon_config::Mqtt { broker: broker.address(), health_s: 2 }),
            web: daemon_config::Web {
                listen: self.file.web.as_ref().map_or_else(|| "off".to_owned(), |web| web.listen.to_string()),
            },
            recovery: daemon_config::Recovery { max_rung: "reopen" },
            rollout: daemon_config::Rollout { waves: self.file.daemon.waves.clone() },
            usb: daemon_config::Usb { scan: false },
            slot: slot.collect(),
            hub: hub.collect(),
        })
    }
}

/// What an APK says of itself, as `UpgradeDeviceAppNotice` repeats it.
struct ApkFacts {
    package: String,
    version_code: i32,
    version_name: String,
}

impl ApkFacts {
    fn read(file: &Path) -> Result<Self, RackError> {
        let bad = |why: String| RackError::Apk { file: file.to_owned(), why };
        let apk = Apk::new(file).map_err(|error| bad(error.to_string()))?;
        let package = apk.get_package_name().ok_or_else(|| bad("it names no package".to_owned()))?;
        let version_code = apk.get_version_code().and_then(|code| code.parse().ok());
        let version_code = version_code.ok_or_else(|| bad("it has no versionCode of 32 bits".to_owned()))?;
        Ok(Self { package, version_code, version_name: apk.get_version_name().unwrap_or_default() })
    }
}

async fn act_on_phone(cable: &Cable, act: PhoneAct) -> Result<(), Refused> {
    match act {
        PhoneAct::Unplug => cable.hold(Hand::Out).await.map_err(refused),
        PhoneAct::Plug => cable.hold(Hand::In).await.map_err(refused),
        PhoneAct::Fault { fault } => {
            cable.phone().set_fault(fault.0);
            Ok(())
        }
        PhoneAct::Clear => {
            cable.phone().clear_faults();
            Ok(())
        }
        PhoneAct::Tap { tap } => {
            cable.phone().tap(tap);
            Ok(())
        }
        PhoneAct::Install { apk } => {
            let content =
                tokio::fs::read(&apk).await.map_err(|error| refused(format!("{}: {error}", apk.display())))?;
            cable.phone().install(content.into()).await.map_err(refused)
        }
        PhoneAct::Battery { percent } => {
            cable.phone().set_battery(f64::from(percent.min(100)));
            Ok(())
        }
    }
}

/// The hub and the port on which a phone hangs; the rack file has both or none.
fn place(phone: &rack_file::Phone) -> Option<(&str, u8)> {
    let (hub, port) = phone.hub.as_ref().zip(phone.port.as_ref())?;
    Some((hub.as_ref().as_str(), *port.as_ref()))
}

/// A reference server as a rack file describes it.
fn central_spec(section: &rack_file::Central) -> CentralSpec {
    CentralSpec {
        listen: section.listen,
        silence_max: Duration::from_secs(section.silence_s_max),
        allow: section.allow,
        fault: section.fault,
        ack: section.ack,
        capture: section.capture.clone(),
        tls: None,
    }
}

fn part(part: &str) -> impl FnOnce(io::Error) -> RackError {
    let part = part.to_owned();
    move |error| RackError::Part { part, error }
}

fn refused(error: impl std::fmt::Display) -> Refused {
    Refused(error.to_string())
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Refused {
    let known: Vec<&str> = known.map(String::as_str).collect();
    Refused(format!("this rack has no {kind} `{name}`; it has {}", known.join(", ")))
}
