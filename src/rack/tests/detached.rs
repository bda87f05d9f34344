use super::*;
use crate::phone::Command as Order;
use crate::rack::detach::{DetachEvent, Detachment};
use crate::rack::lease::{HOLD, Lease, LeaseEvent, Tool};

const USB: &str = "usb:1-2.3";

impl Bench {
    fn detach(&mut self, at: &str) -> Vec<Command> {
        let detachment = Detachment { endpoint: at.parse().unwrap(), who: "mara".to_owned(), since: UnixMillis(0) };
        self.event(Event::Detach { event: DetachEvent::Detached(detachment), ask: None })
    }

    fn attach(&mut self, at: &str) -> Vec<Command> {
        let event = DetachEvent::Attached { endpoint: at.parse().unwrap(), who: "mara".to_owned() };
        self.event(Event::Detach { event, ask: None })
    }

    fn refused(&self, name: &str, who: &str) -> String {
        self.rack.check_detach(name, who).unwrap_err().code
    }
}

fn to_phones(commands: &[Command]) -> Vec<&Order> {
    let orders = commands.iter().filter_map(|command| match command {
        Command::Phone { command, .. } => Some(command),
        _ => None,
    });
    orders.collect()
}

#[test]
fn a_detached_phone_is_left_its_line_closed_and_rollouts_hear_why() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.ready_with_agent(1);
    let commands = bench.detach(A1);
    assert_eq!(to_phones(&commands), [&Order::Leave]);
    let told = rollout_commands(commands);
    let why = "the phone is detached: mara has given its interface to another program";
    assert!(matches!(&told[..], [RolloutCommand::Unavailable { why: said, .. }] if said == why), "{told:?}");
    assert_eq!((bench.state(), bench.line()), (PhoneState::Detached, LineState::Closed));
    assert_eq!(to_phones(&bench.wait(3600)), [&Order::Leave; 0], "no probe, no reading, no rung");
    let install = Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) });
    assert_eq!(to_phones(&bench.event(install)), [&Order::Leave; 0]);
    assert_eq!(to_phones(&bench.appears(A1)), [&Order::Leave], "whoever looks for its phone by itself must stop");
    assert_eq!(to_phones(&bench.attach(A1)), [&Order::Open]);
    bench.opened();
    bench.phone(phone::Event::profile(profile("P1", Some(1))));
    assert_eq!(bench.state(), PhoneState::Ready);
}

#[test]
fn what_the_bus_tells_meanwhile_counts_once_it_is_attached() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.plugged(USB, "P2");
    bench.detach(USB);
    bench.unplugged(USB);
    assert_eq!(to_phones(&bench.attach(USB)), [&Order::Leave; 0]);
    let state = |bench: &Bench| bench.rack.snapshot(bench.now).phone("P2").unwrap().state;
    assert_eq!(state(&bench), PhoneState::Absent);
    bench.detach(USB);
    bench.plugged(USB, "P2");
    assert_eq!(state(&bench), PhoneState::Detached);
    assert_eq!(to_phones(&bench.attach(USB)), [&Order::Open]);
    assert_eq!(state(&bench), PhoneState::Claiming);
}

#[test]
fn it_is_the_place_that_is_detached_and_a_phone_that_moves_elsewhere_is_opened_under_its_name() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.plugged(USB, "P2");
    bench.detach(USB);
    bench.unplugged(USB);
    let commands = bench.plugged("usb:1-3", "P2");
    assert_eq!(to_phones(&commands), [&Order::Open]);
    let snapshot = bench.rack.snapshot(bench.now);
    let phone = snapshot.phone("P2").unwrap();
    assert_eq!(phone.endpoint.as_ref().unwrap().to_string(), "usb:1-3");
    assert!(bench.rack.is_detached(&USB.parse().unwrap()));
}

#[test]
fn nothing_is_detached_under_somebody_elses_hands_or_an_install() {
    let mut bench = Bench::new(Rung::Reopen);
    assert_eq!(bench.refused("B9", "mara"), "phone.unknown");
    assert_eq!(bench.rack.check_attach("A1").unwrap_err().code, "phone.attached");
    assert_eq!(bench.rack.check_detach("A1", "mara").unwrap().target, "A1", "nobody was seen there yet");
    bench.appears(A1);
    bench.opened();
    bench.phone(phone::Event::profile(profile("P1", None)));
    assert_eq!(bench.state(), PhoneState::Provisioning);
    assert_eq!(bench.refused("A1", "mara"), "phone.busy");
    bench.phone(phone::Event::Provisioned(agent(1)));
    let hold = Lease {
        phone: PhoneId::new("P1"),
        id: HOLD,
        tool: Tool::Hold,
        who: "jon".to_owned(),
        reason: "battery".to_owned(),
        since: UnixMillis(0),
        until: UnixMillis(60_000),
    };
    bench.event(Event::Lease { event: LeaseEvent::Taken(hold), ask: None });
    assert_eq!(bench.refused("P1", "mara"), "lease.held");
    assert_eq!(bench.rack.check_detach("P1", "jon").unwrap().target, "P1");
    bench.detach(A1);
    assert_eq!(bench.refused("A1", "jon"), "phone.detached");
    assert_eq!(bench.rack.check_attach("A1").unwrap().target, "P1");
}

#[test]
fn an_install_that_was_begun_between_the_check_and_the_promise_is_interrupted() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.event(Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) }));
    let told = rollout_commands(bench.detach(A1));
    assert!(matches!(&told[..], [RolloutCommand::Unavailable { .. }]), "{told:?}");
    assert_eq!(bench.state(), PhoneState::Detached);
}
