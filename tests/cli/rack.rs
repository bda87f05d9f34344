//! A rack with a bit of everything, as a snapshot: every state of phones, lines, hubs and rollouts is in it somewhere.

use std::sync::Arc;
use std::time::Duration;

use farmhand::clock::{Moment, UnixMillis};
use farmhand::config::Rung;
use farmhand::phone::trace::{Happening, Trace};
use farmhand::rack::ids::{Endpoint, HubName, HubPort, PackageName, PhoneId, RolloutId, Serial, SlotName, VersionCode};
use farmhand::rack::lease::{HOLD, Lease, Tool};
use farmhand::rack::snapshot::*;
use farmhand::rack::{Snapshot, Traces};

/// The rack, as it would be at `now`.
pub(crate) fn rack(now: UnixMillis) -> Snapshot {
    let ago = |seconds: i64| UnixMillis(now.0 - seconds * 1000);
    let model = |slot: usize| [("Google", "Pixel 8"), ("Fairphone", "FP5"), ("samsung", "SM-A546B")][slot % 3];
    let mut phones: Vec<PhoneView> = (1..=8).map(|slot| ready(slot, model(slot), &ago)).collect();
    leave(&mut phones[2], &ago);
    recover(&mut phones[4], &ago);
    authorise(&mut phones[5], &ago);
    phones[6].line.state = LineState::Waiting;
    phones[6].line.why = "centre.example:9200 refused the connection".to_owned();
    phones[6].line.deadline =
        Some(DeadlineView { at: now.plus(Duration::from_secs(40)), why: "the next attempt".to_owned() });
    phones[1].upkeep = upkeep(ago(1_200));
    phones[1].leases = vec![Lease {
        phone: phones[1].id.clone(),
        id: HOLD,
        tool: Tool::Hold,
        who: "mara".to_owned(),
        reason: "battery check".to_owned(),
        since: ago(600),
        until: ago(-6630),
    }];
    phones[7].battery = Some(battery(11, 41.5, Charging::No));
    phones.push(spare(&ago));
    Snapshot {
        revision: 4711,
        at: now,
        daemon: DaemonView { rack: "rack-1".to_owned(), version: "0.1.0".to_owned(), started: ago(5 * 3600 + 600) },
        host: Some(HostHealth {
            at: ago(4),
            cpu_percent: Some(12.4),
            memory_used_bytes: 1_288_490_188,
            memory_total_bytes: 8_589_934_592,
            disk_free_bytes: Some(21_474_836_480),
            disk_total_bytes: Some(31_138_512_896),
            temperature_celsius: Some(48.2),
        }),
        hubs: vec![hub("H1", HubState::Live, &ago), hub("H2", HubState::Stale, &ago)],
        controllers: Vec::new(),
        rollouts: rollouts(&phones, &ago),
        phones,
        mqtt: MqttView { state: MqttState::Connected, why: "127.0.0.1:1883 answers".to_owned(), since: ago(5 * 3600) },
        alerts: vec![AlertView {
            code: "line.forced_offline".to_owned(),
            at: ago(610),
            phone: Some(PhoneId::new("R5CW1962X")),
            slot: Some(SlotName::new("A2")),
            what: "another holder of the same credential registered: \"taken over\"".to_owned(),
            help: "look for another rack or app that registers with this phone's credential".to_owned(),
        }],
        incidents: Vec::new(),
        switched_off: vec![SwitchedOff {
            what: "recovery beyond opening a phone again".to_owned(),
            how: "[recovery] max_rung = \"reboot\"".to_owned(),
        }],
        troubles: Vec::new(),
        traces: traces(),
    }
}

enum Charging {
    Yes,
    No,
}

fn battery(level_percent: u8, celsius: f32, charging: Charging) -> Battery {
    Battery {
        level_percent,
        temperature_celsius: Some(celsius),
        voltage_millivolts: Some(3_700 + u32::from(level_percent) * 5),
        current_milliamps: Some(if matches!(charging, Charging::Yes) { 412 } else { -95 }),
        health: Some(BatteryHealth::Good),
        charging: matches!(charging, Charging::Yes),
    }
}

fn agent(version: u64) -> InstalledAgent {
    InstalledAgent {
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(version),
        version_name: format!("{}.{}", version / 10, version % 10),
    }
}

/// The story of A5, at a time of its own.
fn traces() -> Traces {
    let mut trace = Trace::default();
    let mut tell = |seconds, what| trace.push(Moment::from_start(Duration::from_secs(seconds)), what);
    let state = |from, to, why: &str| Happening::State { from, to, why: why.to_owned() };
    tell(0, state(PhoneState::Absent, PhoneState::Claiming, "its interface is being opened"));
    tell(1, Happening::Opened { model: Some("FP5".to_owned()) });
    tell(1, state(PhoneState::Claiming, PhoneState::Online, "ADB works; its profile is being read"));
    for minute in 0..90 {
        tell(2 + minute * 60, Happening::Alive { probes: 2, readings: 1 });
    }
    tell(5430, Happening::Silent { why: "the probe was not answered: nothing came for 5 s".to_owned() });
    tell(5430, state(PhoneState::Ready, PhoneState::Recovering, "the probe was not answered: nothing came for 5 s"));
    tell(5431, Happening::Rung { rung: Rung::ResetUsb });
    let epoch = UnixMillis(1_790_000_000_000);
    Traces { epoch, by_phone: [(PhoneId::new("R5CW2355X"), Arc::new(trace))].into() }
}

/// What the owner wants to be so on a phone, each result once.
fn upkeep(looked: UnixMillis) -> UpkeepView {
    let setting = |name: &str, state, why: &str, drifts, lost_by_restart| SettingView {
        name: name.to_owned(),
        state,
        why: why.to_owned(),
        drifts,
        lost_by_restart,
        restarts_outlived: 1,
    };
    UpkeepView {
        looked: Some(looked),
        recipes: vec!["any Android".to_owned(), "One UI".to_owned()],
        settings: vec![
            setting("permission READ_SMS", SettingState::Kept, "", 0, 0),
            setting("permission CAMERA", SettingState::NotHere, "the agent does not ask for it", 0, 0),
            setting(
                "setting global stay_on_while_plugged_in",
                SettingState::Refused,
                "it was `0` also after it was set",
                1,
                0,
            ),
            setting("doze whitelist", SettingState::Set, "the agent was not on it", 3, 2),
            setting("standby bucket", SettingState::Kept, "", 1, 1),
            setting("run in background", SettingState::Unread, "no answer in 10 s", 0, 0),
            setting(
                "never sleeping",
                SettingState::Hand,
                "Settings, Battery, Never sleeping apps: add the agent",
                0,
                0,
            ),
        ],
    }
}

fn ready(slot: usize, (brand, model): (&str, &str), ago: &impl Fn(i64) -> UnixMillis) -> PhoneView {
    let serial = format!("R5CW{:04}X", 1_700 + slot * 131);
    PhoneView {
        id: PhoneId::new(&serial),
        slot: Some(SlotName::new(format!("A{slot}"))),
        endpoint: Some(format!("usb:1-2.{slot}").parse::<Endpoint>().unwrap()),
        serial: Some(Serial::new(&serial)),
        leases: Vec::new(),
        state: PhoneState::Ready,
        why: "the agent is installed and the phone answers".to_owned(),
        since: ago(5 * 3600),
        deadline: None,
        brand: Some(brand.to_owned()),
        model: Some(model.to_owned()),
        sdk: Some(34),
        device: DeviceView {
            android: Some("14".to_owned()),
            build: Some("UQ1A.240205.004".to_owned()),
            abi: Some("arm64-v8a".to_owned()),
            imei: Some(format!("35362607209{slot:04}")),
            storage: Some(Storage { free_bytes: 68_132_567_040, total_bytes: 115_041_984_512 }),
            screen_size: Some(ScreenSize { width: 1080, height: 2400 }),
            screen_density_dpi: Some(420),
            screen: Some(ScreenState::Off),
            started: Some(ago(3 * 86_400)),
            read: Some(ago(45)),
            ..DeviceView::default()
        },
        battery: Some(battery(55 + u8::try_from(slot).unwrap() * 4, 29.5, Charging::Yes)),
        agent: Some(agent(21)),
        upkeep: UpkeepView::default(),
        line: LineView {
            state: LineState::Registered,
            why: "the server acknowledges its heartbeat".to_owned(),
            since: ago(5 * 3600),
            last_heartbeat: Some(ago(150)),
            deadline: None,
            restarts: 0,
            agent_since: None,
            outbox: Default::default(),
        },
        last_alive: Some(ago(130)),
        answers: Answers {
            probes: Outcomes { answered: 2880, failed: 1 },
            readings: Outcomes { answered: 1440, failed: 0 },
        },
        power: Some(PowerPort { hub: HubName::new("H1"), port: HubPort(u8::try_from(slot).unwrap()) }),
        usb: None,
    }
}

fn leave(phone: &mut PhoneView, ago: &impl Fn(i64) -> UnixMillis) {
    phone.state = PhoneState::Absent;
    phone.why = "it left the bus".to_owned();
    phone.since = ago(700);
    phone.endpoint = None;
    phone.line = LineView { why: "the phone is not here".to_owned(), since: ago(700), ..LineView::default() };
}

fn recover(phone: &mut PhoneView, ago: &impl Fn(i64) -> UnixMillis) {
    phone.state = PhoneState::Recovering;
    phone.why = "the probe was not answered within 5 s, three times".to_owned();
    phone.since = ago(200);
    phone.deadline = Some(DeadlineView { at: ago(-20), why: "the next attempt to open it".to_owned() });
    phone.last_alive = Some(ago(330));
}

fn authorise(phone: &mut PhoneView, ago: &impl Fn(i64) -> UnixMillis) {
    phone.state = PhoneState::Authorising;
    phone.why = "tap \"Allow USB debugging\" on its screen".to_owned();
    phone.since = ago(900);
    phone.agent = None;
    phone.battery = None;
    phone.device = DeviceView::default();
    phone.last_alive = None;
    phone.line = LineView { why: "the phone is not ready".to_owned(), since: ago(900), ..LineView::default() };
}

/// A phone that no slot expects.
fn spare(ago: &impl Fn(i64) -> UnixMillis) -> PhoneView {
    let mut phone = ready(9, ("Nokia", "G42 5G"), ago);
    phone.slot = None;
    phone.power = None;
    phone.endpoint = Some("tcp:127.0.0.1:15501".parse().unwrap());
    phone.state = PhoneState::Provisioning;
    phone.why = "org.example.agent 2.1 is being installed".to_owned();
    phone.since = ago(6);
    phone.agent = None;
    phone.line = LineView {
        state: LineState::NeedsIdentity,
        why: "it tells no IMEI".to_owned(),
        since: ago(150),
        ..LineView::default()
    };
    phone
}

fn hub(name: &str, state: HubState, ago: &impl Fn(i64) -> UnixMillis) -> HubView {
    let first = name == "H1";
    let port = |port: u8| HubPortView {
        port: HubPort(port),
        current_milliamps: match port {
            3 => 0,
            5 => 92,
            _ => 380 + u32::from(port) * 41,
        },
        mode: if port == 3 { PortMode::Off } else { PortMode::Sync },
        attached: port != 3,
        slot: first.then(|| SlotName::new(format!("A{port}"))),
    };
    HubView {
        name: HubName::new(name),
        device: format!("/dev/ttyUSB{}", if first { 0 } else { 1 }),
        identity: first.then(|| "cambrionix SuperSync15, firmware 1.83".to_owned()),
        state,
        why: if first { "it answers" } else { "no answer for 40 s; the port is opened again" }.to_owned(),
        last_reading: Some(ago(if first { 140 } else { 1_300 })),
        temperature_celsius: first.then_some(37.8),
        supply_volts: first.then_some(5.18),
        ports: (1..=if first { 8 } else { 4 }).map(port).collect(),
    }
}

fn rollouts(phones: &[PhoneView], ago: &impl Fn(i64) -> UnixMillis) -> Vec<RolloutView> {
    let view = |index: usize, state: RolloutPhoneState, why: Option<&str>| RolloutPhoneView {
        phone: phones[index].id.clone(),
        state,
        why: why.map(str::to_owned),
        attempts: u32::from(state != RolloutPhoneState::Waiting),
    };
    use RolloutPhoneState::{Done, Failed, Installing, Waiting};
    let running = RolloutView {
        id: RolloutId::new("R2"),
        state: RolloutState::Paused,
        why: "1 phone of wave 2 failed; `farmhand rollout resume R2` tries it again".to_owned(),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(22),
        version_name: "2.2".to_owned(),
        created: ago(1_500),
        waves: vec![
            WaveView { phones: vec![view(0, Done, None)] },
            WaveView {
                phones: vec![
                    view(1, Done, None),
                    view(3, Failed, Some("INSTALL_FAILED_INSUFFICIENT_STORAGE: 120 MB are missing")),
                    view(6, Installing, None),
                ],
            },
            WaveView { phones: vec![view(7, Waiting, None), view(4, Waiting, Some("it is recovering"))] },
        ],
    };
    let finished = RolloutView {
        id: RolloutId::new("R1"),
        state: RolloutState::Finished,
        why: "every phone has it".to_owned(),
        version_code: VersionCode(21),
        version_name: "2.1".to_owned(),
        created: ago(3 * 86_400),
        waves: vec![WaveView { phones: vec![view(0, Done, None), view(1, Done, None)] }],
        ..running.clone()
    };
    vec![running, finished]
}
