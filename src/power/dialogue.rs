//! One request to a hub and its reply: bytes go in until the prompt has come.
//!
//! ```text
//!     → state\r
//!     ← state\r\n                 (most hubs repeat the command)
//!     ← 1, 0000, R D S, …\r\n
//!     ← >>                        (the prompt: the reply is whole)
//! ```
//!
//! Invariant: a reply is given out once, whole, of printable characters, and never longer than [`REPLY_MAX_BYTES`].

use std::time::Duration;

use super::cambrionix::{Request, shortened};
use crate::clock::{Deadline, Moment};

/// The longest reply that is waited for: a `state` of 255 ports with long lines has a third of it.
pub const REPLY_MAX_BYTES: usize = 64 * 1024;

/// What a hub shows when it wants the next command.
const PROMPT: &[u8] = b">>";

/// Why a dialogue failed. After any of these the line must become quiet before the next request, or a late reply would be
/// taken for the next one's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogueError {
    /// The prompt has not come in time.
    #[error("no whole reply to `{command}` within {waited_ms} ms ({bytes} bytes came)")]
    Silent {
        /// What was asked.
        command: String,
        /// How long.
        waited_ms: u128,
        /// How much of a reply there was.
        bytes: usize,
    },
    /// More than [`REPLY_MAX_BYTES`] without a prompt.
    #[error("the reply to `{command}` does not end: {REPLY_MAX_BYTES} bytes came without a prompt")]
    Endless {
        /// What was asked.
        command: String,
    },
    /// Several replies at once: the hub answers more than was asked, or late.
    #[error("the reply to `{command}` came with others: the hub is out of step")]
    OutOfStep {
        /// What was asked.
        command: String,
    },
    /// Something that no hub prints.
    #[error("the reply to `{command}` is no text: `{seen}`")]
    Garbage {
        /// What was asked.
        command: String,
        /// The line, shortened.
        seen: String,
    },
}

/// A request under way.
#[derive(Debug)]
pub struct Dialogue {
    command: String,
    received: Vec<u8>,
    begun: Moment,
    patience: Duration,
}

impl Dialogue {
    /// Begins one at `now` that waits at most `patience`. Send [`Self::request_bytes`] next.
    #[must_use]
    pub fn begin(request: Request, now: Moment, patience: Duration) -> Self {
        Self { command: request.to_string(), received: Vec::new(), begun: now, patience }
    }

    /// What the hub must be sent.
    #[must_use]
    pub fn request_bytes(&self) -> Vec<u8> {
        format!("{}\r", self.command).into_bytes()
    }

    /// Takes bytes from the hub. `Some` once the reply is whole: its lines without the repeated command and the prompt.
    ///
    /// # Errors
    /// [`DialogueError::Endless`] and [`DialogueError::Garbage`].
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Vec<String>>, DialogueError> {
        if self.received.len().saturating_add(bytes.len()) > REPLY_MAX_BYTES {
            return Err(DialogueError::Endless { command: self.command.clone() });
        }
        self.received.extend_from_slice(bytes);
        self.body().map(|body| self.lines(body)).transpose()
    }

    /// Tells the dialogue the time.
    ///
    /// # Errors
    /// [`DialogueError::Silent`] once the deadline has passed.
    pub fn advance(&self, now: Moment) -> Result<(), DialogueError> {
        if now < self.deadline().at {
            return Ok(());
        }
        Err(DialogueError::Silent {
            command: self.command.clone(),
            waited_ms: now.since(self.begun).as_millis(),
            bytes: self.received.len(),
        })
    }

    /// When [`Self::advance`] gives up.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline { at: self.begun + self.patience, why: "the hub's reply" }
    }

    /// What came before the final prompt, which must begin its line.
    fn body(&self) -> Option<&[u8]> {
        let text = self.received.trim_ascii_end();
        let body = text.strip_suffix(PROMPT)?;
        matches!(body.last(), None | Some(b'\n' | b'\r')).then_some(body)
    }

    fn lines(&self, body: &[u8]) -> Result<Vec<String>, DialogueError> {
        let mut lines = Vec::new();
        for line in body.split(|byte| matches!(byte, b'\r' | b'\n')) {
            let printable = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            let text = String::from_utf8_lossy(line);
            if !printable {
                return Err(DialogueError::Garbage { command: self.command.clone(), seen: shortened(&text) });
            }
            let text = text.trim();
            // The prompt that was shown before may stand before the first line, and nowhere else.
            let after_prompt = text.trim_start_matches(">>").trim_start();
            let second_reply = after_prompt.len() < text.len() && !after_prompt.is_empty() && !lines.is_empty();
            let echo = lines.is_empty() && after_prompt.eq_ignore_ascii_case(&self.command);
            if second_reply || (!echo && is_command(after_prompt)) {
                return Err(DialogueError::OutOfStep { command: self.command.clone() });
            }
            if !after_prompt.is_empty() && !echo {
                lines.push(after_prompt.to_owned());
            }
        }
        Ok(lines)
    }
}

/// Whether a line is one of our commands, repeated: no hub prints such a line of itself.
fn is_command(line: &str) -> bool {
    let words: Vec<String> = line.split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["id" | "health" | "state"] => true,
        ["state", port] | ["mode", _, port] => port.parse::<u8>().is_ok(),
        _ => false,
    }
}

/// What the fuzz target calls: any bytes, in chunks whose size is the first byte, as the reply to `state`. A reply that is
/// given out ends the dialogue, and is printable.
pub fn fuzz_hub_reply(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let mut dialogue = Dialogue::begin(Request::State, Moment::START, Duration::from_secs(1));
    for chunk in bytes.chunks(usize::from(*size).max(1)) {
        match dialogue.receive(chunk) {
            Ok(None) => {}
            Ok(Some(lines)) => {
                assert!(
                    lines.iter().all(|line| !line.is_empty() && line.chars().all(|c| c == '\t' || !c.is_control()))
                );
                return;
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn asked(request: Request) -> Dialogue {
        Dialogue::begin(request, Moment::START, PATIENCE)
    }

    #[test]
    fn a_reply_ends_with_the_prompt() {
        let mut dialogue = asked(Request::State);
        assert_eq!(dialogue.request_bytes(), b"state\r");
        assert_eq!(dialogue.receive(b"state\r\n1, 0000, A S\r\n"), Ok(None));
        assert_eq!(dialogue.receive(b"2, 0000, A S\r\n>"), Ok(None));
        let lines = dialogue.receive(b"> ").unwrap().unwrap();
        assert_eq!(lines, ["1, 0000, A S", "2, 0000, A S"]);
    }

    #[test]
    fn a_hub_may_repeat_the_command_or_not() {
        for bytes in [&b"mfr:x\r\n>>"[..], b"ID\r\nmfr:x\r\n>> ", b">> id\r\n\r\nmfr:x\r\n\r\n>>\r\n"] {
            assert_eq!(asked(Request::Id).receive(bytes).unwrap().unwrap(), ["mfr:x"], "{bytes:?}");
        }
    }

    #[test]
    fn several_replies_at_once_are_no_reply() {
        let error = asked(Request::Id).receive(b"state\r\n1, 0, A S\r\n>>id\r\nmfr:x\r\n>>").unwrap_err();
        assert_eq!(error.to_string(), "the reply to `id` came with others: the hub is out of step");
        for bytes in [&b"\r\n>> health\r\nx: 1\r\n>>"[..], b"mode off 3\r\n>>", b"id\r\nmfr:x\r\n>>id\r\nmfr:x\r\n>>"] {
            assert!(asked(Request::Id).receive(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn two_angles_within_a_line_are_no_prompt() {
        assert_eq!(asked(Request::Id).receive(b"name:a>>"), Ok(None));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let dialogue = asked(Request::Health);
        assert_eq!(dialogue.advance(Moment::from_start(Duration::from_millis(999))), Ok(()));
        let error = dialogue.advance(Moment::START + PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "no whole reply to `health` within 1000 ms (0 bytes came)");
    }

    #[test]
    fn what_does_not_end_or_is_no_text_is_named() {
        let mut endless = asked(Request::Id);
        assert_eq!(endless.receive(&vec![b'a'; REPLY_MAX_BYTES]), Ok(None));
        assert_eq!(endless.receive(b"a"), Err(DialogueError::Endless { command: "id".to_owned() }));
        let error = asked(Request::Id).receive(b"\x1b[2J\xff\r\n>>").unwrap_err();
        assert!(matches!(error, DialogueError::Garbage { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_reply_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_hub_reply(&bytes);
        }

        #[test]
        fn how_the_bytes_fall_does_not_matter(reply in "([ -=?-~]{0,30}\r\n){0,8}", cuts in proptest::collection::vec(1_usize..9, 1..40)) {
            let whole = format!("{reply}>>");
            // Where a line happens to be a command, both see that the hub is out of step.
            let at_once = asked(Request::Id).receive(whole.as_bytes());
            let mut dialogue = asked(Request::Id);
            let mut rest = whole.as_bytes();
            let mut last = Ok(None);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, left) = rest.split_at((*cut).min(rest.len()));
                prop_assert_eq!(&last, &Ok(None));
                last = dialogue.receive(chunk);
                rest = left;
            }
            prop_assert_eq!(last, at_once);
        }
    }
}
