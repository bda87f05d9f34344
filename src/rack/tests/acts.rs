//! What the central server has done with a handset.

use super::super::event::Act;
use super::*;
use crate::rack::snapshot::{Battery, Storage};

fn task(message_id: i64) -> TaskName {
    TaskName { message_id, task_type: 1223, task_id: 5, wechat_id: "wx".to_owned() }
}

fn asks(bench: &mut Bench, act: Act, message_id: i64) -> Vec<Command> {
    bench.line_says(LineEvent::Asked(Asked { act, task: task(message_id) }))
}

/// The ends that are told to the line.
fn ends(commands: &[Command]) -> Vec<(i64, Result<(), String>)> {
    let end = |command: &&LineCommand| match command {
        LineCommand::TaskEnded { task, result } => Some((task.message_id, result.clone())),
        _ => None,
    };
    line_commands(commands).iter().filter_map(end).collect()
}

fn registered(bench: &mut Bench) -> Vec<Command> {
    bench.line_says(LineEvent::State { state: LineState::Registered, why: String::new() })
}

fn registered_bench() -> Bench {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    registered(&mut bench);
    bench
}

#[test]
fn a_restart_that_the_centre_asked_for_is_answered_when_the_phone_is_back() {
    let mut bench = registered_bench();
    let commands = asks(&mut bench, Act::Restart, 7);
    assert!(says_to_phone(&commands, &phone::Command::Reboot));
    assert_eq!(ends(&commands), []);
    asks(&mut bench, Act::Restart, 8);
    bench.unplugged(A1);
    bench.wait(40);
    bench.ready_with_agent(1);
    let told = ends(&registered(&mut bench));
    assert!(matches!(&told[..], [(7, Ok(())), (8, Err(why))] if why.contains("under way")), "{told:?}");
    bench.line_says(LineEvent::EndTold { message_id: 7 });
    bench.line_says(LineEvent::EndTold { message_id: 8 });
    assert_eq!(ends(&registered(&mut bench)), [], "once");
}

#[test]
fn a_restart_is_answered_where_the_phone_comes_back() {
    let mut bench = registered_bench();
    asks(&mut bench, Act::Restart, 7);
    bench.unplugged(A1);
    let other = "usb:1-2";
    bench.plugged(other, "P1");
    bench.phone_at(other, phone::Event::Opened { model: None, features: Vec::new() });
    bench.phone_at(other, phone::Event::profile(profile("P1", Some(1))));
    let told = ends(&registered(&mut bench));
    assert!(matches!(&told[..], [(7, Ok(()))]), "{told:?}");
}

#[test]
fn a_phone_that_does_not_come_back_from_its_restart_is_told_of_when_its_line_is_back() {
    let mut bench = registered_bench();
    asks(&mut bench, Act::Restart, 7);
    bench.unplugged(A1);
    bench.wait(181);
    bench.phone(phone::Event::OpenFailed { fault: OpenFault::Gone, why: "connection refused".to_owned() });
    bench.ready_with_agent(1);
    let told = ends(&registered(&mut bench));
    assert!(matches!(&told[..], [(7, Err(why))] if why.contains("180 s")), "{told:?}");
}

#[test]
fn a_phone_that_refused_its_restart_and_goes_on_was_not_restarted() {
    let mut bench = registered_bench();
    asks(&mut bench, Act::Restart, 7);
    bench.phone(phone::Event::Acted { result: Err("it said no".to_owned()) });
    bench.opened();
    bench.phone(phone::Event::profile(profile("P1", Some(1))));
    let told = ends(&registered(&mut bench));
    assert!(matches!(&told[..], [(7, Err(why))] if why.contains("it said no")), "{told:?}");
}

#[test]
fn a_phone_that_cannot_be_reached_or_is_busy_is_not_restarted() {
    let mut bench = registered_bench();
    bench.unplugged(A1);
    let commands = asks(&mut bench, Act::Restart, 7);
    assert!(!says_to_phone(&commands, &phone::Command::Reboot));
    bench.ready_with_agent(1);
    let told = ends(&registered(&mut bench));
    assert!(matches!(&told[..], [(7, Err(why))] if why.contains("absent")), "{told:?}");

    bench.event(Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) }));
    let commands = asks(&mut bench, Act::Restart, 9);
    assert!(!says_to_phone(&commands, &phone::Command::Reboot));
    let told = ends(&commands);
    assert!(matches!(&told[..], [(9, Err(why))] if why.contains("an install is under way")), "{told:?}");
}

#[test]
fn the_agent_is_started_again_or_the_centre_hears_why_not() {
    let mut bench = registered_bench();
    for (id, result) in [(7, Ok(())), (8, Err("monkey aborted".to_owned()))] {
        assert!(says_to_phone(&asks(&mut bench, Act::RestartAgent, id), &phone::Command::RestartAgent));
        let commands = bench.phone(phone::Event::AgentRestarted { result: result.clone() });
        assert_eq!(ends(&commands), [(id, result)]);
    }
    asks(&mut bench, Act::RestartAgent, 9);
    let commands = bench.phone(phone::Event::Lost { why: "end of file".to_owned() });
    let told = ends(&commands);
    assert!(matches!(&told[..], [(9, Err(why))] if why.contains("connection")), "{told:?}");
    assert_eq!(ends(&bench.phone(phone::Event::AgentRestarted { result: Ok(()) })), [], "nobody asks any more");
}

#[test]
fn a_line_is_told_how_its_phone_fares_when_that_changes() {
    let fares = |commands: &[Command]| -> Vec<Condition> {
        let told = |command: &&LineCommand| match command {
            LineCommand::Condition(condition) => Some(condition.clone()),
            _ => None,
        };
        line_commands(commands).iter().filter_map(told).collect()
    };
    let reading = |level_percent| {
        let battery = Battery {
            level_percent,
            temperature_celsius: None,
            voltage_millivolts: None,
            current_milliamps: None,
            health: None,
            charging: false,
        };
        let storage = Storage { free_bytes: 1 << 30, total_bytes: 1 << 35 };
        phone::Event::profile(Profile { battery: Some(battery), storage: Some(storage), ..profile("P1", Some(1)) })
    };
    let mut bench = Bench::new(Rung::Reopen);
    bench.appears(A1);
    bench.opened();
    let first = fares(&bench.phone(reading(84)));
    let battery = BatteryCondition { level_percent: 84, charging: false, temperature_celsius: None };
    assert_eq!(first[0].battery, Some(battery));
    for (level, times) in [(84, 0), (83, 1)] {
        let mut told = 0;
        for _ in 0..150 {
            bench.wait(1);
            bench.phone(phone::Event::ProbeAnswered);
            told += fares(&bench.phone(reading(level))).len();
        }
        assert_eq!(told, times, "{level}");
    }
}

#[test]
fn a_centre_that_restarts_every_phone_is_held_to_the_limit_of_the_rack() {
    use crate::rack::acts::{ACTS_WINDOW, AGENT_RESTARTS_MAX};
    let mut bench = registered_bench();
    for message_id in 0..AGENT_RESTARTS_MAX {
        let commands = asks(&mut bench, Act::RestartAgent, message_id as i64);
        assert!(says_to_phone(&commands, &phone::Command::RestartAgent), "{message_id}");
        bench.phone(phone::Event::AgentRestarted { result: Ok(()) });
    }
    let told = ends(&asks(&mut bench, Act::RestartAgent, 99));
    assert!(matches!(&told[..], [(99, Err(why))] if why.contains("at most 32 agents in 10 min")), "{told:?}");
    bench.wait(ACTS_WINDOW.as_secs());
    bench.ready_with_agent(1);
    registered(&mut bench);
    let commands = asks(&mut bench, Act::RestartAgent, 100);
    assert!(says_to_phone(&commands, &phone::Command::RestartAgent), "the window has passed: {commands:?}");
}

proptest::proptest! {
    #[test]
    fn no_window_has_more_acts_than_the_rack_allows(steps in proptest::collection::vec((0..90_000u64, proptest::bool::ANY), 1..300)) {
        use crate::rack::acts::{ACTS_WINDOW, ActsBegun, AGENT_RESTARTS_MAX, RESTARTS_MAX};
        let (mut begun, mut now) = (ActsBegun::default(), Moment::START);
        let mut passed: [Vec<Moment>; 2] = Default::default();
        for (ms, restart) in steps {
            now = now + Duration::from_millis(ms);
            let act = if restart { Act::Restart } else { Act::RestartAgent };
            if begun.begin(now, act).is_ok() {
                passed[usize::from(restart)].push(now);
            }
        }
        for (times, max) in passed.iter().zip([AGENT_RESTARTS_MAX, RESTARTS_MAX]) {
            for window in times.windows(max + 1) {
                proptest::prop_assert!(window[max].since(window[0]) >= ACTS_WINDOW, "{window:?}");
            }
        }
    }
}
