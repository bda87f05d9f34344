//! What a rollout was said to come to is what it is when it begins.

use farmhand::clock::Moment;
use farmhand::rack::request::{Ask, Done, Refusal};
use farmhand::rack::snapshot::{Forecast, RolloutPhoneState};
use farmhand::rollout::plan::{Output, Rollouts, Wanted};

use super::super::rollouts::apk;

/// Begins a rollout, behind a look ahead.
pub(crate) fn begin(core: &mut Rollouts, now: Moment, ask: Ask, version: u64, wanted: Wanted) -> Result<(), String> {
    let before = core.views();
    core.forecast(now, ask, apk(version), wanted.clone());
    let mut foretold = None;
    while let Some(output) = core.poll() {
        match output {
            Output::Answer { result, .. } => foretold = Some(result),
            other => return Err(format!("a look ahead wants something done: {other:?}")),
        }
    }
    if core.views() != before {
        return Err("a look ahead has changed the rollouts".to_owned());
    }
    core.start(now, ask, apk(version), wanted);
    let begun = core.views().into_iter().find(|view| before.iter().all(|known| known.id != view.id));
    match (foretold, begun) {
        (Some(Ok(Done { forecast: Some(forecast), .. })), Some(begun)) => {
            let gets = |wave: &farmhand::rack::snapshot::WaveView| {
                let gets = wave.phones.iter().filter(|phone| phone.state != RolloutPhoneState::Skipped);
                gets.map(|phone| phone.phone.clone()).collect::<Vec<_>>()
            };
            let begun: Vec<_> = begun.waves.iter().map(gets).collect();
            let foretold = shape(&forecast);
            (begun == foretold).then_some(()).ok_or_else(|| format!("foretold {foretold:?}, begun {begun:?}"))
        }
        (Some(Err(Refusal { .. })), None) => Ok(()),
        (foretold, begun) => Err(format!("foretold {foretold:?}, begun {begun:?}")),
    }
}

fn shape(forecast: &Forecast) -> Vec<Vec<farmhand::rack::ids::PhoneId>> {
    forecast.waves.iter().map(|wave| wave.iter().map(|phone| phone.phone.clone()).collect()).collect()
}
