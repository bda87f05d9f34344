//! The nearest known word to one that was mistyped.

/// How alike two words must be, from 0 to 1, before one is offered for the other.
const ALIKE: f64 = 0.75;

/// The known word that `typed` was probably meant to be.
#[must_use]
pub fn nearest<'w>(typed: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let lower = typed.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&lower, &word.to_lowercase()), word))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_word() {
        let keys = ["heartbeat_s", "server", "max_frame"];
        assert_eq!(nearest("hearbeat", keys), Some("heartbeat_s"));
        assert_eq!(nearest("SERVER", keys), Some("server"));
        assert_eq!(nearest("colour", keys), None);
    }
}
