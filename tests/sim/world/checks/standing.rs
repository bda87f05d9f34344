//! Phones without the agent get the version that last finished its rollout, and never one in trial.

use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::phone::WantedAgent;

use super::super::disk::Disk;

/// What has finished is on the disk before the model hears of it, which waits for a slow store once more.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// A phone without the agent is given one.
pub(crate) fn given(
    agent: &WantedAgent,
    configured: Option<&WantedAgent>,
    disk: &Disk,
    now: Moment,
) -> Result<(), String> {
    let configured = configured.ok_or("an agent is installed, and none is configured")?;
    let finished = disk.finished.last().and_then(|number| disk.rollouts.get(number));
    let expected = finished.map_or(configured.version_code, |record| record.version_code);
    let version = agent.version_code;
    let has_stood = version == configured.version_code || disk.stood.contains(&version);
    if version == expected || has_stood && now < disk.finished_at + HEARD_WITHIN {
        return Ok(());
    }
    let by = finished.map_or_else(|| "[agent] apk".to_owned(), |record| record.number.to_string());
    Err(format!(
        "a phone without the agent gets version {version}, and that of {by}, which finished last, is {expected}"
    ))
}
