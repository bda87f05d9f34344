//! `farmhand phone A1 show`: everything that is known of one phone.

use clap::Args;

use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::paper::{Cell, Paper, Tone, json, or_dash};
use crate::cli::phones::{tone_of, tone_of_line};
use crate::rack::snapshot::{DeviceView, PhoneView, SettingState, SettingView, Storage, UpkeepView};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Print the API's answer as JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn carry_out(self, phone: &str, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let phone: PhoneView = client.read(&format!("/api/phones/{}", segment(phone))).await?;
        Ok(if self.json { json(&phone) } else { sheet(&phone, paper) })
    }
}

/// What is known of some facts, or nothing.
fn joined<const N: usize>(facts: [Option<String>; N]) -> Option<String> {
    let known: Vec<String> = facts.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

fn android(phone: &PhoneView) -> Option<String> {
    joined([phone.device.android.clone(), phone.sdk.map(|sdk| format!("SDK {sdk}"))])
}

/// The number that is this handset's own, which some keep from their shell.
fn own_number(device: &DeviceView) -> (&'static str, Cell) {
    match (&device.imei, &device.android_id) {
        (None, Some(id)) => ("android_id", id.into()),
        (imei, _) => ("IMEI", or_dash(imei.as_ref()).into()),
    }
}

fn room(storage: Storage) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    format!("{:.1} of {:.1} GiB free", storage.free_bytes as f64 / GIB, storage.total_bytes as f64 / GIB)
}

fn screen(device: &DeviceView) -> Option<String> {
    joined([
        device.screen_size.map(|size| format!("{} x {}", size.width, size.height)),
        device.screen_density_dpi.map(|density| format!("{density} dpi")),
        device.screen.map(|state| state.as_str().to_owned()),
    ])
}

/// How a phone stands to what the owner wants to be so on it: in short, and what is more to be said of each thing.
fn settings(upkeep: &UpkeepView, paper: &Paper) -> Vec<(&'static str, Cell)> {
    let Some(looked) = upkeep.looked else { return Vec::new() };
    let count = |states: &[SettingState]| upkeep.settings.iter().filter(|one| states.contains(&one.state)).count();
    let mut parts = vec![format!("{} as wanted", count(&[SettingState::Kept, SettingState::Set]))];
    for (states, word) in [
        (&[SettingState::Refused, SettingState::Unread][..], "not"),
        (&[SettingState::Hand][..], "for a hand"),
        (&[SettingState::NotHere][..], "not on this phone"),
    ] {
        parts.extend(Some(count(states)).filter(|count| *count > 0).map(|count| format!("{count} {word}")));
    }
    let mut rows = vec![("settings", format!("{}; looked at {} ago", parts.join(", "), paper.age(looked)).into())];
    if !upkeep.recipes.is_empty() {
        rows.push(("", format!("by the recipes for {}", upkeep.recipes.join(", ")).into()));
    }
    let told = upkeep.settings.iter().filter(|setting| is_told(setting));
    rows.extend(told.map(|setting| ("", Cell::toned(tone_of_setting(setting.state), told_of(setting)))));
    rows
}

/// Whether there is more to say of it than that it is as wanted.
fn is_told(setting: &SettingView) -> bool {
    !matches!(setting.state, SettingState::Kept | SettingState::NotHere) || setting.drifts > 0
}

fn told_of(setting: &SettingView) -> String {
    let SettingView { name, state, why, drifts, lost_by_restart, .. } = setting;
    let text = match state {
        SettingState::Kept => format!("{name} is as wanted"),
        SettingState::Set => format!("{name} was set: {why}"),
        SettingState::Refused => format!("{name} stays otherwise: {why}"),
        SettingState::Unread => format!("{name} could not be read: {why}"),
        SettingState::NotHere => format!("{name} is not on this phone: {why}"),
        SettingState::Hand => format!("{name} needs a hand: {why}"),
    };
    let times = match drifts {
        0 => return text,
        1 => "once".to_owned(),
        more => format!("{more} times"),
    };
    let by_restart = match lost_by_restart {
        0 => String::new(),
        all if all == drifts => " by a restart".to_owned(),
        some => format!(", {some} of them by a restart"),
    };
    format!("{text}; lost {times}{by_restart}")
}

const fn tone_of_setting(state: SettingState) -> Tone {
    match state {
        SettingState::Refused | SettingState::Unread | SettingState::Hand => Tone::Busy,
        SettingState::Kept | SettingState::Set | SettingState::NotHere => Tone::Quiet,
    }
}

fn sheet(phone: &PhoneView, paper: &Paper) -> String {
    let state = format!("{} for {}", phone.state.as_str(), paper.age(phone.since));
    let word = phone.line.state.as_str();
    let line = crate::cli::line::begun(&phone.line)
        .map_or_else(|| word.to_owned(), |since| format!("{word} for {}", paper.age(since)));
    let battery = phone.battery.map(|battery| {
        let mut parts = vec![format!("{} %", battery.level_percent)];
        parts.extend(battery.health.map(|health| health.as_str().replace('_', " ")));
        parts.extend(battery.temperature_celsius.map(|celsius| format!("{celsius:.1} °C")));
        parts.extend(battery.voltage_millivolts.map(|millivolts| format!("{millivolts} mV")));
        parts.extend(battery.current_milliamps.map(|milliamps| format!("{milliamps:+} mA")));
        parts.push(if battery.charging { "charging" } else { "not charging" }.to_owned());
        parts.join(", ")
    });
    let agent =
        phone.agent.as_ref().map(|agent| format!("{} {} ({})", agent.package, agent.version_name, agent.version_code));
    let model = [&phone.brand, &phone.model].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let device = &phone.device;
    let power = phone.power.as_ref().map(|power| format!("hub {} port {}", power.hub, power.port));
    let mut rows: Vec<(&str, Cell)> = vec![
        ("phone", (&phone.id).into()),
        ("slot", or_dash(phone.slot.as_ref()).into()),
        ("place", or_dash(phone.endpoint.as_ref()).into()),
        ("state", Cell::toned(tone_of(phone.state), state)),
        ("", (&phone.why).into()),
        ("waits for", paper.wait_or_dash(phone.deadline.as_ref()).into()),
        ("model", or_dash((!model.is_empty()).then_some(model)).into()),
        ("Android", or_dash(android(phone)).into()),
        ("build", or_dash(joined([device.build.clone(), device.abi.clone()])).into()),
        ("serial", or_dash(phone.serial.as_ref()).into()),
        own_number(device),
        ("battery", or_dash(battery).into()),
        ("storage", or_dash(device.storage.map(room)).into()),
        ("screen", or_dash(screen(device)).into()),
        ("up", or_dash(device.started.map(|at| paper.age(at))).into()),
        ("read", paper.ago_or_dash(device.read).into()),
        ("power", or_dash(power).into()),
        ("agent", or_dash(agent).into()),
        ("last alive", paper.ago_or_dash(phone.last_alive).into()),
        ("line", Cell::toned(tone_of_line(phone.line.state), line)),
        ("", (&phone.line.why).into()),
        ("waits for", paper.wait_or_dash(phone.line.deadline.as_ref()).into()),
        ("heartbeat", paper.ago_or_dash(phone.line.last_heartbeat).into()),
    ];
    rows.extend(settings(&phone.upkeep, paper));
    for lease in &phone.leases {
        let held = format!("{}, for {} more", lease.sentence(), paper.time_left(lease.until));
        rows.push(("lease", Cell::toned(Tone::Busy, held)));
    }
    paper.sheet(rows.into_iter().map(|(key, cell)| vec![Cell::toned(Tone::Quiet, key), cell]).collect())
}
