//! Fetches and checks beside the actor: each ends with a result, also one that breaks.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// Jobs under way, each with the key of what it is for. All of them end with this.
#[derive(Debug)]
pub(super) struct Jobs<K, T> {
    running: JoinSet<T>,
    keys: HashMap<Id, K>,
}

impl<K, T: Send + 'static> Jobs<K, T> {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), keys: HashMap::new() }
    }

    pub(super) fn start(&mut self, key: K, job: impl Future<Output = T> + Send + 'static) {
        let handle = self.running.spawn(job);
        self.keys.insert(handle.id(), key);
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next one that ends, with its result, or with how it broke, as a sentence. Waits for ever while there is none; may be
    /// dropped and called again.
    pub(super) async fn ended(&mut self) -> (K, Result<T, String>) {
        loop {
            let (id, result) = match self.running.join_next_with_id().await {
                Some(Ok((id, result))) => (id, Ok(result)),
                Some(Err(broken)) => (broken.id(), Err(format!("the work on it broke: {broken}"))),
                None => std::future::pending().await,
            };
            if let Some(key) = self.keys.remove(&id) {
                return (key, result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_ends_with_its_key_and_a_reason() {
        let mut jobs = Jobs::new();
        jobs.start("good", async { 7 });
        assert_eq!(jobs.ended().await, ("good", Ok(7)));
        jobs.start("bad", async { panic!("at the disco") });
        let (key, result) = jobs.ended().await;
        let why = result.unwrap_err();
        assert_eq!(key, "bad");
        assert!(why.starts_with("the work on it broke: ") && why.contains("at the disco"), "{why}");
    }
}
