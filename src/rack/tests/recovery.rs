use super::*;

#[test]
fn by_default_recovery_reopens_and_then_asks_for_a_person() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.appears(A1);
    let commands = bench.wait(5 * 60);
    assert_eq!(bench.state(), PhoneState::Quarantined);
    assert!(!commands.iter().any(|command| matches!(command, Command::SetPort { .. })));
    assert!(!says_to_phone(&commands, &phone::Command::Reboot));
}

#[test]
fn the_ladder_cycles_power_only_within_the_racks_budget_and_only_with_a_hub_that_answers() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.appears(A1);
    let commands = bench.wait(30 * 60);
    assert!(!commands.iter().any(|command| matches!(command, Command::SetPort { .. })), "the hub never answered");

    let mut bench = Bench::new(Rung::CyclePower);
    bench.hub_answers();
    bench.appears(A1);
    let commands = bench.wait(8 * 60);
    let modes = port_orders(&commands);
    assert_eq!(modes[..2], [PortMode::Off, PortMode::Sync]);
}

#[test]
fn a_port_that_recovery_switched_off_is_ordered_on_until_its_hub_says_that_it_is() {
    let mut bench = power_is_cut();
    assert_eq!(port_orders(&bench.wait(6)), [PortMode::Sync]);
    let refused = HubEvent::PortRefused { port: HubPort(3), why: "no answer".to_owned() };
    bench.event(Event::Hub { hub: HubName::new("H1"), event: refused });
    assert_eq!(port_orders(&bench.wait(30)), [PortMode::Sync]);
    let set = HubEvent::PortSet { port: HubPort(3), mode: PortMode::Sync };
    bench.event(Event::Hub { hub: HubName::new("H1"), event: set });
    assert_eq!(port_orders(&bench.wait(40)), []);
}

#[test]
fn the_operators_word_about_a_port_ends_recovery_of_it() {
    let mut bench = power_is_cut();
    bench.event(Event::SetPort { hub: HubName::new("H1"), port: HubPort(3), mode: PortMode::Off });
    assert_eq!(port_orders(&bench.wait(40)), []);
}

#[test]
fn a_phone_whose_power_cannot_be_cycled_is_said_to_be_quarantined() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.appears(A1);
    let mut told = Vec::new();
    while bench.state() != PhoneState::Quarantined {
        bench.now = bench.rack.deadline().unwrap().at;
        told = bench.rack.advance(bench.now).changes;
    }
    assert!(matches!(told[..], [Change::Phone { to: PhoneState::Quarantined, .. }]), "{told:?}");
}

/// A phone that never answers, up to the moment at which its port is switched off.
fn power_is_cut() -> Bench {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.hub_answers();
    bench.appears(A1);
    for _ in 0..600 {
        if port_orders(&bench.wait(1)) == [PortMode::Off] {
            return bench;
        }
    }
    panic!("the ladder never came to the port's power");
}

fn port_orders(commands: &[Command]) -> Vec<PortMode> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::SetPort { mode, .. } => Some(*mode),
            _ => None,
        })
        .collect()
}
