//! Carries a look at what the owner wants to be so on a phone over its connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use super::ActorContext;
use crate::adb::driver::Adb;
use crate::config::Upkeep;
use crate::phone::Event;
use crate::phone::upkeep::Report;
use crate::phone::upkeep::pass::Pass;
use crate::rack::ids::PackageName;

/// A service that has hung does not answer at all, and the start of an app has 2 s of its own.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Of a whole look: a phone that is so slow is looked at again the next time.
const LOOK_MAX: Duration = Duration::from_secs(110);

pub(super) async fn look_after(adb: Adb, context: Arc<ActorContext>) -> Event {
    Event::Upkept(Box::new(match &context.package {
        Some(agent) => look(&adb, &context.upkeep, agent).await,
        None => Report::default(),
    }))
}

/// Looks at everything, sets what is otherwise, and looks again, a question at a time: nobody waits for it, and the phone has other
/// work. It ends within two minutes.
pub async fn look(adb: &Adb, wanted: &Upkeep, agent: &PackageName) -> Report {
    let mut pass = Pass::new(wanted, agent);
    let until = Instant::now() + LOOK_MAX;
    while let Some(line) = pass.next().map(str::to_owned) {
        if Instant::now() >= until {
            pass.give_up(&format!("the phone took more than {} s for all of it", LOOK_MAX.as_secs()));
            break;
        }
        let answer = ask(adb, &line).await;
        debug!(line, ?answer, "looked after");
        pass.answer(answer);
    }
    pass.report()
}

/// What the phone's shell said, errors behind the rest.
pub(super) async fn ask(adb: &Adb, line: &str) -> Result<String, String> {
    match timeout(ANSWER_MAX, adb.shell(line)).await {
        Ok(Ok(output)) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Ok(format!("{}\n{}", output.text(), errors.trim()).trim().to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", ANSWER_MAX.as_secs())),
    }
}
