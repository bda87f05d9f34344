//! The proof of outages: agents on virtual phones talk while the central server is away and the daemon is killed with -9 again and again;
//! once the server is back it must get all that was acknowledged, in order.
//!
//! `make proof-outage`, or smaller: `PHONES=4 NOTICES=150 KILLS=4 cargo test --test outage`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it saw"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crew;
mod disks;
mod ledger;
#[path = "../../benches/report.rs"]
mod report;
mod site;

use std::time::Duration;

use firmware_tools::check::until;
use firmware_tools::rack_file::CentralAck;

use crew::Crew;
use ledger::{Ledger, Sum};
use report::{Goal, report};
use site::Site;

/// What every notice says; it must not stand in any file of the daemon.
const SECRET: &str = "whispered-in-an-outage";
/// From the start of a daemon until its agents are heard, and from the return of the server until the lines are registered.
const COMES_UP: Duration = Duration::from_secs(150);
/// Each notice may take so long, of one phone, to be stored or to be delivered: a silent server takes 64 of them every two seconds.
const EACH: Duration = Duration::from_millis(100);
/// Doubles of one phone that one kill may make: what was on its way to the server, or on the way to its acknowledgement.
const DOUBLES_MAX: u64 = 64;

/// How much is proven.
#[derive(Clone, Copy, Debug)]
struct Size {
    phones: usize,
    notices: u64,
    kills: u64,
}

impl Size {
    fn of_environment() -> Self {
        let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
        Self {
            phones: usize::try_from(number("PHONES", 4)).unwrap(),
            notices: number("NOTICES", 150),
            kills: number("KILLS", 4),
        }
    }

    fn total(self) -> u64 {
        self.phones as u64 * self.notices
    }

    /// Half of the kills come while notices are stored, half while they are delivered; each at its part of the way.
    fn kills_at(self) -> Vec<u64> {
        let half = self.kills / 2;
        (0..half).map(|kill| self.total() * (2 * kill + 1) / (2 * half)).collect()
    }

    /// Of the phone that had most.
    fn doubles_per_kill(self, sum: &Sum) -> u64 {
        sum.doubles_of_one_phone.div_ceil(self.kills.max(1))
    }

    fn patience(self) -> Duration {
        COMES_UP + EACH * u32::try_from(self.notices).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_kills_the_daemon_in_an_outage_nothing_that_was_acknowledged_is_lost() {
    let size = Size::of_environment();
    let mut proven = Proven::default();
    for ack in [CentralAck::Each, CentralAck::Silent, CentralAck::Late, CentralAck::Error] {
        let (sum, plaintext_hits) = live_through(ack, size).await;
        proven.note(&sum, size, plaintext_hits);
    }
    // What a small run shows is no figure.
    if std::env::var_os("PHONES").is_some() {
        proven.report().unwrap();
    }
}

/// The sums of all kinds of server, and the worst of them.
#[derive(Debug, Default)]
struct Proven {
    lost: u64,
    reordered: u64,
    duplicates_per_kill_and_phone: u64,
    plaintext_hits: usize,
}

impl Proven {
    fn note(&mut self, sum: &Sum, size: Size, plaintext_hits: usize) {
        self.lost += sum.missing;
        self.reordered += sum.reordered;
        self.plaintext_hits += plaintext_hits;
        let doubles = size.doubles_per_kill(sum);
        self.duplicates_per_kill_and_phone = self.duplicates_per_kill_and_phone.max(doubles);
    }

    fn report(&self) -> std::io::Result<()> {
        report("outbox.lost", self.lost as f64, "notices", Goal::AtMost(0.0))?;
        report("outbox.reordered", self.reordered as f64, "notices", Goal::AtMost(0.0))?;
        let doubles = self.duplicates_per_kill_and_phone as f64;
        report("outbox.duplicates_per_kill_and_phone", doubles, "notices", Goal::AtMost(DOUBLES_MAX as f64))?;
        report("outbox.plaintext_hits", self.plaintext_hits as f64, "files", Goal::AtMost(0.0))
    }
}

async fn live_through(ack: CentralAck, size: Size) -> (Sum, usize) {
    let site = Site::open(ack, size.phones).await;
    let mut ledger = Ledger::open(&site.capture(), ack, size);
    let mut daemon = site.start();
    let crew = Crew::start(&site, size.notices, 0);
    for at in size.kills_at() {
        until(size.patience(), &format!("{at} notices are acknowledged"), async || crew.has_acknowledged(at))
            .await
            .unwrap();
        daemon.kill();
        daemon = site.start();
    }
    let all = size.total();
    until(size.patience(), "all notices are acknowledged", async || crew.has_acknowledged(all)).await.unwrap();
    let plaintext_hits = site.files_that_say(SECRET);
    assert!(site.outbox_bytes() > all, "they are stored, and the server was away: {}", ledger.read());

    site.centre.resume().await.unwrap();
    for at in size.kills_at() {
        until(size.patience(), &format!("{at} notices are delivered"), async || ledger.has(at)).await.unwrap();
        daemon.kill();
        daemon = site.start();
    }
    let delivered = until(size.patience(), "all notices are delivered", async || ledger.has(all)).await;
    let sum = ledger.sum();
    println!(
        "ack {ack:?} phones {} notices {all} kills {} lost {} reordered {} duplicates {} duplicates_per_kill_and_phone {} \
         plaintext_hits {plaintext_hits}",
        size.phones,
        size.kills,
        sum.missing,
        sum.reordered,
        sum.doubles,
        size.doubles_per_kill(&sum)
    );
    assert!(delivered.is_ok() && sum.missing == 0 && sum.reordered == 0, "{ack:?}: {delivered:?}; {}", site.log());
    assert!(
        sum.doubles_of_one_phone <= DOUBLES_MAX * size.kills,
        "{ack:?}: {} doubles of one phone",
        sum.doubles_of_one_phone
    );
    assert_eq!(plaintext_hits, 0);
    let emptied = async || site.waiting();
    until(size.patience(), "nothing waits any more", emptied).await.unwrap();
    (sum, plaintext_hits)
}
