use std::collections::BTreeMap;

use super::*;
use crate::rack::identities::IdentityEvent;

/// A place that is no slot.
const B1: &str = "tcp:127.0.0.1:15502";

fn set(name: &str, credential: &str) -> Event {
    let entries = BTreeMap::from([(name.to_owned(), credential.to_owned())]);
    Event::Identity { event: IdentityEvent::Set(entries), ask: None }
}

fn forget(phone: &str) -> Event {
    Event::Identity { event: IdentityEvent::Forgotten { phone: PhoneId::new(phone) }, ask: None }
}

/// What the lines register as, in the order in which they are told to.
fn opened(commands: &[Command]) -> Vec<String> {
    let open = |command: &&LineCommand| match command {
        LineCommand::Open { credential, .. } => Some(credential.clone()),
        _ => None,
    };
    line_commands(commands).iter().filter_map(open).collect()
}

#[test]
fn what_was_set_counts_before_the_rule_and_at_once() {
    let mut bench = Bench::new(Rung::Reopen);
    assert_eq!(opened(&bench.ready_with_agent(1)), ["490154203237518"]);
    assert_eq!(opened(&bench.event(set("A1", "of-slot"))), ["of-slot"]);
    assert_eq!(opened(&bench.event(set("P1", "of-phone"))), ["of-phone"], "a phone is nearer than a slot");
    assert_eq!(opened(&bench.event(forget("P1"))), ["of-slot"]);
    assert_eq!(opened(&bench.event(set("P7", "of-nobody"))), [""; 0]);
}

#[test]
fn a_phone_that_tells_no_imei_registers_once_it_is_given_an_identity() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.appears(A1);
    bench.opened();
    bench.phone(phone::Event::profile(Profile { imei: None, ..profile("P1", Some(1)) }));
    assert_eq!(bench.line(), LineState::NeedsIdentity);
    assert_eq!(opened(&bench.event(set("P1", "350-1"))), ["350-1"]);
}

#[test]
fn two_phones_never_register_as_the_same() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.plugged(B1, "P2");
    bench.phone_at(B1, phone::Event::Opened { model: None, features: Vec::new() });
    let commands = bench.phone_at(B1, phone::Event::profile(profile("P2", Some(1))));
    assert_eq!(opened(&commands), [""; 0]);
    let view = bench.rack.snapshot(bench.now).phone("P2").unwrap().line.clone();
    assert_eq!(view.state, LineState::NeedsIdentity);
    assert_eq!(view.why, "P1 has the line of 490154203237518: one credential, one phone");
    assert_eq!(opened(&bench.event(set("P2", "350-2"))), ["350-2"]);
}

#[test]
fn a_credential_that_another_phone_was_given_is_refused() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.event(set("P1", "350-1"));
    let entries = |name: &str| BTreeMap::from([(name.to_owned(), "350-1".to_owned())]);
    assert_eq!(bench.rack.check_identities(&entries("P1")), Ok(()));
    assert_eq!(bench.rack.check_identities(&entries("A2")).unwrap_err().code, "identity.taken");
    assert_eq!(bench.rack.check_identity("A1").unwrap(), PhoneId::new("P1"));
    bench.event(forget("P1"));
    assert_eq!(bench.rack.check_identity("A1").unwrap_err().code, "identity.none");
}
