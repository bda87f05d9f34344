use super::*;
use crate::rack::event::{UpgradeByAgent, UpgradeFailed};
use crate::rack::ids::{PackageName, RolloutId, VersionCode};

fn order(version: u64) -> LineCommand {
    LineCommand::Upgrade(Box::new(UpgradeByAgent {
        rollout: RolloutId::new("R1"),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(version),
        version_name: "2.0".to_owned(),
        url: "http://c/agent-2.apk".to_owned(),
    }))
}

/// Why the upgrade failed, if it did.
fn failure(stage: &mut Stage) -> Option<String> {
    stage.events().into_iter().find_map(|event| match event {
        LineEvent::UpgradeFailed(UpgradeFailed { rollout, why }) => {
            assert_eq!(rollout, RolloutId::new("R1"));
            Some(why)
        }
        _ => None,
    })
}

/// A stage on which the agent has the notice.
fn noticed() -> (Stage, Seen) {
    let mut stage = Stage::with_agent(Ack::Each);
    stage.command(order(2));
    let notice = stage.down().remove(0);
    (stage, notice)
}

fn result(success: bool) -> Vec<u8> {
    let err_msg = if success { String::new() } else { "no room".to_owned() };
    TaskResultNoticeMessage { success, err_msg, task_type: 1094, ..Default::default() }.encode_to_vec()
}

#[test]
fn the_agent_gets_the_notice_as_from_the_centre() {
    let (mut stage, notice) = noticed();
    assert_eq!((notice.code, notice.reference, notice.token.as_str()), (1094, 0, ""));
    let body = UpgradeDeviceAppNoticeMessage::decode(&notice.body[..]).unwrap();
    let app = &body.app_infos[0];
    assert_eq!((body.imei.as_str(), app.ver_number, app.version.as_str()), (IMEI, 2, "2.0"));
    assert_eq!((app.package_name.as_str(), app.package_url.as_str()), ("org.example.agent", "http://c/agent-2.apk"));
    assert!(stage.up().is_empty(), "the centre knows nothing of it");
}

#[test]
fn what_the_agent_says_of_the_racks_own_notice_stays_here() {
    let (mut stage, notice) = noticed();
    stage.agent_says(1002, &[], notice.id);
    assert_eq!((stage.up().len(), failure(&mut stage)), (0, None));
    let said = stage.agent_says(1025, &result(false), notice.id);
    let said_by = failure(&mut stage).unwrap();
    assert!(said_by.contains("no room"), "{said_by}");
    assert!(stage.up().is_empty(), "the centre asked for nothing");
    let acknowledged = stage.down().remove(0);
    assert_eq!((acknowledged.code, acknowledged.reference), (1002, said));
    stage.agent_says(1025, &result(true), 0);
    assert_eq!(stage.up_codes(), [1025], "all else is the centre's");
}

#[test]
fn a_notice_that_the_agent_did_not_acknowledge_has_failed_when_it_leaves() {
    let (mut stage, _) = noticed();
    stage.relay.agent_closed(1, "it closed its connection", stage.now);
    stage.drain();
    assert!(failure(&mut stage).unwrap().contains("left before it acknowledged"));

    let (mut stage, notice) = noticed();
    stage.agent_says(1002, &[], notice.id);
    stage.relay.agent_closed(1, "it is replaced by the new version", stage.now);
    stage.drain();
    assert_eq!(failure(&mut stage), None, "the phone will show what came of it");
}

#[test]
fn what_cannot_be_asked_has_failed_at_once() {
    let mut stage = Stage::new(Ack::Each);
    stage.open(IMEI);
    stage.register();
    stage.command(order(2));
    assert!(failure(&mut stage).unwrap().contains("no agent is connected"));
    let mut stage = Stage::with_agent(Ack::Each);
    stage.command(order(1 << 40));
    assert!(failure(&mut stage).unwrap().contains("fits no VerNumber"));
    assert!(stage.down().is_empty());
}
