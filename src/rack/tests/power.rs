//! Stories of power cycles: the promise before the deed, the hub's word after it, crashes and operators between.

use super::super::event::PowerPromise;
use super::super::power::PortOff;
use super::*;

#[test]
fn the_ladder_cycles_power_only_with_a_hub_that_answers() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.appears(A1);
    let commands = bench.wait(30 * 60);
    assert_eq!((port_orders(&commands), ledgers(&commands)), (vec![], vec![]), "the hub never answered");
    assert_eq!(port_orders(&power_is_cut().wait(6)), [PortMode::Sync]);
}

#[test]
fn a_port_goes_off_only_once_that_is_promised_on_the_disk() {
    let (mut bench, promised) = power_is_wanted();
    assert_eq!(promised.off, [PortOff { power: port_3(), since: UnixMillis(0).plus(bench.now.since_start()) }]);
    assert_eq!(promised.cycles.len(), 1);
    assert_eq!(port_orders(&bench.wait(3)), []);
    assert_eq!(port_orders(&bench.event(kept(1))), [PortMode::Off]);
}

#[test]
fn a_phone_that_came_back_before_the_promise_was_kept_keeps_its_power() {
    let (mut bench, _) = power_is_wanted();
    bench.unplugged(A1);
    bench.appears(A1);
    let commands = bench.event(kept(1));
    assert_eq!((port_orders(&commands), ledgers(&commands)), (vec![], vec![PowerLedger::default()]));
}

#[test]
fn a_promise_that_takes_too_long_is_no_power_cycle() {
    let (mut bench, _) = power_is_wanted();
    assert_eq!(ledgers(&bench.wait(10)), [PowerLedger::default()], "nothing was switched, and nothing counts");
    assert_eq!(bench.state(), PhoneState::Quarantined);
    assert_eq!(port_orders(&bench.event(kept(1))), [], "it comes too late");
}

#[test]
fn a_store_that_fails_is_no_power_cycle_and_every_surface_says_why() {
    let (mut bench, _) = power_is_wanted();
    let failing = PowerPromise::Failing { why: "the disk is full".to_owned() };
    assert_eq!(ledgers(&bench.event(Event::Power(failing))), [PowerLedger::default()]);
    assert_eq!(bench.state(), PhoneState::Quarantined);
    assert_eq!(trouble(&bench), "no port's power is cycled, for it cannot be promised: the disk is full");
    bench.event(kept(2));
    assert_eq!(trouble(&bench), "");
}

#[test]
fn a_port_that_recovery_switched_off_is_ordered_on_until_its_hub_says_that_it_is() {
    let mut bench = power_is_cut();
    assert_eq!(port_orders(&bench.wait(6)), [PortMode::Sync]);
    bench.hub(HubEvent::PortRefused { port: HubPort(3), why: "no answer".to_owned() });
    bench.hub_answers();
    assert_eq!(port_orders(&bench.wait(30)), [PortMode::Sync], "a reading may be older than what is on its way");
    assert!(trouble(&bench).contains("port 3 of hub H1"), "{}", trouble(&bench));
    let commands = bench.hub(HubEvent::PortSet { port: HubPort(3), mode: PortMode::Sync });
    assert!(matches!(&ledgers(&commands)[..], [PowerLedger { off, cycles }] if off.is_empty() && cycles.len() == 1));
    assert_eq!(port_orders(&bench.wait(40)), []);
    assert_eq!(trouble(&bench), "");
}

#[test]
fn a_daemon_that_died_during_a_power_cycle_switches_the_port_on_as_soon_as_its_hub_answers() {
    let (bench, promised) = power_is_wanted();
    let mut bench = bench.restarted(promised, 1);
    assert!(trouble(&bench).contains("port 3 of hub H1"), "{}", trouble(&bench));
    assert_eq!(port_orders(&bench.wait(20)), [], "the hub does not answer yet");
    let off = PortReading { port: HubPort(3), current_milliamps: 0, mode: PortMode::Off, attached: false };
    let commands = bench.hub(HubEvent::Reading(HubReading { ports: vec![off], ..HubReading::default() }));
    assert_eq!(port_orders(&commands), [PortMode::Sync]);
    let commands = bench.hub(HubEvent::PortSet { port: HubPort(3), mode: PortMode::Sync });
    assert!(matches!(&ledgers(&commands)[..], [PowerLedger { off, .. }] if off.is_empty()), "{commands:?}");
    assert_eq!(trouble(&bench), "");
}

#[test]
fn a_port_of_a_hub_that_is_configured_no_more_is_told_and_then_forgotten() {
    let (bench, mut promised) = power_is_wanted();
    promised.off[0].power.hub = HubName::new("H9");
    let rack = Rack::restore(bench.rack.settings.clone(), promised, UnixMillis(0), Moment::START);
    let mut bench = Bench { rack, now: Moment::START };
    assert!(
        matches!(&ledgers(&bench.rack.advance(bench.now).commands)[..], [PowerLedger { off, .. }] if off.is_empty())
    );
    assert!(trouble(&bench).ends_with("no such hub is configured any more: switch it on by hand"));
}

#[test]
fn a_daemon_that_crashes_in_a_loop_stays_within_the_budget() {
    let mut ledger = PowerLedger::default();
    let mut wall = Bench::new(Rung::CyclePower);
    let mut cycles = 0;
    for _ in 0..6 {
        let mut bench = wall.restarted(ledger, 1);
        bench.hub_answers();
        bench.hub(HubEvent::PortSet { port: HubPort(3), mode: PortMode::Sync });
        // It dies as soon as the port is off, or when the ladder is at its end.
        (ledger, cycles) = match begins_power_cycle(&mut bench) {
            Some(promised) => (promised, cycles + 1),
            None => {
                let text = format!("{:?}", bench.rack.snapshot(bench.now).phones[0].why);
                assert!(text.contains("the rack cycles the power of at most 4 ports in 10 min"), "{text}");
                assert_eq!(cycles, 4);
                return;
            }
        };
        // The ladder is slower than a rack of 64 ports: its cycles are taken as if they came one after the other.
        let latest = *ledger.cycles.last().unwrap();
        ledger.cycles.iter_mut().for_each(|began| *began = latest);
        wall = bench;
    }
    panic!("{cycles} power cycles within 10 min");
}

#[test]
fn the_budget_is_free_again_after_its_window_and_a_clock_that_was_set_back_does_not_stretch_it() {
    let (bench, promised) = power_is_wanted();
    let spent = PowerLedger { off: Vec::new(), cycles: vec![promised.cycles[0]; 4] };
    let mut bench = bench.restarted(spent.clone(), 620);
    bench.hub_answers();
    assert!(begins_power_cycle(&mut bench).is_some());

    let far = PowerLedger { cycles: vec![UnixMillis(i64::MAX); 4], ..spent };
    let mut bench = bench.restarted(far, 1);
    let begun = bench.now;
    bench.hub_answers();
    while begins_power_cycle(&mut bench).is_none() {
        assert!(bench.now < begun + Duration::from_secs(40 * 60), "the budget never comes back");
    }
}

#[test]
fn a_clock_that_is_set_has_the_ledger_said_anew() {
    let mut bench = power_is_cut();
    let commands = bench.event(Event::ClockSet(UnixMillis(1_000_000_000)));
    let [ledger] = &ledgers(&commands)[..] else { panic!("{commands:?}") };
    assert!(ledger.cycles[0] > UnixMillis(999_000_000), "{ledger:?}");
}

#[test]
fn what_the_operator_switches_off_is_no_power_cycle_and_stays_off() {
    let mut bench = power_is_cut();
    let commands = bench.set_port(PortMode::Off);
    assert!(matches!(&ledgers(&commands)[..], [PowerLedger { off, .. }] if off.is_empty()), "{commands:?}");
    assert_eq!(port_orders(&bench.wait(40)), []);

    let mut bench = Bench::new(Rung::CyclePower);
    bench.hub_answers();
    assert_eq!(ledgers(&bench.set_port(PortMode::Off)), []);
    bench.hub(HubEvent::PortSet { port: HubPort(3), mode: PortMode::Off });
    bench.appears(A1);
    assert_eq!(begins_power_cycle(&mut bench), None);
    assert!(bench.rack.snapshot(bench.now).phones[0].why.contains("port 3 of hub H1 is off already"));
}

#[test]
fn a_port_that_the_operator_gives_power_during_a_cycle_is_ordered_so_until_its_hub_says_that_it_is() {
    let mut bench = power_is_cut();
    assert_eq!(port_orders(&bench.set_port(PortMode::Charge)), [PortMode::Charge]);
    assert_eq!(port_orders(&bench.wait(30)), [PortMode::Charge]);
    bench.hub(HubEvent::PortSet { port: HubPort(3), mode: PortMode::Charge });
    assert_eq!(port_orders(&bench.wait(60)), []);
}

impl Bench {
    fn hub(&mut self, event: HubEvent) -> Vec<Command> {
        self.event(Event::Hub { hub: HubName::new("H1"), event })
    }

    fn set_port(&mut self, mode: PortMode) -> Vec<Command> {
        self.event(Event::SetPort { hub: HubName::new("H1"), port: HubPort(3), mode })
    }

    /// The next daemon, so many seconds later, with a phone that never answers.
    fn restarted(&self, promised: PowerLedger, seconds: u64) -> Self {
        let wall = self.rack.epoch.plus(self.now.since_start() + Duration::from_secs(seconds));
        let rack = Rack::restore(self.rack.settings.clone(), promised, wall, Moment::START);
        let mut bench = Self { rack, now: Moment::START };
        bench.appears(A1);
        bench
    }
}

fn port_3() -> PowerPort {
    PowerPort { hub: HubName::new("H1"), port: HubPort(3) }
}

fn kept(number: u64) -> Event {
    Event::Power(PowerPromise::Kept { number })
}

/// Waits until the ladder wants the power of the port cycled, and gives what is to be promised then; `None` if it does not come to
/// that within 10 min, or its end comes first.
fn begins_power_cycle(bench: &mut Bench) -> Option<PowerLedger> {
    for _ in 0..600 {
        let promised = ledgers(&bench.wait(1)).pop().filter(|ledger| !ledger.off.is_empty());
        if promised.is_some() || bench.state() == PhoneState::Quarantined {
            return promised;
        }
    }
    None
}

/// A phone that never answers, up to the moment at which its port is to be switched off, and what is to be promised of it.
fn power_is_wanted() -> (Bench, PowerLedger) {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.hub_answers();
    bench.appears(A1);
    let promised = begins_power_cycle(&mut bench).expect("the ladder comes to the port's power");
    (bench, promised)
}

/// A phone that never answers, up to the moment at which its port is switched off.
fn power_is_cut() -> Bench {
    let (mut bench, _) = power_is_wanted();
    assert_eq!(port_orders(&bench.event(kept(1))), [PortMode::Off]);
    bench
}

fn trouble(bench: &Bench) -> String {
    let troubles = bench.rack.snapshot(bench.now).troubles;
    troubles.into_iter().find(|trouble| trouble.part == "power").map(|trouble| trouble.why).unwrap_or_default()
}

fn ledgers(commands: &[Command]) -> Vec<PowerLedger> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::PromisePower { ledger, .. } => Some(ledger.clone()),
            _ => None,
        })
        .collect()
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
