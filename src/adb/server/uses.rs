//! Who uses which phone: a use begins with a person's first stream, takes a lease, and ends half a minute after the last stream.
//!
//! ```text
//!   begin ──▶ [streams > 0: lease renewed] ──▶ [idle 30 s] ──▶ lease ended, what was moved in the audit
//!     │              ▲                            │
//!     │              └────────── begin ───────────┘
//!     └──▶ a line of audit, on the disk before the phone hears anything
//! ```
//!
//! Invariant: each use that has begun is told once more at its end, with what each family of services has moved (`tests`,
//! [`Uses::end_all`]). A daemon that is killed meanwhile leaves its beginning.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::clock::{Moment, UnixMillis};
use crate::rack::ids::PhoneId;
use crate::rack::lease::{Lease, LeaseEvent, Tool};

/// A use goes on over a pause of this length: scripts open a stream for each of their steps.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a lease stands that nobody renews: longer than the model is ever busy.
const LASTS: Duration = Duration::from_secs(120);
/// Between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(40);

/// Both clocks: pauses are counted by the one, leases and audit written by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the server's start.
    pub at: Moment,
    /// The wall clock.
    pub wall: UnixMillis,
}

/// Which kind of service a stream is, for the audit: never what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family(&'static str);

impl Family {
    /// The family of a service such as `shell,v2,raw:ls`.
    #[must_use]
    pub fn of(service: &str) -> Self {
        let end = service.find([':', ',', '\0']).unwrap_or(service.len());
        Self(match service.get(..end).unwrap_or_default() {
            "shell" => "shell",
            "exec" => "exec",
            "sync" => "sync",
            "abb" | "abb_exec" => "abb",
            "tcp" | "local" | "localabstract" | "localreserved" | "localfilesystem" | "dev" | "vsock" => "socket",
            "jdwp" | "track-jdwp" | "track-app" => "debugger",
            "reverse" => "reverse",
            "reboot" => "reboot",
            "root" | "unroot" | "remount" | "tcpip" | "usb" | "disable-verity" | "enable-verity" => "adbd",
            "framebuffer" => "screen",
            "backup" | "restore" => "backup",
            "sideload" | "sideload-host" | "rescue" => "sideload",
            _ => "other",
        })
    }
}

/// How long a phone may be away on whom this service is opened: none, if it does not end the phone's connections.
#[must_use]
pub fn time_away(service: &str) -> Option<Duration> {
    match service.split_once(':')?.0 {
        // Some start for minutes after an update.
        "reboot" => Some(Duration::from_secs(180)),
        "root" | "unroot" | "tcpip" | "usb" => Some(Duration::from_secs(30)),
        _ => None,
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// What streams have moved, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// To the phone.
    pub to_phone: u64,
    /// From it.
    pub from_phone: u64,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// To the model.
    Lease(LeaseEvent),
    /// For the audit.
    Use(UseRecord),
}

/// The beginning or the end of a use, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseRecord {
    /// When.
    pub at: UnixMillis,
    /// Who.
    pub who: String,
    /// Of which phone.
    pub phone: PhoneId,
    /// What was done, as a sentence.
    pub what: String,
}

impl UseRecord {
    /// `who` is about to open the first stream of a use, of this family.
    #[must_use]
    pub fn beginning(now: Now, phone: &PhoneId, who: &str, family: Family) -> Self {
        let what = format!("begins to work on it with adb: {family}");
        Self { at: now.wall, who: who.to_owned(), phone: phone.clone(), what }
    }
}

/// All uses that have not ended.
#[derive(Debug, Default)]
pub struct Uses(BTreeMap<(PhoneId, String), Use>);

#[derive(Debug)]
struct Use {
    lease: u64,
    began: Now,
    streams: usize,
    renew_at: Moment,
    /// When the last stream ended.
    idle_since: Moment,
    families: BTreeMap<Family, (u64, Moved)>,
}

impl Uses {
    /// A stream of `who` begins. A use that is not under way takes the lease with the number `lease`.
    pub fn begin(&mut self, now: Now, phone: &PhoneId, who: &str, lease: u64) -> Option<Told> {
        let key = (phone.clone(), who.to_owned());
        if let Some(known) = self.0.get_mut(&key) {
            known.streams += 1;
            return None;
        }
        let (renew_at, idle_since) = (now.at + RENEW_EVERY, now.at);
        let fresh = Use { lease, began: now, streams: 1, renew_at, idle_since, families: BTreeMap::new() };
        let told = fresh.lease(now, &key);
        self.0.insert(key, fresh);
        Some(told)
    }

    /// A stream that [`Uses::begin`] has told of has ended.
    pub fn end(&mut self, now: Now, phone: &PhoneId, who: &str, family: Family, moved: Moved) {
        let Some(known) = self.0.get_mut(&(phone.clone(), who.to_owned())) else { return };
        known.streams = known.streams.saturating_sub(1);
        known.idle_since = now.at;
        let (count, sum) = known.families.entry(family).or_default();
        *count += 1;
        sum.to_phone = sum.to_phone.saturating_add(moved.to_phone);
        sum.from_phone = sum.from_phone.saturating_add(moved.from_phone);
    }

    /// What is due at `now`: leases to renew, uses that have ended.
    pub fn advance(&mut self, now: Now) -> Vec<Told> {
        let mut told = Vec::new();
        let over = |_: &(PhoneId, String), known: &mut Use| known.ends_at().is_some_and(|at| at <= now.at);
        for (key, known) in self.0.extract_if(.., over) {
            known.ended(now, key, &mut told);
        }
        for (key, known) in &mut self.0 {
            if known.renew_at <= now.at {
                known.renew_at = now.at + RENEW_EVERY;
                told.push(known.lease(now, key));
            }
        }
        told
    }

    /// When [`Uses::advance`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.0.values().map(|known| known.ends_at().map_or(known.renew_at, |at| at.min(known.renew_at))).min()
    }

    /// Ends all uses: the server stops.
    pub fn end_all(&mut self, now: Now) -> Vec<Told> {
        let mut told = Vec::new();
        for (key, known) in std::mem::take(&mut self.0) {
            known.ended(now, key, &mut told);
        }
        told
    }
}

impl Use {
    fn ends_at(&self) -> Option<Moment> {
        (self.streams == 0).then(|| self.idle_since + IDLE_MAX)
    }

    fn lease(&self, now: Now, (phone, who): &(PhoneId, String)) -> Told {
        let (since, until) = (now.wall, now.wall.plus(LASTS));
        let (phone, who, reason) = (phone.clone(), who.clone(), "adb".to_owned());
        Told::Lease(LeaseEvent::Taken(Lease { phone, id: self.lease, tool: Tool::Adb, who, reason, since, until }))
    }

    fn ended(self, now: Now, (phone, who): (PhoneId, String), told: &mut Vec<Told>) {
        let why = "no stream of its user is open any more".to_owned();
        told.push(Told::Lease(LeaseEvent::Ended { phone: phone.clone(), id: self.lease, why }));
        let what = self.sentence(now);
        told.push(Told::Use(UseRecord { at: now.wall, who, phone, what }));
    }

    fn sentence(&self, now: Now) -> String {
        let lasted = if self.streams == 0 { self.idle_since } else { now.at }.since(self.began.at);
        let mut text = format!("worked on with adb for {} s", lasted.as_secs());
        for (index, (family, (count, moved))) in self.families.iter().enumerate() {
            let mark = if index == 0 { ": " } else { "; " };
            let streams = if *count == 1 { "stream" } else { "streams" };
            // A text can be written to a text.
            let _ = write!(
                text,
                "{mark}{} in {count} {streams}, {} bytes to it, {} bytes from it",
                family.0, moved.to_phone, moved.from_phone
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Now {
        let wall = UnixMillis(1000 * i64::try_from(seconds).unwrap());
        Now { at: Moment::from_start(Duration::from_secs(seconds)), wall }
    }

    fn is_lease(told: &Told, number: u64) -> bool {
        matches!(told, Told::Lease(LeaseEvent::Taken(lease)) if lease.id == number && lease.until.0 - lease.since.0 == 120_000)
    }

    #[test]
    fn a_use_lasts_from_the_first_stream_to_half_a_minute_after_the_last() {
        let (mut uses, a1) = (Uses::default(), PhoneId::new("P1"));
        assert!(is_lease(&uses.begin(now(0), &a1, "mara", 7).unwrap(), 7));
        assert_eq!(uses.begin(now(1), &a1, "mara", 8), None, "the same use");
        let (shell, sync) = (Family::of("shell,v2,raw:ls"), Family::of("sync:"));
        uses.end(now(2), &a1, "mara", shell, Moved { to_phone: 3, from_phone: 40 });
        uses.end(now(5), &a1, "mara", sync, Moved { to_phone: 9000, from_phone: 8 });
        assert_eq!(uses.begin(now(30), &a1, "mara", 9), None, "in a pause it goes on");
        uses.end(now(31), &a1, "mara", shell, Moved::default());
        assert!(is_lease(&uses.advance(now(40))[0], 7), "it is renewed");
        assert_eq!(uses.deadline(), Some(now(61).at));
        assert_eq!(uses.advance(now(60)), []);
        let told = uses.advance(now(61));
        assert!(matches!(&told[0], Told::Lease(LeaseEvent::Ended { id: 7, .. })));
        let Told::Use(record) = &told[1] else { panic!("{told:?}") };
        assert_eq!((record.who.as_str(), record.phone.as_str()), ("mara", "P1"));
        assert_eq!(
            record.what,
            "worked on with adb for 31 s: shell in 2 streams, 3 bytes to it, 40 bytes from it; sync in 1 stream, 9000 bytes to it, 8 bytes from it"
        );
        assert_eq!(uses.deadline(), None);
    }

    #[test]
    fn each_person_and_phone_is_a_use_of_its_own_and_the_end_tells_all() {
        let mut uses = Uses::default();
        for (number, (phone, who)) in [("P1", "mara"), ("P1", "jon"), ("P2", "mara")].into_iter().enumerate() {
            assert!(uses.begin(now(0), &PhoneId::new(phone), who, number as u64).is_some());
        }
        assert_eq!(uses.end_all(now(3)).len(), 6);
        assert_eq!(uses.deadline(), None);
    }

    #[test]
    fn what_ends_a_phones_connections_is_known_beforehand() {
        assert_eq!(time_away("reboot:recovery"), Some(Duration::from_secs(180)));
        assert_eq!(time_away("tcpip:5555"), Some(Duration::from_secs(30)));
        for service in ["shell:reboot:", "remount:", "root", "", "reconnect"] {
            assert_eq!(time_away(service), None, "{service}");
        }
    }

    #[test]
    fn a_family_tells_nothing_of_what_was_said() {
        for (service, family) in [
            ("abb_exec:package\0install", "abb"),
            ("localabstract:scrcpy", "socket"),
            ("track-jdwp", "debugger"),
            ("reboot:bootloader", "reboot"),
            ("unroot:", "adbd"),
            ("my secret", "other"),
            ("", "other"),
        ] {
            assert_eq!(Family::of(service), Family(family), "{service}");
        }
    }
}
