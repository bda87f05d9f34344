use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::from_start(Duration::from_millis(millis))
}

fn usb(path: &str) -> Endpoint {
    Endpoint::Usb(path.parse().unwrap())
}

fn chain(path: &str) -> Vec<Ancestor> {
    let path: PortPath = path.parse().unwrap();
    let hubs = path.hubs().rev().map(Ancestor::Hub);
    hubs.chain([Ancestor::Controller(format!("usb{}", path.bus()))]).collect()
}

fn fail(incidents: &mut Incidents, millis: u64, path: &str) -> Option<News> {
    incidents.failed(at(millis), &usb(path), chain(path))
}

fn named(incidents: &Incidents) -> Vec<(String, usize)> {
    let named = |incident: &Incident| (incident.ancestor().unwrap().to_string(), incident.phones.len());
    incidents.open.iter().map(named).collect()
}

#[test]
fn one_phone_that_fails_is_no_incident_nor_are_two_that_fail_apart() {
    let mut incidents = Incidents::default();
    assert_eq!(fail(&mut incidents, 0, "1-2.1"), None);
    assert_eq!(fail(&mut incidents, 3000, "1-2.1"), None, "the same phone again");
    assert_eq!(fail(&mut incidents, 8001, "1-2.2"), None, "5.001 s later");
    assert_eq!(fail(&mut incidents, 8001, "2-2.2"), None, "on another controller");
    assert_eq!(incidents.deadline(), None);
}

#[test]
fn phones_of_one_hub_that_fail_together_are_one_incident_of_the_innermost_hub() {
    let mut incidents = Incidents::default();
    fail(&mut incidents, 0, "1-2.3.1");
    assert_eq!(fail(&mut incidents, 5000, "1-2.3.4"), Some(News::Began(1)));
    assert_eq!(fail(&mut incidents, 60_000, "1-2.3.2"), Some(News::Joined(1)));
    assert_eq!(named(&incidents), [("USB hub 1-2.3".to_owned(), 3)]);
}

#[test]
fn a_failure_next_door_widens_the_incident() {
    let mut incidents = Incidents::default();
    fail(&mut incidents, 0, "1-2.1");
    fail(&mut incidents, 10, "1-2.2");
    fail(&mut incidents, 20, "2-1.1");
    fail(&mut incidents, 30, "2-1.2");
    assert_eq!(named(&incidents).len(), 2);
    assert_eq!(fail(&mut incidents, 4000, "1-3"), Some(News::Began(1)));
    assert_eq!(named(&incidents)[1], ("USB controller usb1".to_owned(), 3));
    assert_eq!(fail(&mut incidents, 9500, "1-4"), Some(News::Joined(1)));
}

#[test]
fn a_phone_that_joins_late_brings_along_who_failed_next_door_with_it() {
    let mut incidents = Incidents::default();
    fail(&mut incidents, 0, "1-2.1");
    fail(&mut incidents, 10, "1-2.2");
    assert_eq!(fail(&mut incidents, 60_000, "1-1.1"), None);
    assert_eq!(fail(&mut incidents, 61_000, "1-2.3"), Some(News::Began(1)));
    assert_eq!(named(&incidents), [("USB controller usb1".to_owned(), 4)]);
}

#[test]
fn it_ends_when_all_have_answered_again() {
    let mut incidents = Incidents::default();
    fail(&mut incidents, 1000, "1-2.1");
    fail(&mut incidents, 1010, "1-2.2");
    assert_eq!(incidents.answered(&usb("1-2.1"), at(1000)), None, "an answer from before counts for nothing");
    assert_eq!(incidents.answered(&usb("1-2.1"), at(2000)), None);
    fail(&mut incidents, 2500, "1-2.1");
    assert_eq!(incidents.answered(&usb("1-2.2"), at(3000)), None, "the first one has failed again");
    assert!(matches!(incidents.answered(&usb("1-2.1"), at(4000)), Some(News::Ended(over)) if over.number == 1));
    assert_eq!(incidents.open, []);
}

#[test]
fn it_ends_after_five_minutes_whoever_is_still_out() {
    let mut incidents = Incidents::default();
    fail(&mut incidents, 0, "1-2.1");
    fail(&mut incidents, 10, "1-2.2");
    assert_eq!(incidents.deadline().unwrap().at, at(300_010));
    assert_eq!(incidents.advance(at(300_009)), []);
    assert_eq!(incidents.advance(at(300_010)).len(), 1);
    assert_eq!(incidents.deadline(), None);
}

const PATHS: [&str; 9] = ["1-1.1", "1-1.2", "1-1.3.1", "1-1.3.2", "1-2.1", "1-2.2", "1-3", "2-1", "2-2.1"];

proptest! {
    #[test]
    fn properties(steps in proptest::collection::vec((0u64..4000, 0usize..9, 0u8..4), 0..120)) {
        let mut incidents = Incidents::default();
        let mut now = 0;
        for (pause, place, act) in steps {
            now += pause;
            let over = incidents.advance(at(now));
            prop_assert!(over.iter().all(|incident| at(now).since(incident.began) >= LAST_MAX));
            let before: Vec<u64> = incidents.open.iter().map(|incident| incident.number).collect();
            match act {
                0 => drop(incidents.answered(&usb(PATHS[place]), at(now))),
                _ => {
                    let news = fail(&mut incidents, now, PATHS[place]);
                    let own = incidents.of(&usb(PATHS[place]));
                    prop_assert_eq!(news.is_some(), own.is_some());
                    let new = incidents.open.iter().filter(|incident| !before.contains(&incident.number)).count();
                    prop_assert!(new <= 1);
                }
            }
            let mut places = BTreeSet::new();
            let mut ancestors = BTreeSet::new();
            for incident in &incidents.open {
                prop_assert!(incident.phones.len() >= 2);
                prop_assert!(at(now) < incident.until());
                let ancestor = incident.ancestor().unwrap();
                prop_assert!(ancestors.insert(ancestor.clone()));
                for endpoint in incident.phones.keys() {
                    prop_assert!(places.insert(endpoint.clone()));
                    let Endpoint::Usb(path) = endpoint else { unreachable!() };
                    prop_assert!(chain(&path.to_string()).contains(ancestor));
                }
            }
        }
    }
}
