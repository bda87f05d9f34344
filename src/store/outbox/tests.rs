//! Stories of the file: restarts, damage, another key, no room, age.
#![cfg(feature = "daemon")]

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::store::StateDir;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "a word that nobody else may read";

/// An outbox, and one line's end of it.
struct Desk {
    outbox: Outbox,
    to: mpsc::Sender<Reply>,
    answers: mpsc::Receiver<Reply>,
    state: StateDir,
}

impl Desk {
    fn open(dir: &Path, bytes: u64) -> Self {
        let state = StateDir::lock(dir).unwrap();
        let limits = Limits { bytes, age: Duration::from_secs(3600) };
        let outbox = Outbox::start(&state, None, limits).unwrap();
        let (to, answers) = mpsc::channel(8);
        Self { outbox, to, answers, state }
    }

    async fn ask(&mut self, owner: &str, ask: Ask) -> Answer {
        self.outbox.ask(Request { owner: owner.to_owned(), ask }, self.to.clone()).await;
        let (of, answer) = *timeout(PATIENCE, self.answers.recv()).await.unwrap().unwrap();
        assert_eq!(of, owner);
        answer
    }

    async fn write(&mut self, owner: &str, write: Write) -> Written {
        match self.ask(owner, Ask::Write(write)).await {
            Answer::Written(written) => written,
            other => panic!("{other:?}"),
        }
    }

    async fn stores(&mut self, owner: &str, numbers: std::ops::Range<u64>) -> Written {
        let write = Write { first: numbers.start, store: numbers.map(notice).collect(), ..Write::default() };
        self.write(owner, write).await
    }

    async fn standing(&mut self, owner: &str) -> Standing {
        match self.ask(owner, Ask::Restore).await {
            Answer::Restored(Ok(standing)) => standing,
            other => panic!("{other:?}"),
        }
    }

    async fn load(&mut self, owner: &str, from: u64) -> Loaded {
        match self.ask(owner, Ask::Load { from }).await {
            Answer::Loaded(Ok(loaded)) => loaded,
            other => panic!("{other:?}"),
        }
    }

    /// Ends it, and waits until the thread has let the file go: its journal goes with that.
    async fn close(self) {
        let journal = self.state.path().join("outbox.db-wal");
        drop((self.outbox, self.to));
        let gone = async {
            while journal.exists() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }
}

fn notice(number: u64) -> Notice {
    Notice { msg_type: 1024, reference: -1, envelope: Bytes::from(format!("{SECRET}, the {number}th")) }
}

fn is_all(written: &Written) -> bool {
    matches!(written, Written::All(_))
}

fn damaged_ones(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("outbox-damaged-") && name.ends_with(".db")).count()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert!(is_all(&desk.stores("A", 0..3).await));
    assert!(is_all(&desk.stores("B", 0..1).await));
    let more = Write { taken: 2, first: 3, store: vec![notice(3)], refused: vec![notice(9)] };
    assert!(is_all(&desk.write("A", more).await));
    desk.close().await;

    let mut desk = Desk::open(dir.path(), 1 << 20);
    let standing = desk.standing("A").await;
    assert_eq!((standing.taken, standing.next, standing.refused), (2, 4, 1));
    assert_eq!(desk.load("A", 2).await, Loaded { from: 2, end: 3, notices: vec![(2, notice(2))] });
    assert_eq!(desk.load("A", 3).await, Loaded { from: 3, end: 4, notices: vec![(3, notice(3))] });
    assert_eq!(desk.load("A", 4).await, Loaded { from: 4, end: 4, notices: vec![] });
    assert_eq!(desk.standing("C").await, Standing::default());
    assert!(is_all(&desk.write("A", Write { taken: 4, first: 4, ..Write::default() }).await));
    desk.close().await;

    let mut desk = Desk::open(dir.path(), 1 << 20);
    let standing = desk.standing("A").await;
    assert_eq!((standing.taken, standing.next), (4, 4), "no number is used again");
    assert_eq!(desk.load("B", 0).await.notices, [(0, notice(0))]);
}

#[tokio::test]
async fn nothing_of_a_notice_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    let write = Write { store: (0..64).map(notice).collect(), refused: vec![notice(64)], ..Write::default() };
    assert!(is_all(&desk.write("A", write).await));
    let has_secret = |dir: &Path| {
        std::fs::read_dir(dir).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
        })
    };
    assert!(!has_secret(dir.path()));
    desk.close().await;
    assert!(!has_secret(dir.path()));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("outbox.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(dir.path().join("seen"), SECRET).unwrap();
    assert!(has_secret(dir.path()), "the look finds what is there");
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert!(is_all(&desk.stores("A", 0..3).await));
    desk.close().await;
    std::fs::write(dir.path().join("outbox.db"), [0x5a; 8192]).unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert_eq!(desk.standing("A").await, Standing::default(), "nothing is invented");
    assert_eq!(damaged_ones(dir.path()), 1);
    assert!(is_all(&desk.stores("A", 0..2).await));
    assert_eq!(desk.load("A", 0).await.notices.len(), 2);
}

#[tokio::test]
async fn a_file_that_is_damaged_while_it_is_used_is_put_aside_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 26);
    // More than SQLite keeps in memory.
    let long = |_| Notice { msg_type: 1024, reference: 0, envelope: Bytes::from(vec![7; 4096]) };
    for round in 0..20 {
        let write = Write { first: round * 64, store: (0..64).map(long).collect(), ..Write::default() };
        assert!(is_all(&desk.write("A", write).await));
    }
    // As a disk does that has lost what it was given: pages of tables, in the file and in its journal.
    for name in ["outbox.db", "outbox.db-wal"] {
        let path = dir.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(4096).for_each(|byte| *byte = 0xa5);
        std::fs::write(&path, bytes).unwrap();
    }
    let mut failed = None;
    for from in (0..20 * 64).step_by(64) {
        if let Answer::Loaded(Err(why)) = desk.ask("A", Ask::Load { from }).await {
            failed = Some(why);
            break;
        }
    }
    assert!(failed.is_some_and(|why| why.contains("damaged")), "somewhere it is seen");
    assert_eq!(damaged_ones(dir.path()), 1);
    let standing = desk.standing("A").await;
    assert_eq!((standing.next, standing.unreadable), (20 * 64, 20 * 64));
    assert!(is_all(
        &desk.write("A", Write { taken: 20 * 64, first: 20 * 64, store: vec![notice(1)], ..Write::default() }).await
    ));
    assert_eq!(desk.load("A", 0).await.notices, [(20 * 64, notice(1))]);
}

#[tokio::test]
async fn a_file_of_another_key_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert!(is_all(&desk.stores("A", 0..3).await));
    desk.close().await;
    std::fs::write(dir.path().join("outbox.key"), [3; 32]).unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert_eq!((desk.standing("A").await.next, damaged_ones(dir.path())), (0, 1));
}

#[tokio::test]
async fn without_a_usable_key_nothing_is_stored_until_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("outbox.key"), [3; 5]).unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    let written = desk.stores("A", 0..3).await;
    assert!(matches!(&written, Written::Nothing { why } if why.contains("outbox.key")), "{written:?}");
}

#[tokio::test]
async fn one_block_that_cannot_be_read_is_put_aside_and_the_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    for first in [0, 2, 4] {
        assert!(is_all(&desk.stores("A", first..first + 2).await));
    }
    let other = Connection::open(dir.path().join("outbox.db")).unwrap();
    other.execute("UPDATE block SET sealed = zeroblob(length(sealed)) WHERE first = 2", []).unwrap();
    drop(other);
    assert_eq!(desk.load("A", 0).await.notices.len(), 2);
    assert_eq!(desk.load("A", 2).await, Loaded { from: 2, end: 6, notices: vec![(4, notice(4)), (5, notice(5))] });
    let standing = desk.standing("A").await;
    assert_eq!((standing.unreadable, standing.next, damaged_ones(dir.path())), (2, 6, 0));
}

#[tokio::test]
async fn one_phone_leaves_the_others_room_and_taking_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 40_000);
    let mut next = 0;
    while is_all(&desk.stores("A", next..next + 10).await) {
        next += 10;
        assert!(next < 10_000);
    }
    assert!(desk.standing("A").await.bytes <= 10_000 && next > 50);
    assert!(is_all(&desk.stores("B", 0..10).await), "another one has its own share");
    let taken = Write { taken: next, first: next, store: vec![notice(1)], ..Write::default() };
    assert!(is_all(&desk.write("A", taken).await), "what is taken makes room for what comes with it, or after it");
    assert!(is_all(&desk.stores("A", next + 1..next + 2).await));
}

#[tokio::test]
async fn what_is_too_old_is_removed_and_time_in_which_nothing_runs_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert!(is_all(
        &desk.write("A", Write { store: vec![notice(0)], refused: vec![notice(1)], ..Write::default() }).await
    ));
    desk.close().await;
    let mut desk = Desk::open(dir.path(), 1 << 20);
    let standing = desk.standing("A").await;
    assert_eq!((standing.next, standing.expired, standing.refused), (1, 0, 1));
    desk.close().await;

    let other = Connection::open(dir.path().join("outbox.db")).unwrap();
    other.execute("UPDATE meta SET elapsed_s = elapsed_s + 3602", []).unwrap();
    drop(other);
    let mut desk = Desk::open(dir.path(), 1 << 20);
    let standing = desk.standing("A").await;
    assert_eq!((standing.expired, standing.refused, standing.bytes), (1, 0, 0));
    assert_eq!(desk.load("A", 0).await, Loaded { from: 0, end: 1, notices: vec![] });
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 20);
    assert!(is_all(&desk.stores("A", 0..3).await));
    let other = Connection::open(dir.path().join("outbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(desk.stores("A", 3..5).await, Written::Nothing { why } if why.contains("outbox.db")));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(is_all(&desk.stores("A", 3..5).await));
    assert_eq!(desk.standing("A").await.next, 5);
    assert_eq!(desk.load("A", 0).await.notices.len(), 3);
}

#[tokio::test]
async fn many_lines_share_a_group_and_each_has_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 1 << 24);
    desk.standing("A").await;
    let (to, mut answers) = mpsc::channel(256);
    for phone in 0..100 {
        let write = Write { store: vec![notice(phone)], ..Write::default() };
        let request = Request { owner: format!("P{phone}"), ask: Ask::Write(write) };
        desk.outbox.ask(request, to.clone()).await;
    }
    for _ in 0..100 {
        let (_, answer) = *timeout(PATIENCE, answers.recv()).await.unwrap().unwrap();
        assert!(matches!(answer, Answer::Written(Written::All(_))));
    }
    for phone in 0..100 {
        assert_eq!(desk.load(&format!("P{phone}"), 0).await.notices, [(0, notice(phone))]);
    }
}
