//! The proof of rollouts over power cuts: a real daemon with 16 virtual phones is killed with -9, at each named place of a rollout and at
//! random instants; a new one must bring every phone to the right version, once.
//!
//! `make proof-rollout KILLS=200 SEED=7`. A kill that fails is printed with its seed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it saw"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod farm;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use farm::{Daemon, Farm, PHONES};
use farmhand::adb::services::install::SESSION_MARK;
use farmhand::checkpoint;
use farmhand::rack::snapshot::RolloutPhoneState;

/// The version that the rollout takes to each phone.
const WANTED: u64 = 2;
/// What they have before.
const BEFORE: u64 = 1;
/// The phone on which another host has an install session, which is none of farmhand's business.
const OF_ANOTHER_HOST: usize = 1;
/// The exit code of a wait for a rollout that is rolled back.
const ROLLED_BACK: i32 = 15;
/// From the order to the end of a rollout that nobody disturbs, at most; kills at random instants fall into it.
const UNDISTURBED: Duration = Duration::from_millis(900);
/// A place that is not come by within this is not there.
const COMES_BY: Duration = Duration::from_secs(60);

/// What was found wrong, of all kills.
#[derive(Debug, Default)]
struct Sum {
    kills: u32,
    wrong_version: usize,
    rows_missing: usize,
    installed_twice: usize,
    open_sessions: usize,
}

/// How a daemon dies.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// When it comes by this place for the so-manieth time.
    At(&'static str, u32),
    /// So long after the order.
    After(Duration),
}

#[test]
fn whatever_kills_the_daemon_every_phone_has_the_version_once() {
    let (kills, seed) = (number("KILLS", 12), number("SEED", 1));
    let kills = u32::try_from(kills).unwrap();
    assert!(kills as usize >= checkpoint::ALL.len(), "{} kills come by each place once", checkpoint::ALL.len());
    let mut chance = Chance(seed);
    let (mut sum, mut never) = (Sum::default(), BTreeSet::from(checkpoint::ALL));
    for number in 0..kills {
        let kill = match checkpoint::ALL.get(number as usize) {
            // Each place once, at the first time that is sure to come; then places and instants by chance.
            Some(place) => Kill::At(place, 1),
            None if chance.below(2) == 0 => {
                Kill::At(checkpoint::ALL[chance.below(checkpoint::ALL.len())], chance.nth())
            }
            None => Kill::After(UNDISTURBED * u32::try_from(chance.below(1000)).unwrap() / 1000),
        };
        let came = match kill {
            Kill::At(place @ (checkpoint::ROLLBACK_PROMISED | checkpoint::RETURN_PROMISED), _) => {
                live_through_rollback(place, &mut sum)
            }
            other => live_through(other, &mut sum),
        };
        if came && let Kill::At(place, _) = kill {
            never.remove(place);
        }
        sum.kills += 1;
        let Sum { wrong_version, rows_missing, installed_twice, open_sessions, .. } = sum;
        let wrong = wrong_version + rows_missing + installed_twice + open_sessions;
        assert_eq!(wrong, 0, "kill {number} of seed {seed}, {kill:?}: {sum:?}");
    }
    let Sum { kills, wrong_version, rows_missing, installed_twice, open_sessions } = sum;
    println!(
        "kills {kills} wrong_version {wrong_version} rows_missing {rows_missing} installed_twice {installed_twice} \
         open_sessions {open_sessions} never_hit {}",
        never.len()
    );
    assert!(never.is_empty(), "no daemon came by {never:?}");
}

/// One rollout with one kill in it; whether the kill came.
fn live_through(kill: Kill, sum: &mut Sum) -> bool {
    let farm = Farm::new();
    for phone in farm.phones.iter().step_by(5) {
        phone.leave_session_open(Some(SESSION_MARK));
    }
    farm.phones[OF_ANOTHER_HOST].leave_session_open(None);
    let killed = match kill {
        Kill::At(checkpoint::RESTORED, _) => {
            // There must be something to restore: the daemon before dies in the middle.
            let first = die(&farm, farm.start(Some((checkpoint::ORDER_AFTER, 2))), None);
            let mut second = farm.start(Some((checkpoint::RESTORED, 1)));
            first && second.died_within(COMES_BY)
        }
        Kill::At(place, nth) => die(&farm, farm.start(Some((place, nth))), None),
        Kill::After(time) => die(&farm, farm.start(None), Some(time)),
    };
    let mut daemon = farm.start(None);
    daemon.ready(&farm);
    if daemon.rollouts() == 0 {
        // The operator was not told that it has begun, and looks: it has not.
        daemon.order(&farm);
    }
    let ended = daemon.wait("R1");
    look(&farm, WANTED, 1, sum);
    sum.rows_missing += PHONES.saturating_sub(daemon.rows("R1", RolloutPhoneState::Done));
    assert_eq!(ended, 0, "{kill:?}: the rollout did not end well: {}", daemon.show("R1"));
    killed
}

/// One rollback of a rollout that has ended, with one kill in it; whether the kill came.
fn live_through_rollback(place: &str, sum: &mut Sum) -> bool {
    let farm = Farm::new();
    farm.phones[OF_ANOTHER_HOST].leave_session_open(None);
    let mut first = farm.start(None);
    first.ready(&farm);
    first.order(&farm);
    assert_eq!(first.wait("R1"), 0, "{}", first.show("R1"));
    first.kill();
    let mut second = farm.start(Some((place, 1)));
    second.ready(&farm);
    let order = second.begin_rollback();
    let killed = second.died_within(COMES_BY);
    order.end();
    let mut daemon = farm.start(None);
    daemon.ready(&farm);
    let ended = daemon.wait("R1");
    look(&farm, BEFORE, 2, sum);
    sum.rows_missing += PHONES.saturating_sub(daemon.rows("R1", RolloutPhoneState::RolledBack));
    assert_eq!(ended, ROLLED_BACK, "{place}: the rollback did not end well: {}", daemon.show("R1"));
    killed
}

/// Begins a rollout and lets the daemon die, by itself or after a time; whether it did.
fn die(farm: &Farm, mut daemon: Daemon, after: Option<Duration>) -> bool {
    // A place within the first reading of the store kills it before.
    if daemon.died_within(Duration::ZERO) || !daemon.is_ready(farm) {
        return daemon.died_within(COMES_BY);
    }
    let order = daemon.begin_order(farm);
    let died = match after {
        Some(time) => {
            let until = Instant::now() + time;
            // The instant is what is drawn by chance: nothing is waited for.
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            daemon.kill();
            true
        }
        None => daemon.died_or_ended(COMES_BY),
    };
    order.end();
    died
}

/// Counts what is wrong on the phones, each of which was installed on so often.
fn look(farm: &Farm, wanted: u64, installs: u64, sum: &mut Sum) {
    let other = farm.phones[OF_ANOTHER_HOST].name();
    for phone in &farm.phones {
        let state = phone.state();
        let version = state.packages.get(farm::PACKAGE).map(|(version, _)| *version);
        sum.wrong_version += usize::from(version != Some(wanted));
        sum.installed_twice += usize::from(state.installs > installs);
        sum.open_sessions += state.sessions.abs_diff(usize::from(phone.name() == other));
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, expected a number"))
        }
        _ => otherwise,
    }
}

/// SplitMix64: the same seed is the same proof.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw() % limit as u64).unwrap()
    }

    /// How often a place is come by before: there are 16 installs and more steps.
    fn nth(&mut self) -> u32 {
        u32::try_from(self.below(PHONES)).unwrap() + 1
    }
}
