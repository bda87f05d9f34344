//! What reading commands print.

use farmhand::clock::UnixMillis;
use farmhand::store::promise::AuditRecord;

use crate::desk::Fixture;

#[test]
fn every_table_is_as_agreed() {
    let commands: &[&[&str]] = &[
        &["status"],
        &["phones"],
        &["phone", "A5", "show"],
        &["phone", "A2", "show"],
        &["phone", "A5", "trace"],
        &["phone", "A1", "trace"],
        &["hubs"],
        &["hub", "H2", "show"],
        &["rollout", "list"],
        &["rollout", "show", "R2"],
        &["policy", "show"],
        &["policy", "explain", "1223"],
        &["policy", "explain", "UpgradeDeviceAppNotice"],
        &["line"],
        &["line", "A7"],
    ];
    for command in commands {
        // One for each, so that what was 4 s ago is so still when it is shown.
        let desk = Fixture::of_rack();
        let said = desk.farmhand(command);
        assert_eq!(said.code, 0, "{said:?}");
        insta::assert_snapshot!(command.join("_"), said.redacted(desk.state.path()));
    }
}

#[test]
fn an_empty_rack_says_what_to_do() {
    let desk = Fixture::start(farmhand::rack::Snapshot::default(), |_| unreachable!("nothing is ordered"));
    assert!(desk.farmhand(&["phones"]).out.contains("Plug one in"));
    assert!(desk.farmhand(&["hubs"]).out.contains("[[hub]]"));
    assert!(desk.farmhand(&["rollout", "list"]).out.contains("rollout start"));
    assert!(desk.farmhand(&["status"]).out.contains("none yet"));
}

#[test]
fn json_is_the_api_itself() {
    let desk = Fixture::of_rack();
    let phones = desk.farmhand(&["phones", "--json"]).json();
    assert_eq!(phones[0]["slot"], "A1");
    assert_eq!(phones[0]["state"], "ready");
    assert_eq!(phones[0]["line"]["state"], "registered");
    assert_eq!(desk.farmhand(&["phone", "A3", "show", "--json"]).json()["state"], "absent");
    let trace = desk.farmhand(&["phone", "A5", "trace", "--json"]).json();
    assert_eq!((&trace["events"][1]["event"], &trace["events"][1]["model"]), (&"opened".into(), &"FP5".into()));
    assert_eq!(desk.farmhand(&["hubs", "--json"]).json()[0]["ports"][2]["mode"], "off");
    assert_eq!(desk.farmhand(&["hub", "H2", "show", "--json"]).json()["state"], "stale");
    assert_eq!(desk.farmhand(&["rollout", "list", "--json"]).json()[1]["state"], "finished");
    assert_eq!(desk.farmhand(&["rollout", "show", "R2", "--json"]).json()["waves"][1]["phones"][1]["state"], "failed");
    assert_eq!(desk.farmhand(&["line", "A7", "--json"]).json()[0]["state"], "waiting");
    assert_eq!(desk.farmhand(&["status", "--json"]).json()["revision"], 4711);
}

#[test]
fn a_phone_is_found_by_its_id_too() {
    let desk = Fixture::of_rack();
    let by_slot = desk.farmhand(&["phone", "A1", "show", "--json"]).json();
    let by_id = desk.farmhand(&["phone", by_slot["id"].as_str().unwrap(), "show", "--json"]).json();
    assert_eq!(by_slot, by_id);
}

#[test]
fn the_audit_is_a_table_of_who_did_what() {
    let desk = Fixture::of_rack();
    assert_eq!(desk.farmhand(&["audit"]).out, "Nothing of that is in the audit.\n");
    for (at, who, what) in [(0, "mara", "held for 2h: battery"), (1000, "jon", "begins to work on it with adb: shell")]
    {
        let (at, who, what) = (UnixMillis(at), who.to_owned(), what.to_owned());
        desk.audit(AuditRecord { at, who, what, target: "R5CW2355X".to_owned() });
    }
    let table = desk.farmhand(&["audit"]);
    assert_eq!(
        table.out,
        "WHEN                  WHO   WHAT TO    WHAT\n\
         1970-01-01T00:00:01Z  jon   R5CW2355X  begins to work on it with adb: shell\n\
         1970-01-01T00:00:00Z  mara  R5CW2355X  held for 2h: battery\n"
    );
    let mine = desk.farmhand(&["audit", "R5CW2355X", "--who", "mara", "--json"]).json();
    assert_eq!(mine[0]["what"], "held for 2h: battery");
    assert_eq!((mine[0]["at_unix_ms"].as_i64(), mine.as_array().unwrap().len()), (Some(0), 1));
    assert_eq!(desk.farmhand(&["audit", "--since", "1h", "--json"]).json(), serde_json::json!([]));
    assert_eq!(desk.farmhand(&["audit", "--limit", "0"]).code, 2);
}

#[test]
fn a_rollout_is_shown_with_its_story_the_oldest_first() {
    let desk = Fixture::of_rack();
    for (at, who, what, target) in [
        (0, "operator", "started: agent-2.apk", "R2"),
        (1000, "farmhand", "wave 1 of 2 began: 1 phone", "R2"),
        (2000, "operator", "started: another one", "R1"),
    ] {
        let (at, who, what, target) = (UnixMillis(at), who.to_owned(), what.to_owned(), target.to_owned());
        desk.audit(AuditRecord { at, who, what, target });
    }
    let shown = desk.farmhand(&["rollout", "show", "R2"]).out;
    let story = "\n\
         WHEN                  WHO       WHAT\n\
         1970-01-01T00:00:00Z  operator  started: agent-2.apk\n\
         1970-01-01T00:00:01Z  farmhand  wave 1 of 2 began: 1 phone\n\n";
    assert!(shown.contains(story), "{shown}");
    assert!(!shown.contains("another one"), "that is of R1");
}
