use super::super::event::{UpgradeByAgent, UpgradeFailed};
use super::*;
use crate::phone::Carrier;

fn told() -> UpgradeByAgent {
    UpgradeByAgent {
        rollout: RolloutId::new("R1"),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(2),
        version_name: "2.0".to_owned(),
        url: "http://c/agent-2.apk".to_owned(),
    }
}

/// An install of version 2 that the agent is to carry out.
fn ordered(bench: &mut Bench) -> Vec<Command> {
    let carrier = Carrier::Agent { url: told().url, version_name: told().version_name };
    let order = InstallOrder { carrier, ..order(2) };
    bench.event(Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("P1"), order }))
}

fn with_agent() -> Bench {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.line_says(LineEvent::AgentThere);
    bench
}

fn failed(rollout: &str) -> LineEvent {
    LineEvent::UpgradeFailed(UpgradeFailed { rollout: RolloutId::new(rollout), why: "no room".to_owned() })
}

/// The next reading of the phone, which answers its probes until then.
fn reads(bench: &mut Bench, version: u64) -> Vec<RolloutCommand> {
    while !says_to_phone(&bench.wait(1), &phone::Command::ReadProfile) {
        bench.phone(phone::Event::ProbeAnswered);
    }
    rollout_commands(bench.phone(phone::Event::profile(profile("P1", Some(version)))))
}

#[test]
fn an_upgrade_by_the_agent_is_done_once_the_phone_reports_the_version() {
    let mut bench = with_agent();
    let command = LineCommand::Upgrade(Box::new(told()));
    assert_eq!(ordered(&mut bench), [Command::Line { phone: PhoneId::new("P1"), command }], "nothing over ADB");
    assert_eq!(reads(&mut bench, 1), [], "it has the old one");
    let told = reads(&mut bench, 3);
    assert!(
        matches!(
            told[..],
            [
                RolloutCommand::Installed { result: Ok(VersionCode(3)), .. },
                RolloutCommand::Available { version_code: Some(VersionCode(3)), .. }
            ]
        ),
        "{told:?}"
    );
    assert_eq!(rollout_commands(bench.line_says(failed("R1"))), [], "what is done cannot fail");
}

#[test]
fn an_agent_that_is_back_has_the_phone_asked_at_once() {
    let mut bench = with_agent();
    ordered(&mut bench);
    let left = bench.line_says(LineEvent::AgentLeft { why: "it is replaced".to_owned() });
    assert!(!says_to_phone(&left, &phone::Command::ReadProfile), "nobody is there yet");
    assert!(says_to_phone(&bench.line_says(LineEvent::AgentThere), &phone::Command::ReadProfile));
    let told = rollout_commands(bench.phone(phone::Event::profile(profile("P1", Some(2)))));
    assert!(matches!(told[..], [RolloutCommand::Installed { result: Ok(VersionCode(2)), .. }, ..]), "{told:?}");
    let again = bench.line_says(LineEvent::AgentThere);
    assert!(!says_to_phone(&again, &phone::Command::ReadProfile), "nothing is awaited any more");
}

#[test]
fn what_the_agent_says_no_to_has_failed_and_only_that() {
    let mut bench = with_agent();
    ordered(&mut bench);
    assert_eq!(rollout_commands(bench.line_says(failed("R7"))), [], "of another rollout");
    let told = rollout_commands(bench.line_says(failed("R1")));
    let [RolloutCommand::Installed { result: Err(failure), .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((failure.class, failure.why.as_str()), (InstallFailureClass::Transient, "no room"));
    assert!(!matches!(reads(&mut bench, 2)[..], [RolloutCommand::Installed { .. }, ..]), "it is no longer waited for");
}

#[test]
fn a_phone_without_an_agent_on_its_line_is_no_place_for_a_notice() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let told = rollout_commands(ordered(&mut bench));
    let [RolloutCommand::Installed { result: Err(failure), .. }] = &told[..] else { panic!("{told:?}") };
    assert!(failure.why.contains("no agent is connected"), "{}", failure.why);
    bench.line_says(LineEvent::AgentThere);
    bench.unplugged(A1);
    let told = rollout_commands(ordered(&mut bench));
    assert!(matches!(&told[..], [RolloutCommand::Installed { result: Err(_), .. }]), "{told:?}");
}

#[test]
fn a_phone_that_comes_later_gets_the_agent_that_rollouts_have_named_since() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.event(Event::Rollout(RolloutEvent::Agent(wanted_agent(2))));
    bench.appears(A1);
    bench.opened();
    let commands = bench.phone(phone::Event::profile(profile("P1", None)));
    assert!(says_to_phone(&commands, &phone::Command::Provision { agent: Box::new(wanted_agent(2)) }));
}
