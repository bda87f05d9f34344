//! The users of a phone, as Android's UserManager keeps them: 0 is its owner, all others were made.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The user that a phone has from the start, and that is in its foreground.
pub(super) const OWNER: u32 = 0;

/// Users of a phone at most: `config_multiuserMaximumUsers` of Google's phones.
const USERS_MAX: usize = 4;

/// The number of the first user that is made.
const FIRST_ID: u32 = 10;

/// `UserInfo.flags`: primary, admin, initialized, full, system.
const OWNER_FLAGS: u32 = 0xc13;
/// Main, which the owner is from Android 14 on.
const MAIN_FLAG: u32 = 0x4000;
const SDK_WITH_MAIN: u32 = 34;
/// Full, and not started yet.
const FULL_FLAGS: u32 = 0x400;
/// A profile for work, and not started yet.
const PROFILE_FLAGS: u32 = 0x1020;

/// All users of a phone.
#[derive(Clone, Debug)]
pub(super) struct Users {
    by_id: BTreeMap<u32, User>,
    /// Numbers are not given again.
    last_id: u32,
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    flags: u32,
}

/// What a new user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody beside the owner.
    Full,
    /// The owner's profile for work.
    Profile,
}

/// What stands behind `--user`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Whose {
    /// `all`
    #[default]
    All,
    /// A number, or `current` or `cur` for the one in the foreground.
    One(u32),
}

impl Whose {
    /// Reads it; `None` is what Android calls a bad user number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "all" => Some(Self::All),
            "current" | "cur" => Some(Self::One(OWNER)),
            number => number.parse().ok().map(Self::One),
        }
    }
}

impl Default for Users {
    fn default() -> Self {
        let owner = User { name: "Owner".to_owned(), flags: OWNER_FLAGS };
        Self { by_id: BTreeMap::from([(OWNER, owner)]), last_id: FIRST_ID - 1 }
    }
}

impl Users {
    pub(super) fn has(&self, user: u32) -> bool {
        self.by_id.contains_key(&user)
    }

    /// Those that are meant.
    pub(super) fn of(&self, whose: Whose) -> impl Iterator<Item = u32> {
        self.by_id.keys().copied().filter(move |&user| whose == Whose::All || whose == Whose::One(user))
    }

    /// Makes a user; `None` if there are too many.
    pub(super) fn create(&mut self, name: &str, kind: Kind) -> Option<u32> {
        if self.by_id.len() >= USERS_MAX {
            return None;
        }
        self.last_id += 1;
        let flags = match kind {
            Kind::Full => FULL_FLAGS,
            Kind::Profile => PROFILE_FLAGS,
        };
        self.by_id.insert(self.last_id, User { name: name.to_owned(), flags });
        Some(self.last_id)
    }

    /// Removes a user; false if there is none of this number, or it is the owner.
    pub(super) fn remove(&mut self, user: u32) -> bool {
        user != OWNER && self.by_id.remove(&user).is_some()
    }

    /// `pm list users`
    pub(super) fn list(&self, sdk: u32) -> String {
        let mut text = "Users:\n".to_owned();
        for (id, User { name, flags }) in &self.by_id {
            let running = if *id == OWNER { " running" } else { "" };
            let main = if *id == OWNER && sdk >= SDK_WITH_MAIN { MAIN_FLAG } else { 0 };
            let flags = flags | main;
            // Writing to a String can't fail.
            let _ = writeln!(text, "\tUserInfo{{{id}:{name}:{flags:x}}}{running}");
        }
        text
    }

    /// `pm get-max-users`
    pub(super) fn max() -> String {
        format!("Maximum supported users: {USERS_MAX}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_and_go_and_no_number_comes_twice() {
        let mut users = Users::default();
        assert_eq!(users.create("Guest", Kind::Full), Some(10));
        assert_eq!(users.create("Work", Kind::Profile), Some(11));
        assert_eq!(
            users.list(34),
            "Users:\n\tUserInfo{0:Owner:4c13} running\n\tUserInfo{10:Guest:400}\n\tUserInfo{11:Work:1020}\n"
        );
        assert!(users.list(33).starts_with("Users:\n\tUserInfo{0:Owner:c13} running\n"));
        assert!(users.remove(10) && !users.remove(10) && !users.remove(OWNER));
        assert_eq!((users.create("a", Kind::Full), users.create("b", Kind::Full)), (Some(12), Some(13)));
        assert_eq!(users.create("c", Kind::Full), None, "there are four");
        assert_eq!(users.of(Whose::All).collect::<Vec<_>>(), [0, 11, 12, 13]);
        assert_eq!(users.of(Whose::One(10)).count(), 0);
    }

    #[test]
    fn who_is_meant() {
        assert_eq!(Whose::parse("all"), Some(Whose::All));
        assert_eq!(["0", "cur", "current"].map(Whose::parse), [Some(Whose::One(0)); 3]);
        assert_eq!(["", "-1", "ten"].map(Whose::parse), [None; 3]);
    }
}
