//! Orders reach the model as they were given.

use std::sync::mpsc::{Receiver, channel};

use farmhand::rack::ids::RolloutId;
use farmhand::rack::request::{Done, Refusal};

use crate::desk::{Fixture, now};
use crate::rack::rack;

/// A desk whose model does whatever it is told, and what it was told.
fn obedient() -> (Fixture, Receiver<serde_json::Value>) {
    let (told, heard) = channel();
    let desk = Fixture::start(rack(now()), move |request| {
        told.send(serde_json::to_value(request).unwrap()).unwrap();
        Ok(Done { what: "It is done.".to_owned(), rollout: Some(RolloutId::new("R3")) })
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
