//! What the server says: a word of four letters, and texts behind their length.

/// The longest text that four hex digits can announce, in bytes.
pub const TEXT_MAX: usize = 0xffff;

/// `OKAY`: the request is carried out, or the stream is open.
pub const OKAY: &[u8] = b"OKAY";

/// The version of the smart-socket protocol that Google's adb 1.0.41 demands, of whatever platform tools: any other has it kill the server.
pub const VERSION: u32 = 41;

/// A text behind its length in four hex digits. What is longer than [`TEXT_MAX`] ends at its last whole line within, or character.
#[must_use]
pub fn text(text: &str) -> Vec<u8> {
    let text = fitting(text);
    format!("{:04x}{text}", text.len()).into_bytes()
}

/// `OKAY` and a text.
#[must_use]
pub fn okay(content: &str) -> Vec<u8> {
    [OKAY, &text(content)].concat()
}

/// `FAIL` and why, as a sentence.
#[must_use]
pub fn fail(why: &str) -> Vec<u8> {
    [b"FAIL", text(why).as_slice()].concat()
}

/// `OKAY` and the number of the transport, as `tport` answers.
#[must_use]
pub fn transport(id: u64) -> Vec<u8> {
    [OKAY, &id.to_le_bytes()].concat()
}

fn fitting(text: &str) -> &str {
    if text.len() <= TEXT_MAX {
        return text;
    }
    let (mut end, _) = text.char_indices().take_while(|(at, _)| *at <= TEXT_MAX).last().unwrap_or_default();
    if let Some(line) = text.get(..end).and_then(|kept| kept.rfind('\n')) {
        end = line + 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_bytes_of_googles_server() {
        // Recorded from adb 29.0.6 and 34.0.5.
        assert_eq!(okay(&format!("{VERSION:04x}")), b"OKAY00040029");
        assert_eq!(okay(""), b"OKAY0000");
        assert_eq!(okay("device"), b"OKAY0006device");
        assert_eq!(fail("device 'nope' not found"), b"FAIL0017device 'nope' not found");
        assert_eq!(transport(2), b"OKAY\x02\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_text_that_is_too_long_ends_at_a_line() {
        let line = format!("{}\n", "ä".repeat(499));
        let told = text(&line.repeat(100));
        assert_eq!(told.get(..4), Some(format!("{:04x}", 65 * 999).as_bytes()));
        assert!(told.ends_with("ä\n".as_bytes()));
        assert_eq!(text(&"ä".repeat(40_000)).len(), 4 + 0xfffe);
    }
}
