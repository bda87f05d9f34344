//! A bench for the core: a store in memory, a clock moved by hand, and what came out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::agent::Build;
use crate::agent::fit::Requirements;
use crate::config::{FromCentral, Rollout as Config};
use crate::phone::{InstallFailure, InstallFailureClass};
use crate::rack::candidate::{Choice, Readings};
use crate::rack::event::UpgradeNotice;
use crate::rack::ids::RolloutId;
use crate::rack::request::Request;
use crate::rack::snapshot::{Forecast, RolloutView};
use crate::rack::strategy::{Approve, Strategy, StrategyChanges, WaveSize};

pub(super) const PACKAGE: &str = "org.example.agent";
/// The wall time of the start: 00:16:40 on a Thursday.
pub(super) const EPOCH: UnixMillis = UnixMillis(1_000_000);
pub(super) const URL: &str = "http://127.0.0.1/agent-2.apk";

/// The committed promises, as SQLite would give them back.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub(super) rollouts: BTreeMap<RolloutNumber, RolloutRecord>,
    pub(super) phones: BTreeMap<(RolloutNumber, PhoneId), RolloutPhoneRecord>,
    pub(super) audit: Vec<AuditRecord>,
}

impl Shelf {
    pub(super) fn apply(&mut self, batch: Vec<Promise>) {
        for promise in batch {
            match promise {
                Promise::Rollout(record) => {
                    self.rollouts.insert(record.number, record);
                }
                Promise::RolloutPhone(record) => {
                    assert!(self.rollouts.contains_key(&record.rollout), "a phone of no rollout: {record:?}");
                    self.phones.insert((record.rollout, record.phone.clone()), record);
                }
                Promise::ForgetRollout(number) => {
                    self.rollouts.remove(&number);
                    self.phones.retain(|(rollout, _), _| *rollout != number);
                }
                Promise::Audit(record) => self.audit.push(record),
                other @ (Promise::Power(_)
                | Promise::Lease(_)
                | Promise::LeaseIsOver(_)
                | Promise::ForgetLease(_)
                | Promise::Identity { .. }
                | Promise::ForgetIdentity(_)
                | Promise::SharedSerial(_)
                | Promise::Detached(_)
                | Promise::Attached(_)
                | Promise::Token(_)
                | Promise::ForgetToken(_)) => {
                    panic!("no affair of a rollout: {other:?}")
                }
            }
        }
    }

    pub(super) fn promises(&self) -> Vec<Promise> {
        let rollouts = self.rollouts.values().cloned().map(Promise::Rollout);
        rollouts.chain(self.phones.values().cloned().map(Promise::RolloutPhone)).collect()
    }
}

/// Wave sizes as an operator writes them.
pub(super) fn sizes(text: &str) -> Vec<WaveSize> {
    text.split(',').map(|size| size.parse().unwrap()).collect()
}

pub(super) fn config(approve: Approve) -> Config {
    Config {
        strategy: Strategy { waves: sizes("1,3"), approve, retries: 0, ..Strategy::default() },
        gather: Duration::from_secs(5),
        install_timeout: Duration::from_secs(300),
        windows: config::Windows::default(),
        sources: Vec::new(),
        from_central: if approve == Approve::None { FromCentral::Auto } else { FromCentral::Ask },
        delivery: crate::config::Delivery::default(),
    }
}

pub(super) fn core(config: Config, now: Moment, shelf: &Shelf) -> Rollouts {
    Rollouts::restore(config, Some(PackageName::new(PACKAGE)), EPOCH, now, shelf.promises())
}

pub(super) fn id(name: &str) -> PhoneId {
    PhoneId::new(name)
}

pub(super) fn notice(message_id: i64, version: u64) -> UpgradeNotice {
    UpgradeNotice {
        message_id,
        package: PackageName::new(PACKAGE),
        version_code: VersionCode(version),
        version_name: format!("{version}.0"),
        url: URL.into(),
    }
}

pub(super) fn apk(version: u64) -> CheckedApk {
    CheckedApk {
        path: format!("/state/apks/{version}.apk").into(),
        package: PackageName::new(PACKAGE),
        version_code: VersionCode(version),
        version_name: format!("{version}.0"),
        signer_sha256: "aa".repeat(32),
        size: 4096,
        sha256: format!("{version:064x}"),
        build: Build::Release,
        requirements: Requirements::signed_by("aa".repeat(32)),
    }
}

pub(super) fn failure(class: InstallFailureClass) -> InstallFailure {
    InstallFailure {
        class,
        reason: Some("INSTALL_FAILED_INTERNAL_ERROR".into()),
        why: "the package manager gave up".into(),
    }
}

/// A phone of which nothing is known but that it can be installed on.
pub(super) fn fit() -> Candidate {
    let (battery_percent, temperature_celsius, free_mib) = (Some(80), Some(25), Some(9000));
    Candidate { readings: Readings { battery_percent, temperature_celsius, free_mib }, ..Candidate::default() }
}

fn wanted(choice: Choice) -> Wanted {
    Wanted { file: "/home/owner/agent.apk".into(), choice, strategy: StrategyChanges::default() }
}

/// A core whose batches are committed at once; what goes out is kept in `out`.
pub(super) struct Bench {
    pub(super) core: Rollouts,
    pub(super) now: Moment,
    pub(super) shelf: Shelf,
    pub(super) config: Config,
    pub(super) out: Vec<Output>,
    asks: u64,
}

impl Bench {
    pub(super) fn new(approve: Approve) -> Self {
        let (now, shelf, config) = (Moment::START, Shelf::default(), config(approve));
        let core = core(config.clone(), now, &shelf);
        let mut bench = Self { core, now, shelf, config, out: Vec::new(), asks: 0 };
        bench.settle();
        bench
    }

    /// The daemon is killed and started again: what was not committed is gone, and so is all that it knew of phones.
    pub(super) fn restart(&mut self) {
        self.core = core(self.config.clone(), self.now, &self.shelf);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Commit { ticket, batch } => {
                    self.shelf.apply(batch);
                    self.core.committed(self.now, ticket);
                }
                Output::Changed => {}
                output => self.out.push(output),
            }
        }
    }

    pub(super) fn offer(&mut self, phone: &str, message_id: i64, version: u64) {
        let (phone, notice) = (id(phone), notice(message_id, version));
        self.core.command(self.now, RolloutCommand::Offered { phone, notice });
        self.settle();
    }

    /// A phone is ready; it is fit for installs, unless something else was said of it.
    pub(super) fn available(&mut self, phone: &str, version: u64) {
        if !self.core.candidates.contains_key(&id(phone)) {
            self.known(phone, fit());
        }
        let version_code = Some(VersionCode(version));
        self.core.command(self.now, RolloutCommand::Available { phone: id(phone), version_code });
        self.settle();
    }

    pub(super) fn unavailable(&mut self, phone: &str, why: &str) {
        self.core.command(self.now, RolloutCommand::Unavailable { phone: id(phone), why: why.into() });
        self.settle();
    }

    pub(super) fn installed(&mut self, phone: &str, rollout: &str, version: u64) {
        self.result(phone, rollout, Ok(VersionCode(version)));
    }

    pub(super) fn failed(&mut self, phone: &str, rollout: &str, class: InstallFailureClass) {
        self.result(phone, rollout, Err(failure(class)));
    }

    fn result(&mut self, phone: &str, rollout: &str, result: Result<VersionCode, InstallFailure>) {
        let rollout = RolloutId::new(rollout);
        self.core.command(self.now, RolloutCommand::Installed { phone: id(phone), rollout, result });
        self.settle();
    }

    pub(super) fn told(&mut self, phone: &str, message_id: i64) {
        self.core.command(self.now, RolloutCommand::FailureTold { phone: id(phone), message_id });
        self.settle();
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.core.advance(self.now);
        self.settle();
    }

    pub(super) fn fetched(&mut self, number: u32, result: Result<CheckedApk, String>) {
        self.core.fetched(self.now, RolloutNumber(number), result);
        self.settle();
    }

    pub(super) fn ask(&mut self, request: &Request) -> Result<Done, Refusal> {
        self.asks += 1;
        self.core.request(self.now, Ask(self.asks), request);
        self.answer()
    }

    pub(super) fn start(&mut self, apk: CheckedApk, phones: &[&str]) -> Result<Done, Refusal> {
        self.start_for(apk, Choice::of(phones.iter().copied().map(id).collect()))
    }

    pub(super) fn start_for(&mut self, apk: CheckedApk, choice: Choice) -> Result<Done, Refusal> {
        self.asks += 1;
        self.core.start(self.now, Ask(self.asks), apk, wanted(choice));
        self.answer()
    }

    pub(super) fn start_by(&mut self, apk: CheckedApk, strategy: StrategyChanges) -> Result<Done, Refusal> {
        self.asks += 1;
        self.core.start(self.now, Ask(self.asks), apk, Wanted { strategy, ..wanted(Choice::default()) });
        self.answer()
    }

    pub(super) fn forecast(&mut self, apk: CheckedApk, choice: Choice) -> Result<Forecast, Refusal> {
        self.asks += 1;
        self.core.forecast(self.now, Ask(self.asks), apk, wanted(choice));
        Ok(*self.answer()?.forecast.expect("a forecast is answered with one"))
    }

    pub(super) fn known(&mut self, phone: &str, candidate: Candidate) {
        self.core.command(self.now, RolloutCommand::Known { phone: id(phone), candidate: Box::new(candidate) });
        self.settle();
    }

    fn answer(&mut self) -> Result<Done, Refusal> {
        self.settle();
        let is_answer = |output: &Output| matches!(output, Output::Answer { .. });
        let place = self.out.iter().position(is_answer).expect("every request is answered");
        let Output::Answer { ask, result } = self.out.remove(place) else { unreachable!() };
        assert_eq!(ask, Ask(self.asks));
        result
    }

    pub(super) fn approve(&mut self, rollout: &str) {
        self.ask(&Request::RolloutApprove { rollout: RolloutId::new(rollout) }).unwrap();
    }

    pub(super) fn pause(&mut self, rollout: &str) -> String {
        self.ask(&Request::RolloutPause { rollout: RolloutId::new(rollout) }).unwrap().what
    }

    pub(super) fn resume(&mut self, rollout: &str) -> String {
        self.ask(&Request::RolloutResume { rollout: RolloutId::new(rollout) }).unwrap().what
    }

    /// Phones P1 to P`count` with version 1, a rollout R1 of version 2 to all of them, approved.
    pub(super) fn under_way(count: i64) -> Self {
        Self::under_way_by(config(Approve::First).strategy, count)
    }

    /// The same, in another way.
    pub(super) fn under_way_by(strategy: Strategy, count: i64) -> Self {
        let (now, shelf) = (Moment::START, Shelf::default());
        let config = Config { strategy, ..config(Approve::First) };
        let core = core(config.clone(), now, &shelf);
        let mut bench = Self { core, now, shelf, config, out: Vec::new(), asks: 0 };
        bench.settle();
        for n in 1..=count {
            bench.available(&format!("P{n}"), 1);
            bench.offer(&format!("P{n}"), n, 2);
        }
        bench.pass(5);
        bench.fetched(1, Ok(apk(2)));
        bench.out.clear();
        bench.approve("R1");
        bench
    }

    /// What came out since the last call.
    pub(super) fn out(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// The phones that were told to install since the last call; nothing else must have come out.
    pub(super) fn installs(&mut self) -> Vec<String> {
        let phone = |output| match output {
            Output::Install { phone, order } => {
                assert_eq!(order.package.as_str(), PACKAGE);
                phone.to_string()
            }
            other => panic!("not an install: {other:?}"),
        };
        self.out().into_iter().map(phone).collect()
    }

    pub(super) fn view(&self, rollout: &str) -> RolloutView {
        self.core.views().into_iter().find(|view| view.id.as_str() == rollout).expect("the rollout is shown")
    }

    /// The states of a rollout's phones, wave by wave: `P1 done | P2 waiting, P3 waiting`.
    pub(super) fn waves(&self, rollout: &str) -> String {
        let wave = |wave: &crate::rack::snapshot::WaveView| {
            let phones = wave.phones.iter().map(|p| format!("{} {}", p.phone, p.state.as_str()));
            phones.collect::<Vec<_>>().join(", ")
        };
        self.view(rollout).waves.iter().map(wave).collect::<Vec<_>>().join(" | ")
    }
}
