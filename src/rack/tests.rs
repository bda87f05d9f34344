mod acts;
mod credentials;
mod delivery;
mod detached;
mod identity;
mod incidents;
mod leases;
mod lines;
mod power;
mod recovery;
mod story;
mod upkeep;

use std::time::Duration;

use super::event::{
    Asked, BatteryCondition, Condition, HubEvent, HubReading, InstallOrder, LineCommand, LineWait, PortReading,
    Presence, UpgradeNotice,
};
use super::ids::{HubName, HubPort, PackageName, RolloutId, SlotName, VersionCode};
use super::snapshot::{InstalledAgent, PortMode, PowerPort};
use super::*;
use crate::config::{Credential, Relay, Rung};
use crate::phone::{InstallFailureClass, OpenFault, Profile};
use crate::rack::snapshot::{LineState, PhoneState};

/// A rack with one slot, driven by hand.
struct Bench {
    rack: Rack,
    now: Moment,
}

const A1: &str = "tcp:127.0.0.1:15501";

fn wanted_agent(version: u64) -> phone::WantedAgent {
    phone::WantedAgent {
        apk: format!("/state/apks/{version}.apk").into(),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(version),
        sha256: format!("{version:064x}"),
    }
}

impl Bench {
    fn new(max_rung: Rung) -> Self {
        let endpoint: Endpoint = A1.parse().unwrap();
        let slot = SlotName::new("A1");
        let power = PowerPort { hub: HubName::new("H1"), port: HubPort(3) };
        let settings = Settings {
            rack: "test".to_owned(),
            slots: [(endpoint, slot.clone())].into(),
            slot_order: vec![slot.clone()],
            labels: std::collections::BTreeMap::new(),
            power: [(slot, power)].into(),
            hubs: vec![(HubName::new("H1"), "/dev/ttyUSB0".to_owned())],
            credential: Some(Credential::Imei),
            relay: Relay::default(),
            grace: Duration::from_secs(90),
            agent: Some(wanted_agent(1)),
            upkeep: None,
            max_rung,
            install_timeout: Duration::from_secs(300),
            switched_off: Vec::new(),
        };
        Self { rack: Rack::new(settings, UnixMillis(0), Moment::START), now: Moment::START }
    }

    fn event(&mut self, event: Event) -> Vec<Command> {
        self.rack.apply(self.now, event).commands
    }

    fn appears(&mut self, at: &str) -> Vec<Command> {
        self.event(Event::Appeared { endpoint: at.parse().unwrap(), serial: None })
    }

    fn phone(&mut self, event: phone::Event) -> Vec<Command> {
        self.phone_at(A1, event)
    }

    fn phone_at(&mut self, at: &str, event: phone::Event) -> Vec<Command> {
        self.event(Event::Phone { endpoint: at.parse().unwrap(), event })
    }

    fn plugged(&mut self, at: &str, serial: &str) -> Vec<Command> {
        self.event(Event::Appeared { endpoint: at.parse().unwrap(), serial: Some(Serial::new(serial)) })
    }

    fn unplugged(&mut self, at: &str) -> Vec<Command> {
        self.event(Event::Gone { endpoint: at.parse().unwrap(), why: "unplugged".to_owned() })
    }

    fn line_says(&mut self, event: LineEvent) -> Vec<Command> {
        self.event(Event::Line { phone: PhoneId::new("P1"), event })
    }

    fn opened(&mut self) -> Vec<Command> {
        self.phone(phone::Event::Opened { model: None, features: Vec::new() })
    }

    fn ready_with_agent(&mut self, version: u64) -> Vec<Command> {
        self.appears(A1);
        self.opened();
        self.phone(phone::Event::profile(profile("P1", Some(version))))
    }

    fn wait(&mut self, seconds: u64) -> Vec<Command> {
        let until = self.now + Duration::from_secs(seconds);
        let mut commands = Vec::new();
        while let Some(deadline) = self.rack.deadline().filter(|deadline| deadline.at <= until) {
            self.now = self.now.max(deadline.at);
            commands.extend(self.rack.advance(self.now).commands);
        }
        self.now = until;
        commands
    }

    fn state(&self) -> PhoneState {
        self.rack.snapshot(self.now).phones[0].state
    }

    fn ids(&self) -> Vec<String> {
        self.rack.snapshot(self.now).phones.into_iter().map(|view| view.id.to_string()).collect()
    }

    fn line(&self) -> LineState {
        self.rack.snapshot(self.now).phones[0].line.state
    }

    fn hub_answers(&mut self) {
        let port = PortReading { port: HubPort(3), current_milliamps: 300, mode: PortMode::Sync, attached: true };
        let reading = HubReading { ports: vec![port], ..HubReading::default() };
        self.event(Event::Hub { hub: HubName::new("H1"), event: HubEvent::Reading(reading) });
    }
}

fn agent(version: u64) -> InstalledAgent {
    InstalledAgent {
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(version),
        version_name: format!("{version}.0"),
    }
}

fn profile(serial: &str, version: Option<u64>) -> Profile {
    Profile {
        serial: Some(Serial::new(serial)),
        imei: Some("490154203237518".to_owned()),
        booted: true,
        agent: version.map(agent),
        ..Profile::default()
    }
}

fn order(version: u64) -> InstallOrder {
    InstallOrder {
        rollout: RolloutId::new("R1"),
        apk: "/tmp/a.apk".into(),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(version),
        carrier: phone::Carrier::Rack,
        downgrade: crate::rack::strategy::Downgrade::Refused,
    }
}

fn says_to_phone(commands: &[Command], wanted: &phone::Command) -> bool {
    commands.iter().any(|command| matches!(command, Command::Phone { command, .. } if command == wanted))
}

fn rollout_commands(commands: Vec<Command>) -> Vec<RolloutCommand> {
    commands
        .into_iter()
        .filter_map(|command| match command {
            Command::Rollout(command) => Some(command),
            _ => None,
        })
        .collect()
}

fn line_commands(commands: &[Command]) -> Vec<&LineCommand> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Line { command, .. } => Some(command),
            _ => None,
        })
        .collect()
}

#[test]
fn a_phone_without_the_agent_gets_it_and_then_a_line() {
    let mut bench = Bench::new(Rung::Reopen);
    assert_eq!(bench.state(), PhoneState::Absent);
    assert!(says_to_phone(&bench.appears(A1), &phone::Command::Open));
    assert!(says_to_phone(&bench.opened(), &phone::Command::ReadProfile));
    let commands = bench.phone(phone::Event::profile(profile("P1", None)));
    assert!(says_to_phone(&commands, &phone::Command::Provision { agent: Box::new(wanted_agent(1)) }));
    assert_eq!(bench.state(), PhoneState::Provisioning);
    let commands = bench.phone(phone::Event::Provisioned(agent(1)));
    assert_eq!(bench.state(), PhoneState::Ready);
    let told = line_commands(&commands);
    assert!(
        matches!(told[..], [LineCommand::Device(device)] if device.apps[0].version_code == VersionCode(1)),
        "{told:?}"
    );
}

#[test]
fn an_unplugged_phone_is_absent_and_its_line_closed() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let commands = bench.event(Event::Gone { endpoint: A1.parse().unwrap(), why: "unplugged".to_owned() });
    assert_eq!(bench.state(), PhoneState::Absent);
    assert!(matches!(line_commands(&commands)[..], [LineCommand::Close { .. }]), "{commands:?}");
}

#[test]
fn a_lost_connection_is_opened_again_at_once_and_refused_means_absent() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let commands = bench.phone(phone::Event::Lost { why: "end of file".to_owned() });
    assert!(says_to_phone(&commands, &phone::Command::Open));
    bench.phone(phone::Event::OpenFailed { fault: OpenFault::Gone, why: "connection refused".to_owned() });
    assert_eq!(bench.state(), PhoneState::Absent);
    assert_eq!(bench.line(), LineState::Closed);
}

#[test]
fn a_heartbeat_is_sent_only_after_an_answered_probe() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let id = PhoneId::new("P1");
    let registered = LineEvent::State { state: LineState::Registered, why: "registered".to_owned() };
    bench.event(Event::Line { phone: id.clone(), event: registered });
    let commands = bench.event(Event::Line { phone: id.clone(), event: LineEvent::HeartbeatDue });
    assert!(says_to_phone(&commands, &phone::Command::Probe));
    let commands = bench.phone(phone::Event::ProbeAnswered);
    assert_eq!(line_commands(&commands), [&LineCommand::Presence(Presence::Answered)]);

    bench.event(Event::Line { phone: id, event: LineEvent::HeartbeatDue });
    let commands = bench.phone(phone::Event::ProbeFailed { why: "silent".to_owned() });
    assert!(matches!(line_commands(&commands)[..], [LineCommand::Close { .. }]), "{commands:?}");
}

#[test]
fn a_phone_that_the_server_took_off_line_is_an_alert_until_it_has_been_back_for_an_hour() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let id = PhoneId::new("P1");
    let why = "another holder of the same credential registered".to_owned();
    bench.event(Event::Line { phone: id.clone(), event: LineEvent::ForcedOffline { why: why.clone() } });
    let alerts = bench.rack.snapshot(bench.now).alerts;
    let told: Vec<_> = alerts.iter().map(|alert| (alert.code.as_str(), &alert.phone, &alert.what)).collect();
    assert_eq!(told, [("line.forced_offline", &Some(id.clone()), &why)]);

    for (minutes, stands) in [(30, 1), (29, 1), (2, 0)] {
        bench.now = bench.now + Duration::from_secs(minutes * 60);
        bench.event(Event::Line { phone: id.clone(), event: LineEvent::HeartbeatAcknowledged });
        assert_eq!(bench.rack.snapshot(bench.now).alerts.len(), stands, "after {minutes} min more");
    }
}

#[test]
fn what_a_line_waits_for_is_shown_with_its_end() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let id = PhoneId::new("P1");
    let wait = LineWait { within: Duration::from_secs(7), why: "the next attempt to reach the central server" };
    bench.event(Event::Line { phone: id.clone(), event: LineEvent::Waits(Some(wait)) });
    let shown = bench.rack.snapshot(bench.now);
    let deadline = shown.phones[0].line.deadline.clone().unwrap();
    assert_eq!((deadline.at, deadline.why.as_str()), (shown.at.plus(wait.within), wait.why));
    bench.unplugged(A1);
    assert_eq!(bench.rack.snapshot(bench.now).phones[0].line.deadline, None, "a closed line waits for nothing");
}

#[test]
fn a_line_never_outlives_the_grace_period() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.phone(phone::Event::Lost { why: "stalled".to_owned() });
    let commands = bench.wait(91);
    assert!(
        line_commands(&commands).iter().any(|command| matches!(command, LineCommand::Close { .. })),
        "{commands:?}"
    );
}

#[test]
fn a_notice_becomes_an_offer_and_an_install_its_result_before_availability() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let notice = UpgradeNotice {
        message_id: 7,
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(2),
        version_name: "2.0".to_owned(),
        url: "http://127.0.0.1/agent-2.apk".to_owned(),
    };
    let id = PhoneId::new("P1");
    let commands = bench.event(Event::Line { phone: id.clone(), event: LineEvent::UpgradeNotice(notice.clone()) });
    assert_eq!(commands, [Command::Rollout(RolloutCommand::Offered { phone: id.clone(), notice })]);
    let commands = bench.event(Event::Rollout(RolloutEvent::Install { phone: id.clone(), order: order(2) }));
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert!(says_to_phone(&commands, &phone::Command::Install { order: order(2) }));
    let commands = bench.phone(phone::Event::Installed { rollout: RolloutId::new("R1"), result: Ok(agent(2)) });
    let rollouts: Vec<_> = commands.iter().filter(|command| matches!(command, Command::Rollout(_))).collect();
    assert!(
        matches!(
            rollouts[..],
            [
                Command::Rollout(RolloutCommand::Installed { result: Ok(VersionCode(2)), .. }),
                Command::Rollout(RolloutCommand::Available { version_code: Some(VersionCode(2)), .. })
            ]
        ),
        "{rollouts:?}"
    );
}

#[test]
fn an_unplug_in_the_middle_of_an_install_is_no_result_and_the_phone_is_available_once_it_is_back() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.event(Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) }));
    let told = rollout_commands(bench.unplugged(A1));
    assert!(matches!(told[..], [RolloutCommand::Unavailable { .. }]), "{told:?}");
    let told = rollout_commands(bench.ready_with_agent(2));
    assert!(
        matches!(told[..], [RolloutCommand::Available { version_code: Some(VersionCode(2)), .. }]),
        "what the phone has decides: {told:?}"
    );
}

#[test]
fn two_phones_with_one_serial_are_told_apart_by_their_place() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let other: Endpoint = "usb:1-2".parse().unwrap();
    bench.event(Event::Appeared { endpoint: other, serial: Some(Serial::new("P1")) });
    assert_eq!(bench.ids(), ["P1~490154203237518", "P1@usb:1-2"]);
}

#[test]
fn a_phone_that_moves_keeps_its_identity_and_leaves_its_old_place_empty() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.event(Event::Gone { endpoint: A1.parse().unwrap(), why: "unplugged".to_owned() });
    bench.event(Event::Appeared { endpoint: "usb:1-2".parse().unwrap(), serial: Some(Serial::new("P1")) });
    let views = bench.rack.snapshot(bench.now).phones;
    let places: Vec<_> =
        views.iter().map(|view| (view.id.as_str(), view.endpoint.as_ref().unwrap().to_string())).collect();
    assert_eq!(places, [("A1", A1.to_owned()), ("P1", "usb:1-2".to_owned())]);
}

#[test]
fn an_order_for_a_hub_or_port_that_is_not_there_is_refused_with_what_there_is() {
    let mut bench = Bench::new(Rung::Reopen);
    let check =
        |bench: &Bench, hub: &str, port| bench.rack.check_port(&HubName::new(hub), HubPort(port)).unwrap_err().code;
    assert_eq!(check(&bench, "H9", 1), "hub.unknown");
    assert_eq!(check(&bench, "H1", 3), "hub.stale");
    bench.hub_answers();
    assert_eq!(check(&bench, "H1", 9), "hub.port");
    assert_eq!(bench.rack.check_port(&HubName::new("H1"), HubPort(3)), Ok(()));
}

#[test]
fn the_next_handset_in_a_place_is_not_taken_for_the_one_before() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let endpoint: Endpoint = A1.parse().unwrap();
    bench.event(Event::Gone { endpoint: endpoint.clone(), why: "unplugged".to_owned() });
    bench.event(Event::Appeared { endpoint, serial: Some(Serial::new("P2")) });
    assert!(line_commands(&bench.opened()).is_empty(), "P2 was not asked for its IMEI yet");
    assert_eq!(bench.rack.snapshot(bench.now).phone("P2").unwrap().agent, None);
}

#[test]
fn rollouts_learn_that_a_phone_was_displaced_by_another_one() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    // A twin is told apart by its place only while the other is there, so a phone may get another name while it is ready.
    let commands = bench.phone(phone::Event::profile(profile("P2", Some(1))));
    let displaced = commands.iter().any(|command| {
        matches!(command, Command::Rollout(RolloutCommand::Unavailable { phone, .. }) if phone.as_str() == "P1")
    });
    assert!(displaced, "{commands:?}");
}

#[test]
fn a_phone_that_was_changed_by_a_tool_is_read_again_at_once() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let changed = Event::Changed { phone: PhoneId::new("P1") };
    assert!(says_to_phone(&bench.event(changed.clone()), &phone::Command::ReadProfile));
    assert_eq!(bench.event(changed), [], "the answer is on its way");
}

#[test]
fn a_question_without_an_answer_closes_no_line_and_forgets_no_agent() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    while !says_to_phone(&bench.wait(1), &phone::Command::ReadProfile) {
        bench.phone(phone::Event::ProbeAnswered);
    }
    let half = Profile { imei: None, booted: false, agent: None, ..profile("P1", None) };
    let commands = bench.phone(phone::Event::profile(half));
    assert_eq!(commands, []);
}

#[test]
fn a_phone_whose_android_is_starting_is_not_said_to_lack_an_identity() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.appears(A1);
    bench.opened();
    let starting = Profile { imei: None, booted: false, ..profile("P1", None) };
    bench.phone(phone::Event::profile(starting));
    assert_eq!((bench.state(), bench.line()), (PhoneState::Online, LineState::Closed));
    while !says_to_phone(&bench.wait(1), &phone::Command::ReadProfile) {}
    bench.phone(phone::Event::profile(Profile { imei: None, ..profile("P1", None) }));
    assert_eq!(bench.line(), LineState::NeedsIdentity);
}

const USB: &str = "usb:1-2";

#[test]
fn a_usb_phone_that_fails_in_the_handshake_is_tried_again_for_only_the_bus_says_that_it_left() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.plugged(USB, "P1");
    let failed = phone::Event::OpenFailed { fault: OpenFault::Gone, why: "input/output error".to_owned() };
    assert!(says_to_phone(&bench.phone_at(USB, failed.clone()), &phone::Command::Open));
    bench.phone_at(USB, failed);
    let view = bench.rack.snapshot(bench.now).phones.into_iter().find(|view| view.id.as_str() == "P1").unwrap();
    assert_eq!(view.state, PhoneState::Recovering);
    assert!(says_to_phone(&bench.wait(2), &phone::Command::Open));
}

#[test]
fn a_probe_without_any_answer_closes_the_line_and_the_next_online_opens_it() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.wait(10);
    bench.line_says(LineEvent::HeartbeatDue);
    let commands = bench.wait(18);
    assert!(matches!(line_commands(&commands)[..], [LineCommand::Close { .. }]), "{commands:?}");
    assert_eq!(line_commands(&bench.opened()), [] as [&LineCommand; 0], "the answer from before does not count");
    let commands = bench.phone(phone::Event::profile(profile("P1", Some(1))));
    assert!(matches!(line_commands(&commands)[..], [LineCommand::Open { .. }]), "{commands:?}");
}

#[test]
fn a_connection_that_ends_over_another_question_closes_a_line_that_waits_for_a_probe() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    while !says_to_phone(&bench.wait(1), &phone::Command::ReadProfile) {
        bench.phone(phone::Event::ProbeAnswered);
    }
    bench.phone(phone::Event::ProbeAnswered);
    bench.line_says(LineEvent::HeartbeatDue);
    let commands = bench.phone(phone::Event::ProfileFailed { why: "its properties could not be read".to_owned() });
    assert!(matches!(line_commands(&commands)[..], [LineCommand::Close { .. }]), "{commands:?}");
}

#[test]
fn an_acknowledged_heartbeat_is_no_news() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let event = Event::Line { phone: PhoneId::new("P1"), event: LineEvent::HeartbeatAcknowledged };
    assert_eq!(bench.rack.apply(bench.now, event).changes, []);
    assert!(bench.rack.snapshot(bench.now).phones[0].line.last_heartbeat.is_some());
}

#[test]
fn each_new_state_of_a_rollout_is_told_once() {
    use super::snapshot::{RolloutState, RolloutView};
    let mut bench = Bench::new(Rung::Reopen);
    let view = |state| RolloutView {
        id: RolloutId::new("R1"),
        state,
        why: "as it is".to_owned(),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(2),
        version_name: "2.0".to_owned(),
        created: UnixMillis(0),
        waves: Vec::new(),
    };
    let mut told = Vec::new();
    for state in [RolloutState::Gathering, RolloutState::Gathering, RolloutState::Running, RolloutState::Running] {
        let event = Event::Rollout(RolloutEvent::Views(vec![view(state)]));
        told.extend(bench.rack.apply(bench.now, event).changes);
    }
    let states: Vec<_> = told
        .iter()
        .filter_map(|change| match change {
            Change::Rollout { state, .. } => Some(*state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [RolloutState::Gathering, RolloutState::Running]);
}
