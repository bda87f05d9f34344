//! Whether several notices may be on their way at once.
//!
//! What is on its way when the centre answers a notice by an Error may be taken before that notice goes again. So as long as Errors are to be
//! expected, one notice goes at a time: the next one once the centre has taken this one, or has refused it for good.
//!
//! Invariant: after an Error nothing new goes before what was refused is settled
//! (`after_an_error_nothing_new_goes_before_what_was_refused_is_settled`).

/// So many taken in a row let several go again where each is acknowledged, which costs one way there and back each. More than an agent
/// says again after a crash: a centre that refuses whatever it sees for the first time takes all of that.
const CALM_EACH: u32 = 1024;
/// The same where only heartbeats show what is taken, which come once a second at most.
const CALM_BARRIER: u32 = 1;
/// Stored notices are many and go fast: the first of a registration shows how the centre takes them.
const CALM_STORED: u32 = 1;

/// What one registration has shown so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caution {
    /// The Id of the newest notice that was on its way at the last Error.
    erred_at: Option<i64>,
    /// Notices that went later and are taken.
    calm: u32,
    /// Refused notices that go again and are not settled.
    owed: u32,
}

impl Caution {
    /// The centre has taken the notice that went as `id`.
    pub(super) fn taken(&mut self, id: i64) {
        if self.erred_at.is_none_or(|at| id > at) {
            self.calm = self.calm.saturating_add(1);
        }
    }

    /// The centre has answered a notice by an Error while `newest` was the last one on its way.
    pub(super) fn refused(&mut self, newest: i64) {
        (self.erred_at, self.calm) = (Some(newest), 0);
    }

    /// One that was refused goes again.
    pub(super) fn owes(&mut self) {
        self.owed = self.owed.saturating_add(1);
    }

    /// One that went again was answered.
    pub(super) fn settled(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// Whether a notice, stored or not, waits until no other is on its way.
    pub(super) fn is_one_at_a_time(&self, stored: bool, acknowledges_each: bool) -> bool {
        let wanted = match self.erred_at {
            Some(_) if acknowledges_each => CALM_EACH,
            Some(_) => CALM_BARRIER,
            None if stored => CALM_STORED,
            None => 0,
        };
        self.owed > 0 || self.calm < wanted
    }
}
