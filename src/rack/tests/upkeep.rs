//! When phones are looked after, and what is told of it.

use super::*;
use crate::phone::upkeep::{AimResult, Report};
use crate::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use crate::rack::snapshot::{SettingState, UpkeepView};

const HOUR: u64 = 3600;

fn bench() -> Bench {
    let upkeep = Some(Duration::from_secs(HOUR));
    let settings = Settings { upkeep, ..Bench::new(Rung::Reopen).rack.settings };
    Bench { rack: Rack::new(settings, UnixMillis(0), Moment::START), now: Moment::START }
}

impl Bench {
    /// Waits, and answers each probe and each reading; gives how often the phone was looked after.
    fn lives(&mut self, seconds: u64) -> usize {
        let mut looks = 0;
        for _ in 0..seconds {
            let commands = self.wait(1);
            looks += commands.iter().filter(|command| is_look(command)).count();
            if says_to_phone(&commands, &phone::Command::Probe) {
                self.phone(phone::Event::ProbeAnswered);
            }
            if says_to_phone(&commands, &phone::Command::ReadProfile) {
                self.phone(phone::Event::profile(profile("P1", Some(1))));
            }
        }
        looks
    }

    fn upkept(&mut self, result: AimResult) -> UpkeepView {
        let report = Report { recipes: vec!["any Android".to_owned()], results: vec![("running".to_owned(), result)] };
        self.phone(phone::Event::Upkept(Box::new(report)));
        self.rack.snapshot(self.now).phones.remove(0).upkeep
    }
}

fn is_look(command: &Command) -> bool {
    matches!(command, Command::Phone { command: phone::Command::Upkeep, .. })
}

#[test]
fn a_phone_is_looked_after_soon_and_then_every_hour() {
    let mut bench = bench();
    bench.ready_with_agent(1);
    assert_eq!((bench.state(), bench.lives(11)), (PhoneState::Ready, 0), "being ready waits for nothing");
    assert_eq!(bench.lives(9), 1);
    bench.upkept(AimResult::Kept);
    assert_eq!((bench.lives(HOUR * 7 / 10), bench.lives(HOUR * 6 / 10)), (0, 1));
}

#[test]
fn whatever_comes_of_it_the_phone_stays_ready() {
    let mut bench = bench();
    bench.ready_with_agent(1);
    bench.lives(20);
    let view = bench.upkept(AimResult::Refused { was: "it does not run".into(), why: "it does not run".into() });
    assert_eq!((bench.state(), view.settings[0].state), (PhoneState::Ready, SettingState::Refused));
    assert_eq!(bench.lives(HOUR * 13 / 10), 1, "it is tried again");
    // Its actor reports nothing at all.
    assert!(bench.lives(HOUR * 3 / 2) > 0 && bench.state() == PhoneState::Ready);
}

#[test]
fn a_connection_that_is_new_and_a_version_that_is_new_are_looked_at() {
    let mut bench = bench();
    bench.ready_with_agent(1);
    assert_eq!(bench.lives(20), 1);
    bench.upkept(AimResult::Kept);
    bench.unplugged(A1);
    bench.ready_with_agent(1);
    assert_eq!(bench.lives(20), 1);
    bench.upkept(AimResult::Kept);
    let install = RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) };
    bench.event(Event::Rollout(install));
    assert_eq!(bench.state(), PhoneState::Provisioning);
    bench.phone(phone::Event::Installed { rollout: RolloutId::new("R1"), result: Ok(agent(2)) });
    assert_eq!(bench.lives(20), 1);
}

#[test]
fn an_install_in_the_middle_of_a_look_is_followed_by_another_one() {
    let mut bench = bench();
    bench.ready_with_agent(1);
    assert_eq!(bench.lives(20), 1);
    bench.event(Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) }));
    bench.phone(phone::Event::Installed { rollout: RolloutId::new("R1"), result: Ok(agent(2)) });
    assert_eq!(bench.lives(20), 0, "one at a time");
    bench.upkept(AimResult::Kept);
    assert_eq!(bench.lives(20), 1);
}

#[test]
fn a_phone_that_somebody_holds_is_left_alone_until_it_is_given_back() {
    let mut bench = bench();
    bench.ready_with_agent(1);
    let (phone, reason) = (PhoneId::new("P1"), "battery check".to_owned());
    let until = UnixMillis(7_200_000);
    let lease = Lease { phone, id: HOLD, tool: Tool::Hold, who: "mara".into(), reason, since: UnixMillis(0), until };
    bench.event(Event::Lease { event: LeaseEvent::Taken(lease), ask: None });
    assert_eq!(bench.lives(600), 0);
    let ended = LeaseEvent::Ended { phone: PhoneId::new("P1"), id: HOLD, why: "mara has ended it".to_owned() };
    bench.event(Event::Lease { event: ended, ask: None });
    assert_eq!(bench.lives(80), 1);
}

#[test]
fn what_is_lost_is_counted_and_told() {
    let mut bench = bench();
    bench.ready_with_agent(1);
    bench.lives(20);
    bench.upkept(AimResult::Set { was: "it does not run".into() });
    let view = bench.upkept(AimResult::Set { was: "it does not run".into() });
    assert_eq!((view.settings[0].drifts, view.recipes.len()), (1, 1));
    let snapshot = bench.rack.snapshot(bench.now);
    let told = snapshot.traces.of(&PhoneId::new("P1"), 0);
    assert!(told.iter().any(|event| event.what.to_string() == "was set: running"), "{told:?}");
}

#[test]
fn without_wishes_nobody_is_looked_after() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    assert_eq!(bench.lives(2 * HOUR), 0);
}
