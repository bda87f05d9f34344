//! Stories of who carries an install out.

use super::bench::{Bench, URL, apk, config, core};
use super::*;
use crate::config::Delivery::{Adb, Notice};
use crate::phone::{Carrier, InstallFailureClass};
use crate::rack::strategy::Approve;

fn bench(delivery: config::Delivery) -> Bench {
    let mut bench = Bench::new(Approve::None);
    bench.core = core(config::Rollout { delivery, ..config(Approve::None) }, bench.now, &bench.shelf);
    bench
}

fn carriers(bench: &mut Bench) -> Vec<Carrier> {
    let outputs = bench.out();
    let orders = outputs.into_iter().filter_map(|output| match output {
        Output::Install { order, .. } => Some(order.carrier),
        _ => None,
    });
    orders.collect()
}

#[test]
fn the_agent_is_told_where_the_owner_wants_that_and_the_apk_has_an_address() {
    for (delivery, expected) in
        [(Adb, Carrier::Rack), (Notice, Carrier::Agent { url: URL.to_owned(), version_name: "2.0".to_owned() })]
    {
        let mut bench = bench(delivery);
        bench.available("P1", 1);
        bench.offer("P1", 7, 2);
        bench.pass(5);
        bench.fetched(1, Ok(apk(2)));
        assert_eq!(carriers(&mut bench), [expected]);
    }
    let mut bench = bench(Notice);
    bench.available("P1", 1);
    bench.start(apk(2), &["P1"]).unwrap();
    assert_eq!(carriers(&mut bench), [Carrier::Rack], "a file of the operator's has none");
}

#[test]
fn what_the_agent_could_not_do_stops_the_wave_as_an_install_does() {
    let mut bench = bench(Notice);
    bench.available("P1", 1);
    bench.offer("P1", 7, 2);
    bench.pass(5);
    bench.fetched(1, Ok(apk(2)));
    bench.failed("P1", "R1", InstallFailureClass::Transient);
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
}
