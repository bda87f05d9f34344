//! The system's errors in words for a person: `nobody listens at 127.0.0.1:9200`, not `Connection refused (os error 111)`.

use std::io::{Error, ErrorKind};

/// Why no connection to `address` could be made, as a sentence without a full stop.
#[must_use]
pub fn connecting(address: &str, error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("nobody listens at {address}"),
        ErrorKind::TimedOut => format!("{address} does not answer"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("no way leads from this host to {address}")
        }
        _ if is_about_a_name(error) => format!("no address is known for the name in {address}"),
        _ => format!("{address}: {}", of(error)),
    }
}

/// The system's own words, without its number.
#[must_use]
pub fn of(error: &Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error ").next().unwrap_or(&text);
    let mut letters = words.chars();
    match letters.next() {
        // "I/O error" stays as it is.
        Some(first) if letters.as_str().starts_with(|second: char| second.is_lowercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => words.to_owned(),
    }
}

/// std has no kind for what the resolver says.
fn is_about_a_name(error: &Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_no_numbers() {
        let refused = Error::from_raw_os_error(111);
        assert_eq!(connecting("127.0.0.1:9200", &refused), "nobody listens at 127.0.0.1:9200");
        assert_eq!(of(&refused), "connection refused");
        assert_eq!(of(&Error::from_raw_os_error(5)), "input/output error");
        assert_eq!(connecting("c:1", &Error::from_raw_os_error(13)), "c:1: permission denied");
    }

    #[test]
    fn a_name_that_nobody_knows_is_said_to_be_that() {
        let error = Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(
            connecting("centre.invalid:9200", &error),
            "no address is known for the name in centre.invalid:9200"
        );
    }
}
