//! What the central server asks of a phone, and what it is told of how the phone fares.

use super::snapshot::Storage;

/// What the server asks for, to be answered with [`super::event::LineCommand::TaskEnded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is to be done.
    pub act: Act,
    /// Who asks.
    pub task: TaskName,
}

/// What a server may have done with a handset, agent or no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Restart Android.
    Restart,
    /// End the agent and start it again.
    RestartAgent,
}

/// What names a task or notice of the server in the answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskName {
    /// The `Id` of the server's message.
    pub message_id: i64,
    /// Its code ([`crate::central::catalogue`]).
    pub task_type: i32,
    /// Its `TaskId`; 0 for a notice, which has none.
    pub task_id: i64,
    /// The account that it names, as it came; empty where it names none.
    pub wechat_id: String,
}

/// How a phone fares; `None` where it was not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// Its battery.
    pub battery: Option<BatteryCondition>,
    /// The partition of apps and their data.
    pub storage: Option<Storage>,
}

/// What the server is told of a battery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatteryCondition {
    /// 0 to 100.
    pub level_percent: u8,
    /// Whether it charges, or is full.
    pub charging: bool,
    /// In degrees Celsius.
    pub temperature_celsius: Option<f32>,
}
