//! The names under which the rack is found on a broker and in Home Assistant.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::rack::ids::PhoneId;

/// The topics of one rack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    level: String,
    id: String,
}

impl Topics {
    /// The topics of the rack with this name.
    #[must_use]
    pub fn new(rack: &str) -> Self {
        Self { level: level(rack), id: format!("farmhand_{}", home_assistant_id(rack)) }
    }

    /// `online`, `offline`: whether the daemon is there. Also its last will.
    #[must_use]
    pub fn status(&self) -> String {
        format!("farmhand/{}/status", self.level)
    }

    /// The rack's health.
    #[must_use]
    pub fn health(&self) -> String {
        format!("farmhand/{}/health", self.level)
    }

    /// One phone.
    #[must_use]
    pub fn phone(&self, phone: &PhoneId) -> String {
        format!("{}{}", self.phones(), level(phone.as_str()))
    }

    /// What the topics of all phones begin with.
    #[must_use]
    pub fn phones(&self) -> String {
        format!("farmhand/{}/phones/", self.level)
    }

    /// Where Home Assistant looks for the rack's device.
    #[must_use]
    pub fn discovery(&self, prefix: &str) -> String {
        format!("{prefix}/device/{}/config", self.id)
    }

    /// Where Home Assistant tells that it has started.
    #[must_use]
    pub fn birth(prefix: &str) -> String {
        format!("{prefix}/status")
    }

    /// The device's identifier in Home Assistant: letters, digits, `_` and `-`.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.id
    }

    /// The name of the connection: two daemons with one rack's name push each other out, and both logs say so.
    #[must_use]
    pub fn client_id(&self) -> String {
        format!("farmhand-{}", self.level)
    }
}

/// A name as one level of a topic: what is no ASCII letter, digit, `.`, `_` or `-` becomes `%XX` for each byte, so that
/// two names never meet, none adds a level, and none is a wildcard.
fn level(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    name.bytes().fold(String::new(), |mut level, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => level.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(level, "%{byte:02X}");
            }
        }
        level
    })
}

/// A name as Home Assistant takes it in identifiers. A name that had to be changed gets a part of its hash appended, so
/// that `rack 1` and `rack_1` are two devices.
fn home_assistant_id(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(allowed) {
        return name.to_owned();
    }
    let readable: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    let hash = base16ct::lower::encode_string(&Sha256::digest(name));
    format!("{readable}_{hash:.8}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn topics_are_as_documented() {
        let topics = Topics::new("rack-1");
        assert_eq!(topics.status(), "farmhand/rack-1/status");
        assert_eq!(topics.health(), "farmhand/rack-1/health");
        assert_eq!(topics.phone(&PhoneId::new("R58M1234")), "farmhand/rack-1/phones/R58M1234");
        assert_eq!(topics.discovery("homeassistant"), "homeassistant/device/farmhand_rack-1/config");
        assert_eq!(Topics::birth("homeassistant"), "homeassistant/status");
    }

    #[test]
    fn what_a_topic_cannot_hold_is_escaped() {
        let topics = Topics::new("the rack/#1");
        assert_eq!(topics.status(), "farmhand/the%20rack%2F%231/status");
        assert_eq!(topics.phone(&PhoneId::new("a+b%é")), "farmhand/the%20rack%2F%231/phones/a%2Bb%25%C3%A9");
        assert_eq!(topics.device_id(), "farmhand_the_rack__1_5ddae6fe");
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_level(name in "\\PC{0,20}") {
            let level = level(&name);
            prop_assert!(!level.is_empty());
            prop_assert!(level.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-%".contains(&b)));
        }

        #[test]
        fn two_names_never_meet(a in "\\PC{0,6}", b in "\\PC{0,6}") {
            prop_assert_eq!(a == b, level(&a) == level(&b));
            prop_assert_eq!(a == b, home_assistant_id(&a) == home_assistant_id(&b));
        }
    }
}
