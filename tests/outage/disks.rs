//! Disks that are full, fail, or have lost what they held: the line stops acknowledging instead of losing.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firmware_tools::check::until;
use firmware_tools::rack_file::CentralAck;
use rusqlite::Connection;

use super::Size;
use super::crew::Crew;
use super::ledger::Ledger;
use super::site::{Site, lines};

const SIZE: Size = Size { phones: 2, notices: 400, kills: 0 };
/// Of one notice.
const WIDTH: usize = 1024;
/// The disk has room for the daemon's other files, and for no more than some of the notices once it is filled.
const DISK: u64 = 24 << 20;
/// So many are stored before the trouble begins.
const BEFORE: u64 = 100;

/// Fills the disk below this folder to its last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::options().create(true).append(true).open(&path).unwrap();
    // The last piece that fits is one byte.
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write(&vec![0x5a; piece]).is_ok_and(|written| written > 0) {}
    }
    path
}

/// Takes all room but a little, which the daemon fills itself: at the last byte it gives its reserve up, and whoever still fills then takes
/// that, too.
fn fill_but_for_a_little(folder: &Path) {
    const LITTLE: u64 = 128 << 10;
    let room = rustix::fs::statvfs(folder).unwrap();
    let filler = File::create(folder.join("filler")).unwrap();
    let len = (room.f_bavail * room.f_frsize).checked_sub(LITTLE).unwrap();
    rustix::fs::fallocate(filler, rustix::fs::FallocateFlags::empty(), 0, len).unwrap();
}

/// Fills the disk again and again until the daemon has given up the room that it keeps for such a day, and that is filled, too.
async fn fill_for_good(folder: &Path) -> PathBuf {
    let given_up = || {
        fill(folder);
        let reserve = folder.join("outbox.reserve");
        if reserve.exists() { Err("it is held") } else { Ok(()) }
    };
    until(SIZE.patience(), "the reserve is given up", async || given_up().map_err(str::to_owned)).await.unwrap();
    fill(folder)
}

/// Waits until every line says why its disk takes nothing.
async fn troubled(state: &Path, part: &str) -> Result<(), firmware_tools::check::Miss> {
    until(SIZE.patience(), &format!("each line says: {part}"), async || {
        let lines = lines(state)?;
        let troubles: Vec<_> = lines.iter().filter_map(|line| line.outbox.trouble.clone()).collect();
        let all = troubles.len() == SIZE.phones && troubles.iter().all(|trouble| trouble.contains(part));
        if all { Ok(()) } else { Err(format!("{troubles:?}")) }
    })
    .await
}

/// While the disk takes nothing, nothing is acknowledged: several tries of it go by. What was stored before may be on its way to the agent.
async fn acknowledges_nothing(crew: &Crew) {
    const TRIES: Duration = Duration::from_secs(12);
    for _ in 0..3 {
        let wanted = crew.acknowledged() + 1;
        if until(TRIES, "one more is acknowledged", async || crew.has_acknowledged(wanted)).await.is_err() {
            return;
        }
    }
    panic!("{} are acknowledged, and nobody keeps them", crew.acknowledged());
}

/// The server is back: it gets all, in order, and the outbox is empty in the end.
async fn delivers_all(site: &Site, crew: &Crew, ledger: &mut Ledger, state: &Path) {
    let all = SIZE.total();
    let said = until(SIZE.patience(), "all notices are acknowledged", async || crew.has_acknowledged(all)).await;
    assert!(said.is_ok(), "{said:?}; {}", site.log());
    let delivered = until(SIZE.patience(), "all notices are delivered", async || ledger.has(all)).await;
    assert!(delivered.is_ok(), "{delivered:?}; {}", site.log());
    let sum = ledger.sum();
    assert_eq!((sum.missing, sum.reordered), (0, 0));
    until(SIZE.patience(), "nothing waits any more", async || {
        let waiting: u64 = lines(state)?.iter().map(|line| line.outbox.waiting).sum();
        if waiting == 0 { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_acknowledgements_and_loses_nothing() {
    let site = Site::open(CentralAck::Each, SIZE.phones).await;
    let mut ledger = Ledger::open(&site.capture(), CentralAck::Each, SIZE);
    let daemon = site.start_on_disk_of(DISK);
    let crew = Crew::start(&site, SIZE.notices, WIDTH);
    let stored = until(SIZE.patience(), "some are stored", async || crew.has_acknowledged(BEFORE)).await;
    assert!(stored.is_ok(), "{stored:?} (a disk of its own needs `unshare --map-root-user --mount`); {}", site.log());

    let state = daemon.sees(&site.state());
    let filler = fill_for_good(&state).await;
    troubled(&state, "no room").await.unwrap();
    acknowledges_nothing(&crew).await;
    assert!(crew.acknowledged() < SIZE.total(), "it was full before the end");

    std::fs::remove_file(filler).unwrap();
    let all = SIZE.total();
    until(SIZE.patience(), "with room, all are stored", async || crew.has_acknowledged(all)).await.unwrap();
    site.centre.resume().await.unwrap();
    delivers_all(&site, &crew, &mut ledger, &state).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_when_the_server_comes_back_keeps_nothing_from_it() {
    let site = Site::open(CentralAck::Each, SIZE.phones).await;
    let mut ledger = Ledger::open(&site.capture(), CentralAck::Each, SIZE);
    let daemon = site.start_on_disk_of(DISK);
    let crew = Crew::start(&site, SIZE.notices, WIDTH);
    until(SIZE.patience(), "some are stored", async || crew.has_acknowledged(BEFORE)).await.unwrap();
    let state = daemon.sees(&site.state());
    fill_but_for_a_little(&state);
    troubled(&state, "no room").await.unwrap();

    site.centre.resume().await.unwrap();
    delivers_all(&site, &crew, &mut ledger, &state).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_takes_no_writes_stops_acknowledgements_and_loses_nothing() {
    let site = Site::open(CentralAck::Silent, SIZE.phones).await;
    let mut ledger = Ledger::open(&site.capture(), CentralAck::Silent, SIZE);
    let _daemon = site.start();
    let crew = Crew::start(&site, SIZE.notices, WIDTH);
    until(SIZE.patience(), "some are stored", async || crew.has_acknowledged(BEFORE)).await.unwrap();

    let other = Connection::open(site.state().join("outbox.db")).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    troubled(&site.state(), "locked").await.unwrap();
    acknowledges_nothing(&crew).await;
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    site.centre.resume().await.unwrap();
    delivers_all(&site, &crew, &mut ledger, &site.state()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_damaged_is_put_aside_loudly_and_nothing_is_invented() {
    let site = Site::open(CentralAck::Each, SIZE.phones).await;
    let mut ledger = Ledger::open(&site.capture(), CentralAck::Each, SIZE);
    let mut daemon = site.start();
    let crew = Crew::start(&site, SIZE.notices, 0);
    until(SIZE.patience(), "some are stored", async || crew.has_acknowledged(BEFORE)).await.unwrap();
    daemon.kill();
    let known = crew.acknowledged();
    let damage = [0x5a; 16 << 10];
    for name in ["outbox.db", "outbox.db-wal"] {
        std::fs::write(site.state().join(name), damage).unwrap();
    }

    let _daemon = site.start();
    let all = SIZE.total();
    until(SIZE.patience(), "all others are stored", async || crew.has_acknowledged(all)).await.unwrap();
    let aside = std::fs::read_dir(site.state()).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("outbox-damaged-") && name.ends_with(".db")
    });
    assert_eq!(std::fs::read(aside.expect("it is kept")).unwrap(), damage, "as it was");
    let log = site.whole_log();
    assert!(log.contains("is damaged") && log.contains("outbox-damaged-"), "{log}");

    site.centre.resume().await.unwrap();
    // What was not on that file comes; the ledger takes nothing that no agent has said.
    until(SIZE.patience(), "all others are delivered", async || ledger.has(all - known)).await.unwrap();
    let emptied = async || site.waiting();
    until(SIZE.patience(), "nothing waits any more", emptied).await.unwrap();
    let sum = ledger.sum();
    assert_eq!(sum.reordered, 0);
    assert!(sum.missing <= known, "{} are missing, and {known} were on the file", sum.missing);
}
