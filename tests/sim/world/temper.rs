//! What a seed draws once: the owner's configuration, how much trouble there is, and which kinds of it.

use std::collections::BTreeMap;
use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::config::{Credential, FromCentral, Relay, Rollout, Rung, Windows};
use farmhand::phone::WantedAgent;
use farmhand::rack::Settings;
use farmhand::rack::gates::Gates;
use farmhand::rack::ids::{Endpoint, Label, PackageName, Serial, SlotName, VersionCode};
use farmhand::rack::limits::Limits;
use farmhand::rack::snapshot::PowerPort;
use farmhand::rack::strategy::{Approve, Downgrade, Join, OnFailure, Share, Strategy};

use super::actor::PACKAGE;
use super::chance::Chance;
use super::trouble::Trouble;
use super::{PHONES, endpoint, hub, serial};

#[derive(Debug)]
pub(super) struct Temper {
    pub(super) settings: Settings,
    pub(super) rollout: Rollout,
    /// The mean time between two troubles.
    pub(super) pace: Duration,
    /// Not every kind occurs in every seed: few kinds reach deeper states than all at once.
    pub(super) kinds: Vec<Trouble>,
    pub(super) twins: Twins,
    /// What an ended connection left in the pipe reaches the next one.
    pub(super) stale_bytes: bool,
    pub(super) slow_store_until: Moment,
    /// Until then a reset cures no stall.
    pub(super) incurable_until: Moment,
    /// The highest version that the centre has asked for.
    pub(super) version: u64,
    /// Rollouts that may still begin: many of them say no more than a few.
    pub(super) upgrades: usize,
    /// How often a line may still be taken by another: each doubles the time for which it stays away.
    pub(super) replacements: usize,
}

/// Handsets that give the same serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twins {
    None,
    /// Two of them.
    Pair,
    /// Three, and it is the one that makers leave in place of a real one.
    NoSerials,
}

impl Temper {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let paces = [4, 10, 25, 60].map(Duration::from_secs);
        let fewest = [1, 2, 4][chance.below(3)];
        let kinds = Trouble::ALL.into_iter().filter(|_| chance.below(4) < fewest).collect();
        let settings = settings(chance);
        let strategy = strategy(chance);
        let from_central = if strategy.approve == Approve::None { FromCentral::Auto } else { FromCentral::Ask };
        Self {
            settings,
            rollout: Rollout {
                strategy,
                gather: Duration::from_secs(5),
                install_timeout: Duration::from_secs(5 * 60),
                windows: windows(chance),
                sources: Vec::new(),
                from_central,
                delivery: farmhand::config::Delivery::default(),
            },
            pace: *chance.pick(&paces),
            kinds,
            twins: *chance.pick(&[Twins::None, Twins::None, Twins::Pair, Twins::NoSerials]),
            stale_bytes: chance.one_in(3),
            slow_store_until: Moment::START,
            incurable_until: Moment::START,
            version: 1,
            upgrades: 12,
            replacements: 2,
        }
    }

    pub(super) fn serial(&self, number: usize) -> Serial {
        match self.twins {
            Twins::Pair if number >= PHONES - 2 => serial("TWIN"),
            Twins::NoSerials if number >= PHONES - 3 => serial("0123456789ABCDEF"),
            _ => Serial::new(format!("SIM{number}")),
        }
    }
}

fn settings(chance: &mut Chance) -> Settings {
    let slot = |place: usize| SlotName::new(format!("A{}", place + 1));
    let slots: BTreeMap<Endpoint, SlotName> = (0..PHONES).map(|place| (endpoint(place), slot(place))).collect();
    let power = |place: usize| (slot(place), PowerPort { hub: hub::name(), port: hub::port(place) });
    Settings {
        rack: "sim".to_owned(),
        slots,
        slot_order: (0..PHONES).map(slot).collect(),
        labels: (0..PHONES)
            .map(|place| (slot(place), [Label::new(if place % 3 == 0 { "third" } else { "other" })].into()))
            .collect(),
        power: (0..PHONES).map(power).collect(),
        hubs: vec![(hub::name(), "/dev/sim".to_owned())],
        credential: Some(Credential::Imei),
        relay: Relay::default(),
        grace: Duration::from_secs(90),
        agent: chance.one_in(2).then(configured_agent),
        install_timeout: Duration::from_secs(5 * 60),
        upkeep: chance.one_in(2).then(|| Duration::from_secs(3600)),
        max_rung: *chance.pick(&[Rung::CyclePower, Rung::CyclePower, Rung::Reboot, Rung::ResetUsb, Rung::Reopen]),
        switched_off: Vec::new(),
    }
}

/// `[agent] apk`: version 1, and no file of a rollout.
fn configured_agent() -> WantedAgent {
    WantedAgent {
        apk: "/etc/farmhand/agent.apk".into(),
        package: PackageName::new(PACKAGE),
        version_code: VersionCode(1),
        sha256: "ff".repeat(32),
    }
}

/// By the clock with which a life begins, which is 22:13: open at once, after a while, or always.
fn windows(chance: &mut Chance) -> Windows {
    let texts = *chance.pick(&["", "", "22:00-22:25,22:40-23:50", "22:30-21:00"]);
    Windows { each: texts.split(',').filter_map(|text| text.parse().ok()).collect(), ..Windows::default() }
}

fn strategy(chance: &mut Chance) -> Strategy {
    let waves = *chance.pick(&["1,3", "1,10,50", "8", "1,25%,100%"]);
    Strategy {
        waves: waves.split(',').filter_map(|size| size.parse().ok()).collect(),
        approve: *chance.pick(&[Approve::Each, Approve::First, Approve::None]),
        soak_s: *chance.pick(&[0, 0, 60]),
        max_failures: *chance.pick(&[Share::Count(0), Share::Count(1), Share::Percent(50)]),
        retries: *chance.pick(&[0, 2]),
        join: *chance.pick(&[Join::Dynamic, Join::Dynamic, Join::Static]),
        close_after_s: *chance.pick(&[900, 86_400]),
        limits: Limits {
            at_once: *chance.pick(&[1, 3, 32]),
            at_once_per_hub: *chance.pick(&[2, 8]),
            fit_within_s: *chance.pick(&[120, 3600]),
            ..Limits::default()
        },
        downgrade: Downgrade::Refused,
        on_failure: *chance.pick(&[OnFailure::Pause, OnFailure::Pause, OnFailure::RollBack]),
        gates: Gates { agent: chance.one_in(3).then(|| "100%".parse().ok()).flatten(), ..Gates::default() },
    }
}
