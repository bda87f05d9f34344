//! What a handset answers to `reverse:`: OKAY or FAIL, then a text with its length as four hexadecimal digits before it.

/// The text of an answer.
///
/// # Errors
/// What the handset said instead.
pub(super) fn read(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    if let Some(why) = text.strip_prefix("FAIL") {
        return Err(counted(why).to_owned());
    }
    // A list comes without an OKAY.
    let said = text.strip_prefix("OKAY").unwrap_or(&text);
    Ok(counted(said.strip_prefix("OKAY").unwrap_or(said)).to_owned())
}

/// Both ends of each tunnel of a list: the handset's and the host's.
pub(super) fn tunnels(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| {
        // The transport's name, then both ends.
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    })
}

/// The text behind its length; all of it if that is none.
fn counted(text: &str) -> &str {
    let len = text.get(..4).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let rest = len.and_then(|len| text.get(4..4 + len));
    rest.unwrap_or(text)
}

/// Reads any bytes as an answer; what a fuzzer calls.
///
/// # Panics
/// When a tunnel's end has a character that parts ends from each other.
pub fn fuzz_reverse_answer(bytes: &[u8]) {
    if let Ok(list) = read(bytes) {
        for (device, host) in tunnels(&list) {
            assert!(![device, host].iter().any(|end| end.contains([' ', '\n'])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        assert_eq!(read(b"OKAY").unwrap(), "");
        assert_eq!(read(b"OKAY00044321").unwrap(), "4321");
        assert_eq!(read(b"OKAYOKAY00044321").unwrap(), "4321");
        assert_eq!(read(b"0013UsbFfs tcp:1 tcp:2\n").unwrap(), "UsbFfs tcp:1 tcp:2\n");
        assert_eq!(read(b"FAIL0004busy"), Err("busy".to_owned()));
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(counted("ffffx"), "ffffx", "a length that lies is no reason to lose the text");
    }

    #[test]
    fn a_list_gives_both_ends() {
        let list = "UsbFfs tcp:1 tcp:2\nhost-1 tcp:8765 localabstract:x\nnothing\n";
        assert_eq!(tunnels(list).collect::<Vec<_>>(), [("tcp:1", "tcp:2"), ("tcp:8765", "localabstract:x")]);
    }
}
