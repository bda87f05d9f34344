//! What the owner wants done with the central server's upgrades.

/// Who carries the installs of a rollout out, where the APK has an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The rack, over ADB.
    #[default]
    Adb,
    /// The agent on each phone, which its line tells.
    Notice,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Adb, Self::Notice];

    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adb => "adb",
            Self::Notice => "notice",
        }
    }
}

/// What becomes of the central server's `UpgradeDeviceAppNotice`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FromCentral {
    /// The rack makes a rollout of it, which waits for the owner's approval at least once.
    #[default]
    Ask,
    /// The rack makes a rollout of it, which needs nobody's approval.
    Auto,
    /// Nothing: the central server is told so.
    Refuse,
    /// It goes to the agent on the phone, which sees to it by itself.
    Forward,
}

impl FromCentral {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ask, Self::Auto, Self::Refuse, Self::Forward];

    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Auto => "auto",
            Self::Refuse => "refuse",
            Self::Forward => "forward",
        }
    }
}
