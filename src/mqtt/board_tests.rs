//! The contract of `docs/mqtt.md`, byte for byte: a changed golden text breaks what people have built on it.

use super::*;
use crate::rack::ids::{HubName, PackageName, Serial, SlotName, VersionCode};
use crate::rack::lease::{HOLD, Lease, Tool};
use crate::rack::snapshot::{
    AlertView, Battery, BatteryHealth, DaemonView, DeviceView, HostHealth, HubState, HubView, InstalledAgent,
    LineState, LineView, PhoneState, PhoneView, Storage,
};

#[test]
fn a_rack_is_told_as_documented() {
    let mut board = Board::new("rack-1", "0.1.0", Some("homeassistant"));
    board.show_health(&rack()).unwrap();
    board.show_phones(&rack()).unwrap();
    let sent = drain(&mut board);
    let topics: Vec<&str> = sent.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "farmhand/rack-1/status",
            "homeassistant/device/farmhand_rack-1/config",
            "farmhand/rack-1/health",
            "farmhand/rack-1/phones/R58M1234",
            "farmhand/rack-1/phones/slot%3AA2",
        ]
    );
    assert_eq!(sent[0].1, "online");
    let documented = include_str!("../../docs/mqtt.md");
    for (topic, payload) in &sent[1..4] {
        let example = format!("```json\n{}\n```", pretty(payload));
        assert!(documented.contains(&example), "docs/mqtt.md lacks what {topic} shows:\n{example}");
    }
    // The bytes themselves: keys in this order, no blanks, null for what is not known.
    let unknown = concat!(
        r#"{"at":1764000000000,"id":"slot:A2","slot":"A2","serial":null,"model":null,"android":null,"state":"absent","#,
        r#""why":"nothing answers at tcp:127.0.0.1:15502","since":1763999000000,"battery":null,"storage_free_bytes":null,"started":null,"agent":null,"#,
        r#""line":{"state":"closed","why":""},"last_alive":null,"held":null}"#
    );
    assert_eq!(sent[4].1, unknown);
}

#[test]
fn without_discovery_home_assistant_is_not_addressed() {
    let mut board = Board::new("rack-1", "0.1.0", None);
    assert_eq!(drain(&mut board), [("farmhand/rack-1/status".to_owned(), "online".to_owned())]);
}

#[test]
fn only_a_phone_that_changed_is_told_again() {
    let mut board = Board::new("rack-1", "0.1.0", None);
    let mut rack = rack();
    board.show_phones(&rack).unwrap();
    drain(&mut board);

    rack.at = UnixMillis(1_764_000_009_000);
    board.show_phones(&rack).unwrap();
    assert_eq!(drain(&mut board), [], "the time alone is no news");

    rack.phones[1].state = PhoneState::Detected;
    board.show_phones(&rack).unwrap();
    let sent = drain(&mut board);
    assert_eq!(sent.len(), 1);
    assert!(
        sent[0].1.contains(r#""at":1764000009000"#) && sent[0].1.contains(r#""state":"detected""#),
        "{}",
        sent[0].1
    );
}

#[test]
fn what_an_earlier_run_has_left_of_a_phone_is_emptied_unless_the_phone_is_here() {
    let mut board = Board::new("rack-1", "0.1.0", None);
    board.show_phones(&rack()).unwrap();
    drain(&mut board);
    for topic in ["farmhand/rack-1/phones/R58M1234", "farmhand/rack-1/phones/sold"] {
        board.found(topic.to_owned()).unwrap();
    }
    assert_eq!(drain(&mut board), [("farmhand/rack-1/phones/sold".to_owned(), String::new())]);
}

#[test]
fn a_phone_that_is_forgotten_leaves_no_retained_message() {
    let mut board = Board::new("rack-1", "0.1.0", None);
    let mut rack = rack();
    board.show_phones(&rack).unwrap();
    drain(&mut board);
    rack.phones.remove(0);
    board.show_phones(&rack).unwrap();
    assert_eq!(drain(&mut board), [("farmhand/rack-1/phones/R58M1234".to_owned(), String::new())]);
}

#[test]
fn health_counts_every_state() {
    let mut rack = rack();
    rack.host = None;
    rack.phones = PhoneState::ALL.map(|state| PhoneView { state, ..unknown_phone() }).to_vec();
    let health: serde_json::Value = serde_json::from_slice(&payload::health(&rack)).unwrap();
    for state in PhoneState::ALL {
        assert_eq!(health["phones"][state.as_str()], 1);
    }
    assert_eq!(health["phones"]["total"], PhoneState::ALL.len());
    assert_eq!(health["host"]["cpu_percent"], serde_json::Value::Null, "what is not known is null, not absent");
}

fn drain(board: &mut Board) -> Vec<(String, String)> {
    let mut sent = Vec::new();
    while let Some((ticket, message)) = board.next_message() {
        sent.push((message.topic, String::from_utf8(message.payload).unwrap()));
        board.settle(&ticket, Fate::Delivered);
    }
    sent
}

/// Indented, with the keys in the order in which they are sent.
fn pretty(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut quoted) = (0, false);
    for c in json.chars() {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        };
        match c {
            '"' => {
                quoted = !quoted;
                out.push(c);
            }
            '{' | '[' if !quoted => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
            }
            '}' | ']' if !quoted => {
                depth -= 1;
                line(&mut out, depth);
                out.push(c);
            }
            ',' if !quoted => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' if !quoted => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

fn unknown_phone() -> PhoneView {
    PhoneView {
        slot: Some(SlotName::new("A2")),
        why: "nothing answers at tcp:127.0.0.1:15502".to_owned(),
        since: UnixMillis(1_763_999_000_000),
        ..PhoneView::unknown(PhoneId::new("slot:A2"))
    }
}

fn ready_phone() -> PhoneView {
    PhoneView {
        id: PhoneId::new("R58M1234"),
        slot: Some(SlotName::new("A1")),
        serial: Some(Serial::new("R58M1234")),
        state: PhoneState::Ready,
        why: "the agent is installed".to_owned(),
        since: UnixMillis(1_763_999_500_000),
        model: Some("Pixel 6a".to_owned()),
        device: DeviceView {
            android: Some("14".to_owned()),
            storage: Some(Storage { free_bytes: 68_132_567_040, total_bytes: 115_041_984_512 }),
            started: Some(UnixMillis(1_763_948_000_000)),
            ..DeviceView::default()
        },
        battery: Some(Battery {
            level_percent: 81,
            temperature_celsius: Some(29.5),
            voltage_millivolts: Some(4100),
            current_milliamps: Some(312),
            health: Some(BatteryHealth::Good),
            charging: true,
        }),
        agent: Some(InstalledAgent {
            package: PackageName::new("org.example.agent"),
            version_code: VersionCode(12),
            version_name: "1.2.0".to_owned(),
        }),
        line: LineView {
            state: LineState::Registered,
            why: "the server knows the phone".to_owned(),
            ..LineView::default()
        },
        last_alive: Some(UnixMillis(1_763_999_990_000)),
        leases: vec![Lease {
            phone: PhoneId::new("R58M1234"),
            id: HOLD,
            tool: Tool::Hold,
            who: "mara".to_owned(),
            reason: "battery check".to_owned(),
            since: UnixMillis(1_763_999_400_000),
            until: UnixMillis(1_764_006_600_000),
        }],
        ..unknown_phone()
    }
}

fn rack() -> Snapshot {
    Snapshot {
        at: UnixMillis(1_764_000_000_000),
        daemon: DaemonView {
            rack: "rack-1".to_owned(),
            version: "0.1.0".to_owned(),
            started: UnixMillis(1_763_990_000_000),
        },
        host: Some(HostHealth {
            at: UnixMillis(1_763_999_995_000),
            cpu_percent: Some(12.5),
            memory_used_bytes: 1_073_741_824,
            memory_total_bytes: 4_294_967_296,
            disk_free_bytes: Some(21_474_836_480),
            disk_total_bytes: Some(32_212_254_720),
            temperature_celsius: Some(51.3),
        }),
        phones: vec![ready_phone(), unknown_phone()],
        hubs: vec![HubView {
            name: HubName::new("H1"),
            device: "/dev/serial/by-id/hub".to_owned(),
            identity: None,
            state: HubState::Live,
            why: String::new(),
            last_reading: None,
            temperature_celsius: None,
            supply_volts: None,
            ports: Vec::new(),
        }],
        alerts: vec![AlertView {
            code: "line.forced_offline".to_owned(),
            at: UnixMillis(1_763_999_990_000),
            phone: Some(PhoneId::new("R58M1234")),
            slot: Some(SlotName::new("A1")),
            what: "the central server gave the credential to another".to_owned(),
            help: "ask there who took it".to_owned(),
        }],
        ..Snapshot::default()
    }
}
