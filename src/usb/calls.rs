//! libusb's calls that block, each on a thread of its own that ends with the call.
//!
//! A handset that hangs holds its call for as long as the kernel's own control transfers take, some seconds each. Such calls have no
//! place among the threads that read and write files for the rest of the daemon, and an idle rack keeps no thread for them.
//!
//! Invariant: at most [`CALLS_MAX`] such threads live at once; who finds no room waits, and no longer than its deadline
//! (`a_rack_that_hangs_in_open_keeps_nobody_from_the_disk`).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time;

use super::claim::OpenError;
use crate::adb::failure::OpenFault;
use crate::rack::ids::PortPath;

/// The most calls at once: a port has one at a time, so that these are 64 phones that all hang.
const CALLS_MAX: usize = 64;

/// What a call needs of its stack: libusb keeps its buffers on the heap.
const STACK_BYTES: usize = 256 << 10;

/// The threads for calls that block.
#[derive(Debug)]
pub(super) struct Calls {
    room: Arc<Semaphore>,
    thread_name: &'static str,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(CALLS_MAX)), thread_name: "usb-call" }
    }

    /// Runs `call` where it may block, and gives up on it after `deadline`: then it goes on by itself, and what comes of it is dropped,
    /// and so closed.
    ///
    /// # Errors
    /// What the call said, or that it did not end in time, or found no thread: `what` of the handset at `path` did not.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        path: &PortPath,
        what: &str,
        deadline: Duration,
        call: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, OpenError> {
        let failed = |why: String| OpenError {
            fault: OpenFault::Protocol,
            why: format!("{what} of the handset at {path} {why}"),
        };
        let seconds = deadline.as_secs();
        let until = time::Instant::now() + deadline;
        let room = time::timeout_at(until, Arc::clone(&self.room).acquire_owned()).await;
        let Ok(Ok(room)) = room else {
            return Err(failed(format!("found no thread within {seconds} s: {CALLS_MAX} others have not ended")));
        };
        let (done, ended) = oneshot::channel();
        let work = move || {
            // Nobody may be waiting any more.
            let _ = done.send(call());
            drop(room);
        };
        let thread = thread::Builder::new().name(self.thread_name.to_owned()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|error| failed(format!("found no thread: {error}")))?;
        match time::timeout_at(until, ended).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(failed("was broken off".to_owned())),
            Err(_) => Err(failed(format!("has not ended within {seconds} s"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);

    fn path() -> PortPath {
        "1-2".parse().unwrap()
    }

    /// The threads of this process with that name.
    fn threads(wanted: &str) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == wanted).count()
    }

    fn until_threads(name: &str, wanted: usize) {
        let until = Instant::now() + LONG;
        while threads(name) != wanted {
            assert!(Instant::now() < until, "{} threads for {wanted} calls", threads(name));
            thread::yield_now();
        }
    }

    #[test]
    fn a_rack_that_hangs_in_open_keeps_nobody_from_the_disk() {
        // One thread for files: a call on it would keep the file from being read.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        let (let_go, hung) = (0..CALLS_MAX).map(|_| mpsc::channel::<()>()).unzip::<_, _, Vec<_>, Vec<_>>();
        // Other tests of this process have calls, too.
        let name = "usb-call-hung";
        runtime.block_on(async {
            let calls = Calls { thread_name: name, ..Calls::new() };
            for hangs in hung {
                let call = move || {
                    let _ = hangs.recv();
                    Ok(())
                };
                let error = calls.run(&path(), "opening", Duration::ZERO, call).await.unwrap_err();
                assert_eq!(error.fault, OpenFault::Protocol);
                assert_eq!(error.why, "opening of the handset at 1-2 has not ended within 0 s");
            }
            // A thread has its name once it runs.
            until_threads(name, CALLS_MAX);
            let read = tokio::task::spawn_blocking(|| std::fs::read("/proc/self/comm")).await.unwrap();
            assert!(!read.unwrap().is_empty());
            let error = calls.run(&path(), "opening", SOON, || Ok(())).await.unwrap_err();
            assert_eq!(error.why, "opening of the handset at 1-2 found no thread within 0 s: 64 others have not ended");
            drop(let_go);
            assert_eq!(calls.run(&path(), "opening", LONG, || Ok(7)).await, Ok(7), "there is room again");
        });
        until_threads(name, 0);
    }

    #[tokio::test]
    async fn what_comes_too_late_is_closed() {
        let calls = Calls::new();
        let (let_go, hangs) = mpsc::channel::<()>();
        let claimed = Arc::new(());
        let call = {
            let claimed = Arc::clone(&claimed);
            move || {
                let _ = hangs.recv();
                Ok(claimed)
            }
        };
        calls.run(&path(), "opening", Duration::ZERO, call).await.unwrap_err();
        assert_eq!(Arc::strong_count(&claimed), 2);
        drop(let_go);
        let until = Instant::now() + LONG;
        while Arc::strong_count(&claimed) > 1 {
            assert!(Instant::now() < until, "the claim is never given back");
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_call_that_panics_is_a_fault_and_frees_its_thread() {
        let calls = Calls::new();
        let error = calls.run::<()>(&path(), "the reset", LONG, || panic!("libusb")).await.unwrap_err();
        assert_eq!(error.why, "the reset of the handset at 1-2 was broken off");
        let room = Arc::clone(&calls.room);
        let all = time::timeout(LONG, room.acquire_many(u32::try_from(CALLS_MAX).unwrap())).await.unwrap();
        assert!(all.is_ok());
    }
}
