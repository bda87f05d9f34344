//! `farmhand status`: how the rack is, on one screen.

use std::fmt::Write as _;

use clap::Args;

use super::adb_server::listen;
use super::client::Client;
use super::failure::Failure;
use super::paper::{Paper, Tone, json};
use super::phones::tone_of;
use crate::rack::Snapshot;
use crate::rack::access::AdbDoors;
use crate::rack::snapshot::{HostHealth, HubState, LineState, LineView, MqttState, PhoneState};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print the whole snapshot as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let rack: Snapshot = client.read("/api/snapshot").await?;
        if self.json {
            return Ok(json(&rack));
        }
        let doors: AdbDoors = client.read("/api/adb-server").await?;
        Ok(screen(&rack, &doors, paper))
    }
}

fn screen(rack: &Snapshot, doors: &AdbDoors, paper: &Paper) -> String {
    let daemon = &rack.daemon;
    let mut text = format!("{} · farmhand {} · up {}\n\n", daemon.rack, daemon.version, paper.age(daemon.started));
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{}  {value}", paper.paint(Tone::Quiet, &format!("{key:<8}")));
    };
    line("phones", &phones(rack, paper));
    line("lines", &lines(rack));
    line("host", &rack.host.as_ref().map_or_else(|| "not measured yet".to_owned(), host));
    line("mqtt", &mqtt(rack, paper));
    if doors.listen.is_some() {
        let known = doors.fingerprint.as_ref().map(|known| format!("; certificate sha256 {known}")).unwrap_or_default();
        line("adb", &format!("{}{known}", listen(doors)));
    }
    for alert in &rack.alerts {
        let place =
            alert.slot.as_ref().map(ToString::to_string).or_else(|| alert.phone.as_ref().map(ToString::to_string));
        let place = place.map(|place| format!("{place}, ")).unwrap_or_default();
        let told = format!("{place}{}: {}; {}", paper.ago_or_dash(Some(alert.at)), alert.what, alert.help);
        line("alert", &paper.paint(Tone::Bad, &told));
    }
    for hub in &rack.hubs {
        let fed: u32 = hub.ports.iter().map(|port| port.current_milliamps).sum();
        let fed = if hub.state == HubState::Live { format!(", feeds {fed} mA") } else { format!(": {}", hub.why) };
        line("hub", &format!("{} {}{fed}", hub.name, hub.state.as_str()));
    }
    for rollout in rack.rollouts.iter().filter(|rollout| !rollout.state.is_over()) {
        line("rollout", &format!("{} {}: {}", rollout.id, rollout.state.as_str(), rollout.why));
    }
    for trouble in &rack.troubles {
        let (part, since) = (paper.paint(Tone::Bad, &trouble.part), paper.age(trouble.since));
        line("trouble", &format!("{part} for {since}: {}", trouble.why));
    }
    for off in &rack.switched_off {
        line("off", &format!("{}; switch it on with {}", off.what, off.how));
    }
    for phone in &rack.phones {
        let place = phone.slot.as_ref().map_or_else(|| phone.id.to_string(), ToString::to_string);
        for lease in &phone.leases {
            let held = format!("{place}: {}, for {} more", lease.sentence(), paper.time_left(lease.until));
            line("held", &paper.paint(Tone::Busy, &held));
        }
    }
    let noted = |state| {
        matches!(
            state,
            PhoneState::Recovering | PhoneState::Quarantined | PhoneState::Authorising | PhoneState::Detached
        )
    };
    for phone in rack.phones.iter().filter(|phone| noted(phone.state)) {
        let place = phone.slot.as_ref().map_or_else(|| phone.id.to_string(), ToString::to_string);
        let state = paper.paint(tone_of(phone.state), phone.state.as_str());
        line(&place, &format!("{state} for {}: {}", paper.age(phone.since), phone.why));
    }
    text
}

fn phones(rack: &Snapshot, paper: &Paper) -> String {
    if rack.phones.is_empty() {
        return "none yet: plug one in, with USB debugging switched on".to_owned();
    }
    let by_state = PhoneState::ALL.into_iter().rev().filter_map(|state| {
        let count = rack.phones.iter().filter(|phone| phone.state == state).count();
        (count > 0).then(|| paper.paint(tone_of(state), &format!("{count} {}", state.as_str())))
    });
    format!("{}: {}", rack.phones.len(), by_state.collect::<Vec<_>>().join(", "))
}

fn lines(rack: &Snapshot) -> String {
    let by_state = LineState::ALL.into_iter().filter_map(|state| {
        let count = rack.phones.iter().filter(|phone| phone.line.state == state).count();
        (count > 0).then(|| format!("{count} {}", state.as_str()))
    });
    let lines = by_state.collect::<Vec<_>>().join(", ");
    // One server is behind them all, so that one reason mostly speaks for all.
    let troubled = |line: &&LineView| matches!(line.state, LineState::Waiting | LineState::NeedsIdentity);
    match rack.phones.iter().map(|phone| &phone.line).find(troubled) {
        _ if lines.is_empty() => "none".to_owned(),
        Some(line) => format!("{lines}: {}", line.why),
        None => lines,
    }
}

fn host(host: &HostHealth) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    let mut parts = Vec::new();
    parts.extend(host.cpu_percent.map(|cpu| format!("CPU {cpu:.0} %")));
    let (used, total) = (host.memory_used_bytes as f64 / GIB, host.memory_total_bytes as f64 / GIB);
    parts.push(format!("memory {used:.1} of {total:.1} GiB"));
    parts.extend(host.disk_free_bytes.map(|free| format!("{:.1} GiB of disk free", free as f64 / GIB)));
    parts.extend(host.temperature_celsius.map(|celsius| format!("{celsius:.1} °C")));
    parts.join(", ")
}

fn mqtt(rack: &Snapshot, paper: &Paper) -> String {
    let mqtt = &rack.mqtt;
    match mqtt.state {
        MqttState::Away | MqttState::Unacknowledged => {
            format!("{} for {}: {}", mqtt.state.as_str(), paper.age(mqtt.since), mqtt.why)
        }
        MqttState::Off | MqttState::Connected => mqtt.state.as_str().to_owned(),
    }
}
