use super::*;
use crate::rack::lease::{HOLD, Lease, LeaseEvent, Tool};

fn hold(who: &str, seconds: i64) -> Lease {
    let (phone, reason) = (PhoneId::new("P1"), "battery check".to_owned());
    let until = UnixMillis(seconds * 1000);
    Lease { phone, id: HOLD, tool: Tool::Hold, who: who.to_owned(), reason, since: UnixMillis(0), until }
}

impl Bench {
    fn lease(&mut self, event: LeaseEvent) -> Vec<Command> {
        self.event(Event::Lease { event, ask: None })
    }
}

#[test]
fn rollouts_leave_a_held_phone_alone_and_hear_who_has_it() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let told = rollout_commands(bench.lease(LeaseEvent::Taken(hold("mara", 7200))));
    assert!(
        matches!(&told[..], [RolloutCommand::Unavailable { why, .. }] if why == "mara holds it: battery check"),
        "{told:?}"
    );
    let order = Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) });
    let answered = bench.event(order);
    assert!(!says_to_phone(&answered, &phone::Command::Install { order: super::order(2) }));
    let told = rollout_commands(answered);
    let [RolloutCommand::Installed { result: Err(failure), .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((failure.class, failure.why.as_str()), (InstallFailureClass::Transient, "mara holds it: battery check"));
    let ended = LeaseEvent::Ended { phone: PhoneId::new("P1"), id: HOLD, why: "mara has ended it".to_owned() };
    let told = rollout_commands(bench.lease(ended));
    assert!(matches!(told[..], [RolloutCommand::Available { .. }]), "{told:?}");
}

#[test]
fn a_held_phone_is_opened_again_and_nothing_harsher_until_the_lease_ends_by_itself() {
    let mut bench = Bench::new(Rung::Reboot);
    bench.ready_with_agent(1);
    bench.lease(LeaseEvent::Taken(hold("mara", 600)));
    let mut seen = [0, 0];
    let mut harsh_at = None;
    while harsh_at.is_none() && bench.now.since_start() < Duration::from_secs(900) {
        let why = "no answer".to_owned();
        bench.phone(phone::Event::OpenFailed { fault: OpenFault::Protocol, why });
        let commands = bench.wait(1);
        seen[0] += usize::from(says_to_phone(&commands, &phone::Command::Open));
        if says_to_phone(&commands, &phone::Command::ResetUsb) {
            harsh_at = Some(bench.now.since_start().as_secs());
        }
        seen[1] += usize::from(bench.rack.snapshot(bench.now).phones[0].leases.is_empty());
    }
    assert!(seen[0] >= 3, "it was opened {} times", seen[0]);
    assert!(matches!(harsh_at, Some(600..=603)), "{harsh_at:?}");
}

#[test]
fn a_hold_whose_time_is_over_is_told_to_its_keeper_once_and_a_tools_lease_is_not() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let shell = Lease { id: 7, tool: Tool::Shell, ..hold("mara", 300) };
    bench.lease(LeaseEvent::Taken(hold("mara", 600)));
    bench.lease(LeaseEvent::Taken(shell));
    let over: Vec<Lease> = bench
        .wait(1200)
        .into_iter()
        .filter_map(|command| match command {
            Command::HoldIsOver(lease) => Some(lease),
            _ => None,
        })
        .collect();
    assert_eq!(over, [hold("mara", 600)]);
}

fn is_provisioned(commands: &[Command]) -> bool {
    commands.iter().any(|command| matches!(command, Command::Phone { command: phone::Command::Provision { .. }, .. }))
}

#[test]
fn the_configured_agent_waits_for_the_end_of_the_lease() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.lease(LeaseEvent::Taken(hold("mara", 600)));
    bench.unplugged(A1);
    bench.appears(A1);
    bench.opened();
    let commands = bench.phone(phone::Event::profile(profile("P1", None)));
    assert!(!is_provisioned(&commands));
    assert_eq!(bench.state(), PhoneState::Ready);
}

#[test]
fn a_hold_is_refused_to_others_with_the_name_of_who_has_it() {
    let mut bench = Bench::new(Rung::Reopen);
    assert_eq!(bench.rack.check_hold("A1", "jon").unwrap_err().what, "no phone was seen in A1 yet");
    bench.ready_with_agent(1);
    assert_eq!(bench.rack.check_release("A1").unwrap_err().code, "lease.none");
    bench.lease(LeaseEvent::Taken(hold("mara", 600)));
    assert_eq!(bench.rack.check_hold("A1", "jon").unwrap_err().code, "lease.held");
    assert_eq!(bench.rack.check_hold("P1", "mara"), Ok(PhoneId::new("P1")));
    assert_eq!(bench.rack.check_release("A1"), Ok(PhoneId::new("P1")));
    assert_eq!(bench.rack.check_hold("A9", "jon").unwrap_err().code, "phone.unknown");
}

#[test]
fn a_held_phone_that_is_known_again_only_by_its_profile_gets_nothing_installed() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.lease(LeaseEvent::Taken(hold("mara", 7200)));
    let elsewhere = "tcp:127.0.0.1:15599";
    bench.phone(phone::Event::OpenFailed { fault: OpenFault::Gone, why: "gone".to_owned() });
    bench.event(Event::Gone { endpoint: A1.parse().unwrap(), why: "gone".to_owned() });
    bench.appears(elsewhere);
    bench.phone_at(elsewhere, phone::Event::Opened { model: None, features: Vec::new() });
    let commands = bench.phone_at(elsewhere, phone::Event::profile(profile("P1", None)));
    assert!(!is_provisioned(&commands));
    assert_eq!(bench.rack.snapshot(bench.now).phone("P1").unwrap().state, PhoneState::Ready);
}
