//! Orders reach the model as they were given.

use std::sync::mpsc::{Receiver, channel};

use farmhand::rack::ids::{PackageName, PhoneId, RolloutId, SlotName, VersionCode};
use farmhand::rack::request::{Done, Refusal, Request};
use farmhand::rack::snapshot::{Forecast, ForecastPhone, LeftOut};

use crate::desk::{Fixture, now};
use crate::rack::rack;

/// A desk whose model does whatever it is told, and what it was told.
fn obedient() -> (Fixture, Receiver<serde_json::Value>) {
    let (told, heard) = channel();
    let desk = Fixture::start(rack(now()), move |request| {
        told.send(serde_json::to_value(request).unwrap()).unwrap();
        Ok(Done { what: "It is done.".to_owned(), rollout: Some(RolloutId::new("R3")), ..Done::default() })
    });
    (desk, heard)
}

#[test]
fn a_port_is_switched() {
    let (desk, heard) = obedient();
    let said = desk.farmhand(&["hub", "H1", "port", "3", "off"]);
    assert_eq!((said.code, said.out.as_str()), (0, "It is done.\n"), "{said:?}");
    assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": "set_port", "hub": "H1", "port": 3, "mode": "off"}));
}

#[test]
fn a_rollout_is_started_on_phones_by_slot() {
    let (desk, heard) = obedient();
    let said =
        desk.farmhand(&["rollout", "start", "a.apk", "--phone", "A1", "--phone", "A2", "--phone", "A1", "--json"]);
    assert_eq!(said.json()["rollout"], "R3");
    let order = heard.recv().unwrap();
    assert_eq!(order["apk"], desk.state.path().join("a.apk").to_str().unwrap());
    assert_eq!(order["phones"], serde_json::json!(["R5CW1831X", "R5CW1962X"]));
}

#[test]
fn a_rollout_is_for_whom_it_is_said_to_be() {
    let (desk, heard) = obedient();
    let said = desk.farmhand(&[
        "rollout", "start", "a.apk", "--slot", "A*,B1", "--label", "top", "--model", "Pixel 8", "--share", "10%",
        "--canary", "A1,A2",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let order = heard.recv().unwrap();
    assert_eq!((&order["do"], &order["percent"]), (&"rollout_start".into(), &10.into()));
    assert_eq!(order["slots"], serde_json::json!(["A*", "B1"]));
    assert_eq!((&order["labels"][0], &order["models"][0]), (&"top".into(), &"Pixel 8".into()));
    assert_eq!(order["canary"], serde_json::json!(["R5CW1831X", "R5CW1962X"]));
    assert_eq!(desk.farmhand(&["rollout", "start", "a.apk", "--share", "0%"]).code, 2);
}

#[test]
fn a_dry_run_shows_who_gets_it_and_who_does_not() {
    let phone = |slot: &str, waits: Option<&str>, hand: Option<&str>| ForecastPhone {
        newer: None,
        phone: PhoneId::new(format!("P-{slot}")),
        slot: Some(SlotName::new(slot)),
        waits: waits.map(str::to_owned),
        hand: hand.map(str::to_owned),
    };
    let out = |slot: usize| LeftOut {
        phone: PhoneId::new(format!("P-C{slot}")),
        slot: Some(SlotName::new(format!("C{slot}"))),
        why: "it has version 7 already".to_owned(),
    };
    let forecast = Forecast {
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(7),
        version_name: "7.0".to_owned(),
        waves: vec![
            vec![phone("A1", None, None)],
            vec![phone("A2", Some("mara holds it"), None), phone("A3", None, Some("it asks"))],
        ],
        left_out: (1..=10).map(out).collect(),
        approvals: 1,
        behind: vec![RolloutId::new("R1")],
        install_s: 12,
        measured: 9,
        takes_s: Some(24),
    };
    let desk = Fixture::start(rack(now()), move |request| {
        assert!(matches!(request, Request::RolloutForecast(_)));
        Ok(Done { what: "It would.".to_owned(), rollout: None, forecast: Some(Box::new(forecast.clone())) })
    });
    let said = desk.farmhand(&["rollout", "start", "a.apk", "--dry-run"]);
    let lines: Vec<String> =
        said.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "It would.",
            "It comes after R1.",
            "An install lasts 12 s, the median of the last 9.",
            "You will be asked to approve once; the time until you do is not in it.",
            "WAVE SLOT PHONE WHAT",
            "1 A1 P-A1 gets it",
            "2 A2 P-A2 not ready: mara holds it",
            "2 A3 P-A3 needs a hand: it asks",
            "left out: C1, C2, C3, C4, C5, C6, C7, C8 and 2 more: it has version 7 already",
        ]
    );
    let json = desk.farmhand(&["rollout", "start", "a.apk", "--dry-run", "--json"]).json();
    assert_eq!((&json["forecast"]["takes_s"], &json["forecast"]["waves"][1][0]["slot"]), (&24.into(), &"A2".into()));
}

#[test]
fn a_rollout_is_let_go_on() {
    let (desk, heard) = obedient();
    for (verb, order) in [("approve", "rollout_approve"), ("pause", "rollout_pause"), ("resume", "rollout_resume")] {
        assert_eq!(desk.farmhand(&["rollout", verb, "R2"]).code, 0);
        assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": order, "rollout": "R2"}));
    }
}

#[test]
fn an_interface_is_given_away_and_taken_back() {
    let (desk, heard) = obedient();
    for verb in ["detach", "attach"] {
        let said = desk.farmhand(&["phone", "A1", verb]);
        assert_eq!((said.code, said.out.as_str()), (0, "It is done.\n"), "{said:?}");
        assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": verb, "phone": "A1"}));
    }
}

#[test]
fn identities_are_set_one_by_one_or_from_a_table() {
    let (desk, heard) = obedient();
    assert_eq!(desk.farmhand(&["phone", "A1", "identity", "set", "350-1"]).code, 0);
    assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": "identity_set", "phone": "A1", "credential": "350-1"}));
    assert_eq!(desk.farmhand(&["phone", "A1", "identity", "forget"]).code, 0);
    assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": "identity_forget", "phone": "A1"}));

    let table = desk.state.path().join("phones.csv");
    std::fs::write(&table, "phone,credential\nA1,350-1\nR5CW,350-2\n").unwrap();
    assert_eq!(desk.farmhand(&["phones", "import", table.to_str().unwrap()]).code, 0);
    let phones = serde_json::json!({"A1": "350-1", "R5CW": "350-2"});
    assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": "identities_import", "phones": phones}));

    std::fs::write(&table, "phone,credential\nA1,350-1\nA2,350-1\n").unwrap();
    let said = desk.farmhand(&["phones", "import", table.to_str().unwrap()]);
    assert!(said.code == 1 && said.err.contains("line 3: A2 and A1 cannot both be 350-1"), "{said:?}");
}

#[test]
fn a_refusal_comes_with_its_code_and_help() {
    let desk = Fixture::start(rack(now()), |_| {
        Err(Refusal {
            code: "rollout.not_waiting".to_owned(),
            what: "R1 is finished and waits for no approval".to_owned(),
            help: Some("farmhand rollout list shows those that do".to_owned()),
        })
    });
    let said = desk.farmhand(&["rollout", "approve", "R1"]);
    insta::assert_snapshot!("refusal", said.redacted(desk.state.path()));
}

#[test]
fn what_failed_is_tried_again_on_one_phone_or_on_all() {
    let (desk, heard) = obedient();
    assert_eq!(desk.farmhand(&["rollout", "retry", "R2"]).code, 0);
    assert_eq!(heard.recv().unwrap(), serde_json::json!({"do": "rollout_retry", "rollout": "R2", "phone": null}));
    desk.farmhand(&["rollout", "retry", "R2", "--phone", "A1"]);
    assert_eq!(heard.recv().unwrap()["phone"], "R5CW1831X");
}

#[test]
fn limits_and_a_time_are_part_of_the_order() {
    let (desk, heard) = obedient();
    let said = desk.farmhand(&[
        "rollout",
        "start",
        "a.apk",
        "--at-once",
        "16",
        "--at-once-per-hub",
        "4",
        "--force",
        "--at",
        "22:00",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let strategy = &heard.recv().unwrap()["strategy"];
    assert_eq!((&strategy["at_once"], &strategy["at_once_per_hub"]), (&16.into(), &4.into()));
    assert_eq!((&strategy["readings"], &strategy["at"]), (&"forced".into(), &"22:00".into()));
    for wrong in [&["--at-once", "0"][..], &["--at-once", "x"], &["--timeout", "2h"], &["--dry-run", "--wait"]] {
        assert_eq!(desk.farmhand(&[&["rollout", "start", "a.apk"], wrong].concat()).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_wait_ends_with_a_code_that_a_script_can_use() {
    let desk = Fixture::of_rack();
    for (rollout, code) in [("R1", 0), ("R2", 11)] {
        let said = desk.farmhand(&["rollout", "show", rollout, "--wait"]);
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.out.starts_with(rollout), "{said:?}");
        assert_eq!(desk.farmhand(&["rollout", "watch", rollout]).code, code);
    }
    assert_eq!(desk.farmhand(&["rollout", "show", "R22", "--wait"]).code, 4);
    let watched = desk.farmhand(&["rollout", "watch", "R2"]);
    assert!(watched.out.contains("failed: INSTALL_FAILED_INSUFFICIENT_STORAGE"), "{watched:?}");
    assert!(watched.out.lines().last().unwrap().starts_with("R2 paused, 2/6 done: "), "{watched:?}");
}

#[test]
fn an_export_has_a_row_for_each_phone() {
    let desk = Fixture::of_rack();
    let table = desk.farmhand(&["rollout", "export", "R2", "--format", "csv"]);
    let mut lines = table.out.lines();
    let heading = "rollout,rollout_state,package,version_code,version_name,wave,slot,phone,state,attempts,why";
    assert_eq!(lines.next(), Some(heading), "{table:?}");
    assert_eq!(lines.clone().count(), 6);
    assert!(
        lines.next().unwrap().starts_with("R2,paused,org.example.agent,22,2.2,1,A1,R5CW1831X,done,1,"),
        "{table:?}"
    );
    let list = desk.farmhand(&["rollout", "export", "R2", "--format", "json"]).json();
    assert_eq!((list[2]["state"].as_str(), list[2]["wave"].as_u64()), (Some("failed"), Some(2)));
}
