//! Waiting for something to be seen, with a deadline, and saying what was seen instead.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What was expected, and what was seen last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}; seen last: {seen}")]
pub struct Miss {
    /// What should have been seen, and within which time.
    pub expected: String,
    /// What was seen last.
    pub seen: String,
}

/// Between two looks: short against every deadline here, long enough to leave the processor to the daemon.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Looks again and again until `look` gives a value, at most for `limit`. What `look` gives as its error is what it saw.
///
/// # Errors
///
/// `limit` has passed.
pub async fn until<T>(
    limit: Duration,
    expected: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Miss> {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                return Err(Miss { expected: format!("{expected} within {limit:?}"), seen });
            }
            Err(_) => sleep(LOOK_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_miss_tells_what_was_seen_last() {
        let mut looks = 0;
        let miss = until(Duration::from_secs(1), "a moon", async || -> Result<(), String> {
            looks += 1;
            Err(format!("cloud {looks}"))
        })
        .await
        .unwrap_err();
        assert_eq!(miss.expected, "a moon within 1s");
        assert_eq!(miss.seen, format!("cloud {looks}"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_ends_the_wait() {
        let mut looks = 0;
        let seen = until(Duration::from_secs(60), "the third look", async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks.to_string()) }
        });
        assert_eq!(seen.await, Ok(3));
    }
}
