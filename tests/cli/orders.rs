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
