//! A phone is a person's while a tool of his is at work on it: rollouts and recovery wait for its end.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::wire::Work;
use crate::adb::online::OnlinePhones;
use crate::adb::services::shell::ShellMode;
use crate::clock::UnixMillis;
use crate::rack::Event;
use crate::rack::ids::PhoneId;
use crate::rack::lease::{Lease, LeaseEvent, Tool};

/// A command that is over sooner takes no lease: there may be hundreds a minute, and nobody waits for one of them.
const SHORT: Duration = Duration::from_secs(2);
/// How long a lease stands that nobody renews: longer than the model is ever busy.
const LASTS: Duration = Duration::from_secs(120);
/// Between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(40);

/// Who takes which phone for what.
pub(super) struct Taking {
    pub(super) phone: PhoneId,
    pub(super) who: String,
    pub(super) work: Work,
}

/// Takes a lease for work on a phone and keeps it until this future is dropped. Work that needs none is waited for as well.
pub(super) async fn keep(
    Taking { phone, who, work }: Taking,
    online: &OnlinePhones,
    events: mpsc::Sender<Event>,
) -> Infallible {
    let Some((tool, after)) = tool_of(&work) else { return std::future::pending().await };
    sleep(after).await;
    let id = online.number_work();
    let _ends = EndsLease { events: events.clone(), phone: phone.clone(), id };
    let since = UnixMillis::from(SystemTime::now());
    loop {
        let until = UnixMillis::from(SystemTime::now()).plus(LASTS);
        let lease =
            Lease { phone: phone.clone(), id, tool, who: who.clone(), reason: work.name().to_owned(), since, until };
        // Without a model there is nobody who would act on the phone either.
        let _ = events.send(Event::Lease { event: LeaseEvent::Taken(lease), ask: None }).await;
        sleep(RENEW_EVERY).await;
    }
}

/// What `work` takes a phone for, once it has lasted for so long.
fn tool_of(work: &Work) -> Option<(Tool, Duration)> {
    match work {
        Work::Shell { mode: ShellMode::Terminal { .. }, .. } => Some((Tool::Shell, Duration::ZERO)),
        Work::Shell { command, .. } if command.split_whitespace().next() == Some("logcat") => {
            Some((Tool::Logcat, SHORT))
        }
        Work::Shell { .. } => Some((Tool::Shell, SHORT)),
        _ => None,
    }
}

/// Ends the lease when the tool ends, however it does.
struct EndsLease {
    events: mpsc::Sender<Event>,
    phone: PhoneId,
    id: u64,
}

impl Drop for EndsLease {
    fn drop(&mut self) {
        let event = LeaseEvent::Ended { phone: self.phone.clone(), id: self.id, why: "the tool has ended".to_owned() };
        // A model that is too busy to be told ends it by its time.
        let _ = self.events.try_send(Event::Lease { event, ask: None });
    }
}
