//! What happened, as a hash that two runs of one seed must share, and as lines for a person when a seed is replayed.

use std::collections::VecDeque;
use std::fmt;

use farmhand::clock::Moment;

/// Lines that are kept of a replay.
const KEPT: usize = 80;
/// A line is cut at this length for people; the hash has all of it.
const SHOWN: usize = 240;

/// Whether lines are kept, or only hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// A run that is expected to be well.
    Hash,
    /// A replay: the last lines are kept.
    Lines,
    /// A replay that a person watches from its beginning.
    Watched,
}

#[derive(Debug)]
pub(super) struct Trace {
    hash: Fnv,
    telling: Telling,
    lines: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(telling: Telling) -> Self {
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), telling, lines: VecDeque::new() }
    }

    pub(super) fn line(&mut self, now: Moment, what: fmt::Arguments<'_>) {
        self.hash.number(now.since_start().subsec_nanos().into());
        // The hasher takes every text.
        let _ = fmt::write(&mut self.hash, what);
        if self.telling == Telling::Hash {
            return;
        }
        let mut line = format!("{:>12} {what}", now.to_string());
        if let Some((cut, _)) = line.char_indices().nth(SHOWN) {
            line.truncate(cut);
            line.push('…');
        }
        if self.telling == Telling::Watched {
            println!("{line}");
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// FNV-1a, eight bytes at a time: good enough to see a difference, and cheap without optimisation.
#[derive(Debug)]
struct Fnv(u64);

impl Fnv {
    fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last) ^ text.len() as u64);
        Ok(())
    }
}
