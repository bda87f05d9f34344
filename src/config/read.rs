//! From the text of `farmhand.toml` to what it means, or to everything that is wrong with it.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use miette::NamedSource;
use toml::de::DeTable;

use super::agent_section::agent;
use super::identity::identity;
use super::places;
use super::policy_section::policy;
use super::problem::{ConfigError, Invalid, Problem};
use super::rollout_section::rollout;
use super::section::{Notes, Section, Typed};
use super::tls_section::{certificate_files, tls};
use super::value::{
    file, host_and_port, list, made, name, parsed, seconds, switch, text, whole_as, whole_or_off, word,
};
use super::{
    Ack, AdbServer, AgentPort, Announce, Central, CertificateFiles, Config, LineMode, Loaded, Mqtt, Outbox, Policy,
    Recovery, Relay, Rung, Usb, Warn, Web,
};

pub(super) const DAY_S: u32 = 86_400;
pub(super) const HOUR_S: u32 = 3_600;
/// A frame must hold at least the largest message that farmhand itself makes, and a phone's memory bounds it above.
const FRAME_BYTES: std::ops::RangeInclusive<i64> = 4_096..=268_435_456;

/// Reads the file at `path`.
///
/// # Errors
/// When the file cannot be read, or with everything in it that is not allowed.
pub fn read(path: &Path) -> Result<Loaded, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
    let base = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    Ok(parse(&path.display().to_string(), &text, &base, &host_name())?)
}

/// What farmhand does without a configuration: it looks at what is there and changes nothing.
#[must_use]
pub fn observing() -> Config {
    Config {
        rack_name: host_name(),
        slots: Vec::new(),
        hubs: Vec::new(),
        agent: None,
        central: None,
        policy: Policy::default(),
        mqtt: None,
        web: Some(WEB),
        adb_server: AdbServer::default(),
        recovery: RECOVERY,
        rollout: rollout(None),
        usb: Usb::Scan,
    }
}

/// Reads `text` as the configuration called `file_name`; relative paths in it start at `base`; the rack is called `host` if it
/// does not say otherwise.
///
/// # Errors
/// With everything in it that is not allowed, in the order of its lines.
pub fn parse(file_name: &str, text: &str, base: &Path, host: &str) -> Result<Loaded, Invalid> {
    let notes = RefCell::new(Notes::default());
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        let what = format!("this is not TOML: {}", error.message());
        notes.borrow_mut().problems.push(Problem::new(
            "config.syntax",
            at,
            what,
            "texts stand in quotes, keys do not; https://toml.io has the whole format",
        ));
    }
    let config =
        if notes.borrow().problems.is_empty() { whole_file(Section::root(&table, &notes), base, host) } else { None };
    let Notes { mut problems, given } = notes.into_inner();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, given }),
        _ => {
            problems.sort_by_key(Problem::at);
            let text = NamedSource::new(file_name, text.to_owned()).with_language("toml");
            Err(Invalid { name: file_name.to_owned(), text, problems })
        }
    }
}

fn whole_file(mut root: Section<'_, '_>, base: &Path, host: &str) -> Option<Config> {
    let rack_name = root.child("rack").and_then(|mut rack| {
        let typed = rack.optional("name", name);
        rack.finish();
        typed
    });
    let hubs = places::hubs(&mut root, base);
    let slots = places::slots(&mut root, &hubs);
    let agent = root.child("agent").map(|table| agent(table, base));
    let central = root.child("central").map(|table| central(table, base));
    let policy = policy(root.child("policy"));
    let mqtt = root.child("mqtt").map(|table| mqtt(table, base));
    let web = root.child("web").map_or(Some(WEB), web);
    let adb_server = root.child("adb_server").map(|table| adb_server(table, slots.len(), base)).unwrap_or_default();
    let recovery = root.child("recovery").map_or(RECOVERY, recovery);
    let rollout = rollout(root.child("rollout"));
    let usb = root.child("usb").map_or(Usb::Scan, usb);
    root.finish();
    Some(Config {
        rack_name: rack_name.map_or_else(|| host.to_owned(), |name| name.value),
        slots,
        hubs,
        agent: all_or_none(agent)?,
        central: all_or_none(central)?,
        policy,
        mqtt: all_or_none(mqtt)?,
        web,
        adb_server,
        recovery,
        rollout,
        usb,
    })
}

/// A section that was typed must have been read; its problem was noted otherwise.
fn all_or_none<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        Some(None) => None,
        read => Some(read.flatten()),
    }
}

fn central(mut table: Section<'_, '_>, base: &Path) -> Option<Central> {
    let server = table.required("server", "\"centre.example:9200\"", host_and_port);
    let fallbacks = table.optional("fallbacks", list(host_and_port));
    let heartbeat = table.optional("heartbeat_s", seconds(1..=DAY_S));
    let max_frame = table.optional("max_frame", whole_as::<usize>(FRAME_BYTES));
    let grace = table.optional("grace_s", seconds(1..=HOUR_S));
    let identity = identity(table.child("identity"), base);
    let warn = table.child("warn").map_or_else(Warn::default, warn);
    let ack = table.optional("ack", word(&Ack::ALL.map(|ack| (ack.as_str(), ack))));
    let relay = relay(&mut table);
    let tls = table.child("tls").map(|table| tls(table, base));
    let outbox = table.child("outbox").map_or_else(Outbox::default, outbox);
    table.finish();
    Some(Central {
        server: value(server)?,
        fallbacks: values(fallbacks).unwrap_or_default(),
        tls,
        heartbeat: value(heartbeat).unwrap_or(Duration::from_secs(60)),
        max_frame: value(max_frame).unwrap_or(16 << 20),
        grace: value(grace).unwrap_or(Duration::from_secs(90)),
        identity: identity?,
        warn,
        ack: value(ack).unwrap_or_default(),
        relay,
        outbox,
    })
}

fn outbox(mut table: Section<'_, '_>) -> Outbox {
    let max_mb = table.optional("max_mb", whole_as::<u32>(1..=1_000_000));
    let max_age = table.optional("max_age_h", whole_as::<u32>(1..=720));
    let per_second = table.optional("per_second", whole_as::<u32>(1..=1000));
    table.finish();
    let defaults = Outbox::default();
    Outbox {
        max_mb: value(max_mb).unwrap_or(defaults.max_mb),
        max_age: value(max_age).map_or(defaults.max_age, |hours| Duration::from_secs(u64::from(hours) * 3600)),
        per_second: value(per_second).unwrap_or(defaults.per_second),
    }
}

fn relay(table: &mut Section<'_, '_>) -> Relay {
    let modes = LineMode::ALL.map(|mode| (mode.as_str(), mode));
    let mode = table.optional("mode", word(&modes));
    let agent_port = table.optional("agent_port", whole_as::<u16>(1..=i64::from(u16::MAX)));
    Relay {
        mode: value(mode).unwrap_or_default(),
        modes: table.child("modes").map(|table| table.owners(word(&modes))).unwrap_or_default(),
        agent_port: value(agent_port).map(AgentPort).unwrap_or_default(),
    }
}

fn warn(mut table: Section<'_, '_>) -> Warn {
    let battery = table.optional("battery_below", whole_or_off(1..=100));
    let storage = table.optional("storage_below_mb", whole_or_off(1..=i64::from(u32::MAX)));
    let temperature = table.optional("temperature_above", whole_or_off(1..=100));
    table.finish();
    let defaults = Warn::default();
    Warn {
        battery_below_percent: value(battery).unwrap_or(defaults.battery_below_percent),
        storage_below_mb: value(storage).unwrap_or(defaults.storage_below_mb),
        temperature_above_celsius: value(temperature).unwrap_or(defaults.temperature_above_celsius),
    }
}

fn mqtt(mut table: Section<'_, '_>, base: &Path) -> Option<Mqtt> {
    let broker = table.required("broker", "\"127.0.0.1:1883\"", host_and_port);
    let typed = (table.typed("user"), table.typed("password_file"));
    let user = table.optional("user", text);
    let password = table.optional("password_file", file(base));
    if let (Some(at), None) | (None, Some(at)) = typed {
        let what = "[mqtt] names only half of how to log in";
        table.complain(Problem::new("config.contradiction", at, what, "`user` and `password_file` stand together"));
    }
    let prefix = table.optional("discovery_prefix", made("a topic prefix in quotes, or \"off\"", discovery_prefix));
    let health = table.optional("health_s", seconds(1..=HOUR_S));
    table.finish();
    Some(Mqtt {
        broker: value(broker)?,
        user: value(user).zip(value(password)),
        discovery_prefix: value(prefix).unwrap_or_else(|| Some("homeassistant".to_owned())),
        health_interval: value(health).unwrap_or(Duration::from_secs(10)),
    })
}

fn discovery_prefix(text: &str) -> Option<Option<String>> {
    let fits = !text.is_empty() && !text.starts_with('/') && !text.ends_with('/') && !text.contains(['+', '#', '\0']);
    fits.then(|| (text != "off").then(|| text.to_owned()))
}

const WEB: Web =
    Web { listen: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8420), announce: Announce::Mdns };

fn web(mut table: Section<'_, '_>) -> Option<Web> {
    let expected = "an address and port in quotes such as \"127.0.0.1:8420\", or \"off\"";
    let listen = table.optional(
        "listen",
        made(expected, |text| if text == "off" { Some(None) } else { text.parse::<SocketAddr>().ok().map(Some) }),
    );
    let announce = table.optional("announce", word(&[("mdns", Announce::Mdns), ("off", Announce::Off)]));
    table.finish();
    let listen = value(listen).unwrap_or(Some(WEB.listen))?;
    Some(Web { listen, announce: value(announce).unwrap_or(WEB.announce) })
}

fn adb_server(mut table: Section<'_, '_>, slots: usize, base: &Path) -> AdbServer {
    let expected = "an address with a port, in quotes, such as \"127.0.0.1:5037\" or \"0.0.0.0:5038\", or \"off\"";
    let listen = table.optional(
        "listen",
        made(expected, |text| if text == "off" { Some(None) } else { text.parse::<SocketAddr>().ok().map(Some) }),
    );
    let certificate = certificate(&mut table, listen.as_ref(), base);
    let slot_base = table.optional("slot_base", whole_as::<u16>(1024..=65_535));
    if let Some(first) = &slot_base
        && usize::from(first.value) + slots > 65_536
    {
        let what = format!("{slots} slots from port {} on need ports above 65535", first.value);
        table.complain(Problem::new("config.bad_value", first.at.clone(), what, "write slot_base = 7401"));
    }
    let slot_listen = table.optional("slot_listen", parsed::<IpAddr>("an address in quotes such as \"0.0.0.0\""));
    let keys = table.optional("keys", list(file(base)));
    let far = slot_listen.as_ref().filter(|address| !address.value.is_loopback());
    let keys = keys.filter(|keys| !keys.value.is_empty());
    let contradiction = match (far, &keys, &slot_listen) {
        (Some(far), None, _) if slot_base.is_some() => Some((
            far.at.clone(),
            format!("at {} whoever reaches this host could use the phones, and no keys are listed", far.value),
            "list the public halves of those who may: keys = [\"mara.pub\"], each a copy of ~/.android/adbkey.pub",
        )),
        (None, Some(keys), _) => Some((
            keys.at.clone(),
            "`keys` in [adb_server] would not be used: on this host's loopback nobody is asked for one".to_owned(),
            "write slot_listen = \"0.0.0.0\" beside them, or leave them out",
        )),
        (_, _, Some(listen)) if slot_base.is_none() => Some((
            listen.at.clone(),
            "`slot_listen` in [adb_server] has no ports to listen on".to_owned(),
            "write slot_base = 7401 beside it",
        )),
        _ => None,
    };
    if let Some((at, what, help)) = contradiction {
        table.complain(Problem::new("config.contradiction", at, what, help));
    }
    table.finish();
    AdbServer {
        listen: value(listen).flatten(),
        certificate,
        slot_base: value(slot_base),
        slot_listen: value(slot_listen),
        keys: value(keys).unwrap_or_default().into_iter().map(|key| key.value).collect(),
    }
}

/// Only where TLS is spoken, and only both files together.
fn certificate(
    table: &mut Section<'_, '_>,
    listen: Option<&Typed<Option<SocketAddr>>>,
    base: &Path,
) -> Option<CertificateFiles> {
    let typed = table.typed("cert");
    let files = certificate_files(table, "[adb_server]", "without both farmhand makes one", base)?;
    let speaks_tls = listen.is_some_and(|listen| listen.value.is_some_and(|address| !address.ip().is_loopback()));
    if speaks_tls {
        return Some(files);
    }
    let what = "`cert` and `key` in [adb_server] would not be used: on this host's loopback no TLS is spoken";
    let help = "write listen = \"0.0.0.0:5038\" beside them, or leave them out";
    table.complain(Problem::new("config.contradiction", typed.unwrap_or_default(), what, help));
    None
}

const RECOVERY: Recovery = Recovery { max_rung: Rung::Reopen };

fn recovery(mut table: Section<'_, '_>) -> Recovery {
    let words = Rung::ALL.map(|rung| (rung.as_str(), rung));
    let max_rung = table.optional("max_rung", word(&words));
    table.finish();
    value(max_rung).map_or(RECOVERY, |max_rung| Recovery { max_rung })
}

fn usb(mut table: Section<'_, '_>) -> Usb {
    let scan = table.optional("scan", switch(Usb::Scan, Usb::Off));
    table.finish();
    value(scan).unwrap_or(Usb::Scan)
}

pub(super) fn value<T>(typed: Option<Typed<T>>) -> Option<T> {
    typed.map(|typed| typed.value)
}

pub(super) fn values<T>(typed: Option<Typed<Vec<Typed<T>>>>) -> Option<Vec<T>> {
    typed.map(|typed| typed.value.into_iter().map(|item| item.value).collect())
}

/// The host's name as the kernel has it, made fit for a name of ours; `rack` where it has none.
fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fit: String =
        kernel.trim().chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if fit.is_empty() { "rack".to_owned() } else { fit.chars().take(63).collect() }
}
