//! Stories of the store: kills, damage, a full queue, two daemons.
#![cfg(feature = "daemon")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::promise::{AUDIT_LINES_MAX, AuditRecord, Report, RolloutPhoneRecord, RolloutRecord, Stands};
use super::*;
use crate::agent::ApkSource;
use crate::clock::UnixMillis;
use crate::rack::access::{Role, TokenRecord};
use crate::rack::ids::{HubName, HubPort, PackageName, PhoneId, Serial, VersionCode};
use crate::rack::power::{PortOff, PowerLedger};
use crate::rack::snapshot::{PowerPort, RolloutPhoneState, RolloutState};

fn rollout(number: u32) -> RolloutRecord {
    RolloutRecord {
        number: RolloutNumber(number),
        state: RolloutState::Paused,
        why: "A1 failed".into(),
        source: ApkSource::Url("http://127.0.0.1/agent.apk".into()),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(u64::MAX),
        version_name: "2.0".into(),
        strategy: Box::default(),
        open_waves: 2,
        soaks_until: Some(UnixMillis(1_700_000_600_000)),
        accepted_failures: 3,
        joins: number
            .is_multiple_of(2)
            .then(|| Box::new(crate::rack::candidate::Choice { percent: Some(5), ..Default::default() })),
        closes: number.is_multiple_of(2).then_some(UnixMillis(77)),
        starts: number.is_multiple_of(2).then_some(UnixMillis(78)),
        sha256: Some("00ff".into()),
        takes_back: Some(RolloutNumber(9)),
        stands: number.is_multiple_of(2).then(|| Stands { turn: 3, over: Some("ff00".into()) }),
        created: UnixMillis(1),
        ended: None,
    }
}

fn phone(rollout: u32, name: &str, position: u32) -> RolloutPhoneRecord {
    RolloutPhoneRecord {
        rollout: RolloutNumber(rollout),
        phone: PhoneId::new(name),
        position,
        wave: position,
        state: RolloutPhoneState::Installing,
        attempts: 2,
        interrupted: 1,
        before: Some(VersionCode(u64::MAX)),
        retried: 1,
        why: Some("interrupted".into()),
        unfit_since: position.is_multiple_of(2).then_some(UnixMillis(5)),
        notice: Some(-7),
        report: Report::Due,
    }
}

fn audit(what: &str) -> Promise {
    Promise::Audit(AuditRecord { at: UnixMillis(5), who: "operator".into(), what: what.into(), target: "R1".into() })
}

fn open(dir: &std::path::Path) -> (StateDir, Store) {
    let state = StateDir::lock(dir).unwrap();
    let store = Store::open(&state).unwrap();
    (state, store)
}

#[tokio::test]
async fn the_audit_keeps_its_newest_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, store) = open(dir.path());
    let lines = u64::from(AUDIT_LINES_MAX) + 3;
    store.commit((0..lines).map(|n| audit(&n.to_string())).collect()).await.unwrap();
    let kept = store.audit(u32::MAX).await.unwrap();
    assert_eq!(kept.len(), AUDIT_LINES_MAX as usize);
    assert_eq!((kept[0].what.as_str(), kept[kept.len() - 1].what.as_str()), ("100002", "3"));
}

#[tokio::test]
async fn what_was_committed_is_read_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let batch = vec![
        Promise::Rollout(rollout(1)),
        Promise::RolloutPhone(phone(1, "P1", 0)),
        Promise::RolloutPhone(phone(1, "P2", 1)),
    ];
    let (state, store) = open(dir.path());
    store.commit(batch.clone()).await.unwrap();
    store.commit(vec![audit("approved"), audit("resumed")]).await.unwrap();
    drop((state, store));

    let (_state, store) = open(dir.path());
    assert_eq!(store.load_rollouts().await.unwrap(), batch);
    let lines = store.audit(1).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.what.as_str()).collect::<Vec<_>>(), ["resumed"]);
}

#[tokio::test]
async fn a_later_record_takes_the_place_of_the_earlier_and_a_forgotten_rollout_takes_its_phones_along() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, store) = open(dir.path());
    store.commit(vec![Promise::Rollout(rollout(1)), Promise::RolloutPhone(phone(1, "P1", 0))]).await.unwrap();
    let finished = RolloutRecord { state: RolloutState::Finished, ended: Some(UnixMillis(9)), ..rollout(1) };
    let done = RolloutPhoneRecord { state: RolloutPhoneState::Done, why: None, notice: None, ..phone(1, "P1", 0) };
    store.commit(vec![Promise::Rollout(finished.clone()), Promise::RolloutPhone(done.clone())]).await.unwrap();
    let seen = store.load_rollouts().await.unwrap();
    assert_eq!(seen, [Promise::Rollout(finished), Promise::RolloutPhone(done)]);

    store.commit(vec![Promise::ForgetRollout(RolloutNumber(1))]).await.unwrap();
    assert_eq!(store.load_rollouts().await.unwrap(), []);
}

#[tokio::test]
async fn the_last_word_about_the_power_of_ports_is_the_whole_truth_after_a_restart() {
    let power = PowerPort { hub: HubName::new("H1"), port: HubPort(255) };
    let off = vec![PortOff { power, since: UnixMillis(-5) }];
    let first = PowerLedger { off, cycles: vec![UnixMillis(-5), UnixMillis(7), UnixMillis(7)] };
    let last = PowerLedger { off: Vec::new(), ..first.clone() };
    let dir = tempfile::tempdir().unwrap();
    let (state, store) = open(dir.path());
    assert_eq!(store.load_power().await.unwrap(), PowerLedger::default());
    store.commit(vec![Promise::Power(first.clone())]).await.unwrap();
    drop((state, store));
    let (_state, store) = open(dir.path());
    assert_eq!(store.load_power().await.unwrap(), first);
    store.commit(vec![Promise::Power(last.clone())]).await.unwrap();
    assert_eq!(store.load_power().await.unwrap(), last);
}

#[tokio::test]
async fn a_file_of_the_first_farmhand_gets_the_tables_that_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(dir.path().join("promises.db")).unwrap();
    db.execute_batch(include_str!("schema_1.sql")).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    drop(db);
    let (_state, store) = open(dir.path());
    assert_eq!(store.load_power().await.unwrap(), PowerLedger::default());
}

#[tokio::test]
async fn a_batch_is_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, store) = open(dir.path());
    // A phone of a rollout that was never promised: the foreign key refuses it, and the audit line with it.
    let orphan = vec![audit("never"), Promise::RolloutPhone(phone(9, "P1", 0))];
    let (bad, good) = tokio::join!(store.commit(orphan), store.commit(vec![audit("kept")]));
    assert!(matches!(bad, Err(StoreError::Failing { .. })), "{bad:?}");
    good.unwrap();
    let lines = store.audit(10).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.what.as_str()).collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn more_callers_than_the_queue_holds_wait_and_all_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, store) = open(dir.path());
    let commits = (0..600).map(|n| store.commit(vec![audit(&n.to_string())]));
    for result in futures_util::future::join_all(commits).await {
        result.unwrap();
    }
    let lines = store.audit(1000).await.unwrap();
    let written: std::collections::BTreeSet<String> = lines.into_iter().map(|line| line.what).collect();
    assert_eq!(written, (0..600).map(|n| n.to_string()).collect());
}

#[test]
fn a_second_daemon_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let held = StateDir::lock(dir.path()).unwrap();
    let refused = StateDir::lock(dir.path()).unwrap_err();
    assert!(refused.to_string().contains(&format!("pid {}", std::process::id())), "{refused}");
    assert!(miette::Diagnostic::help(&refused).unwrap().to_string().contains("--state"));
    drop(held);
    StateDir::lock(dir.path()).unwrap();
}

#[test]
fn a_state_directory_that_is_a_file_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = StateDir::lock(file.path()).unwrap_err();
    assert!(matches!(refused, StateDirError::Unusable { .. }));
    assert!(refused.to_string().contains(file.path().to_str().unwrap()), "{refused}");
}

#[test]
fn a_damaged_file_is_named_with_what_to_do_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("promises.db");
    let garbage = b"this is no database, whatever its name says".repeat(100);
    std::fs::write(&file, &garbage).unwrap();
    let state = StateDir::lock(dir.path()).unwrap();
    let error = Store::open(&state).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("promises.db"), "{error}");
    assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("move it aside"));
    assert_eq!(std::fs::read(&file).unwrap(), garbage);
}

#[test]
fn a_file_of_a_newer_farmhand_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    rusqlite::Connection::open(dir.path().join("promises.db"))
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let state = StateDir::lock(dir.path()).unwrap();
    let error = Store::open(&state).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 12, .. }), "{error:?}");
}

#[tokio::test]
async fn a_hold_survives_a_restart_and_a_release_does_too() {
    use crate::rack::lease::{HOLD, Lease, Tool};
    let dir = tempfile::tempdir().unwrap();
    let hold = |who: &str| {
        let (phone, reason) = (PhoneId::new("P1"), "battery check".to_owned());
        let (since, until) = (UnixMillis(1), UnixMillis(7_200_001));
        Lease { phone, id: HOLD, tool: Tool::Hold, who: who.to_owned(), reason, since, until }
    };
    let (state, store) = open(dir.path());
    store.commit(vec![Promise::Lease(hold("mara")), Promise::Lease(hold("jon"))]).await.unwrap();
    drop((state, store));
    let (_state, store) = open(dir.path());
    assert_eq!(store.load_leases().await.unwrap(), [hold("jon")]);
    let earlier = Lease { until: UnixMillis(5), ..hold("jon") };
    store.commit(vec![Promise::LeaseIsOver(earlier)]).await.unwrap();
    assert_eq!(store.load_leases().await.unwrap(), [hold("jon")], "another one took its place");
    store.commit(vec![Promise::LeaseIsOver(hold("jon"))]).await.unwrap();
    assert_eq!(store.load_leases().await.unwrap(), []);
    store.commit(vec![Promise::Lease(hold("jon")), Promise::ForgetLease(PhoneId::new("P1"))]).await.unwrap();
    assert_eq!(store.load_leases().await.unwrap(), []);
}

#[tokio::test]
async fn a_serial_of_two_phones_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let twins = |serial: &str| Promise::SharedSerial(Serial::new(serial));
    let (state, store) = open(dir.path());
    store.commit(vec![twins("TWIN"), twins("ABC"), twins("TWIN")]).await.unwrap();
    drop((state, store));
    let (_state, store) = open(dir.path());
    assert_eq!(store.load_shared_serials().await.unwrap(), [Serial::new("ABC"), Serial::new("TWIN")].into());
}

#[tokio::test]
async fn an_identity_that_was_set_is_known_after_a_restart_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let set = |name: &str, credential: &str| Promise::Identity { name: name.into(), credential: credential.into() };
    let (state, store) = open(dir.path());
    store.commit(vec![set("P1", "1"), set("A2", "2"), set("P1", "3")]).await.unwrap();
    drop((state, store));
    let (_state, store) = open(dir.path());
    let known = store.load_identities().await.unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [("A2".into(), "2".into()), ("P1".into(), "3".into())]);
    store.commit(vec![Promise::ForgetIdentity("A2".into())]).await.unwrap();
    assert_eq!(store.load_identities().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_is_known_after_a_restart_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let token = |id: &str, role, expires: Option<i64>| TokenRecord {
        id: id.into(),
        owner: "mara".into(),
        role,
        secret_sha256: "00ff".into(),
        created: UnixMillis(7),
        expires: expires.map(UnixMillis),
    };
    let known = [token("00000001", Role::View, None), token("00000002", Role::Admin, Some(-9))];
    let (state, store) = open(dir.path());
    store.commit(known.clone().map(Promise::Token).into()).await.unwrap();
    drop((state, store));
    let (_state, store) = open(dir.path());
    assert_eq!(store.load_tokens().await.unwrap(), known);
    store.commit(vec![Promise::ForgetToken("00000001".into())]).await.unwrap();
    assert_eq!(store.load_tokens().await.unwrap(), known[1..]);
}

#[test]
fn the_schema_is_frozen() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let db = rusqlite::Connection::open(dir.path().join("promises.db")).unwrap();
    let mut tables = db.prepare("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let seen = format!("-- user_version {version}\n{}\n", tables.join("\n"));
    assert_eq!(
        seen,
        include_str!("golden_schema.sql"),
        "a file in the field has the golden schema: add a migration instead"
    );
}

/// Runs `the_child_that_is_killed` in a process of its own that kills itself at the checkpoint, and opens what it left.
fn killed_at(checkpoint: &str) -> (tempfile::TempDir, StateDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::the_child_that_is_killed", "--ignored"])
        .env("FARMHAND_KILL_AT", checkpoint)
        .env("FARMHAND_KILL_STATE", dir.path())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(9), "the child was to be killed at {checkpoint}: {status}");
    let (state, store) = open(dir.path());
    (dir, state, store)
}

#[tokio::test]
#[ignore = "run by the kill tests in a process of its own"]
async fn the_child_that_is_killed() {
    let dir = std::env::var("FARMHAND_KILL_STATE").unwrap();
    let (_state, store) = open(dir.as_ref());
    store.commit(vec![audit("promised")]).await.unwrap();
}

#[tokio::test]
async fn a_promise_survives_a_kill_right_after_its_commit() {
    let (_dir, _state, store) = killed_at("after_commit");
    assert_eq!(store.audit(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_kill_right_before_the_commit_leaves_nothing_of_it() {
    let (_dir, _state, store) = killed_at("before_commit");
    assert_eq!(store.audit(10).await.unwrap(), []);
}
