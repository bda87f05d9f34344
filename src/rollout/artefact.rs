//! APKs as the actor has them: brought here, checked on a thread for such work, and the one that phones without the agent get.

use tokio::sync::oneshot;

use super::plan::{KeptAgent, Standing};
use crate::agent::apk::{self, Expectation};
use crate::agent::fetch::Fetcher;
use crate::agent::store::ApkStore;
use crate::agent::{ApkSource, CheckedApk, StoredApk};
use crate::config;
use crate::phone::WantedAgent;
use crate::rack::request::Refusal;
use crate::store::promise::Promise;

/// The agent of a rack.
#[derive(Clone, Debug)]
pub struct RackAgent {
    /// `[agent]`
    pub configured: config::Agent,
    /// Its APK, once checked: without it nothing is installed on phones without the agent but by a rollout.
    pub checked: Option<WantedAgent>,
}

impl RackAgent {
    pub(super) fn kept(&self) -> KeptAgent {
        KeptAgent {
            package: self.configured.package.clone(),
            apk: self.configured.apk.clone(),
            sha256: self.checked.as_ref().map(|checked| checked.sha256.clone()),
        }
    }

    /// What phones without the agent get by the promises of the store: the version that last finished its rollout, or `[agent] apk`.
    pub async fn wanted(&self, promises: &[Promise], apks: &ApkStore) -> Option<WantedAgent> {
        let checked = self.checked.clone()?;
        let Some(standing) = Standing::of(promises, &self.kept()) else { return Some(checked) };
        let result = standing_apk(apks, &standing, self.configured.signers.clone()).await;
        Some(self.standing_or_configured(&standing, result).unwrap_or(checked))
    }

    /// What phones without the agent get where a version stands whose APK was looked at.
    pub(super) fn standing_or_configured(
        &self,
        standing: &Standing,
        result: Result<CheckedApk, Unfit>,
    ) -> Option<WantedAgent> {
        match result {
            Ok(apk) => {
                tracing::info!(rollout = %standing.rollout, version = %apk.version_code, "phones without the agent get this version");
                let CheckedApk { path, package, version_code, sha256, .. } = apk;
                Some(WantedAgent { apk: path, package, version_code, sha256 })
            }
            Err(unfit) => {
                let (rollout, why) = (standing.rollout, unfit.refusal.what);
                tracing::warn!(%rollout, why, "phones without the agent get [agent] apk: that of the last rollout can't be had");
                self.checked.clone()
            }
        }
    }
}

/// Why an APK cannot be had, and the file that was fetched in vain.
pub(super) struct Unfit {
    pub(super) refusal: Refusal,
    pub(super) kept: Option<std::path::PathBuf>,
}

impl Unfit {
    pub(super) fn unavailable(what: String) -> Self {
        Self { refusal: Refusal { code: "apk.unavailable".into(), what, help: None }, kept: None }
    }
}

/// The APK of the version that stands, from the store only, checked by what is wanted of it today.
pub(super) async fn standing_apk(
    apks: &ApkStore,
    standing: &Standing,
    signers: Vec<String>,
) -> Result<CheckedApk, Unfit> {
    let Some(stored) = apks.find(&standing.sha256) else {
        return Err(Unfit::unavailable(format!(
            "the APK of {} is not in the state directory any more",
            standing.rollout
        )));
    };
    let expected = Expectation {
        package: standing.package.clone(),
        signers,
        version_code: Some(standing.version_code),
        version_name: None,
        installed: None,
    };
    let shown = format!("the APK of {}", standing.rollout);
    check(stored, &shown, expected).await
}

/// Brings an APK here and checks it.
pub(super) async fn obtain(
    fetcher: &Fetcher,
    source: &ApkSource,
    sha256: Option<&str>,
    expected: Expectation,
) -> Result<CheckedApk, Unfit> {
    let stored = fetcher.fetch(source, sha256).await;
    let stored = stored.map_err(|error| Unfit::unavailable(error.to_string()))?;
    check(stored, &source.to_string(), expected).await
}

/// Checks an APK on a thread for such work. `shown` is the name that people know it by.
async fn check(stored: StoredApk, shown: &str, expected: Expectation) -> Result<CheckedApk, Unfit> {
    let path = stored.path.clone();
    let (done, checked) = oneshot::channel();
    let check = move || drop(done.send(apk::check_stored(&stored, &expected)));
    std::thread::Builder::new()
        .name("apk-check".into())
        .spawn(check)
        .map_err(|error| Unfit::unavailable(format!("no thread to check the APK: {error}")))?;
    match checked.await {
        Ok(Ok(apk)) => Ok(apk),
        Ok(Err(refused)) => {
            use miette::Diagnostic;
            let code = refused.code().map(|code| code.to_string()).unwrap_or_default();
            // People know the APK by where it came from, not by its name in the state directory.
            let what = refused.to_string().replace(&path.display().to_string(), shown);
            let help = refused.help().map(|help| help.to_string());
            Err(Unfit { refusal: Refusal { code, what, help }, kept: Some(path) })
        }
        Err(_) => Err(Unfit::unavailable(format!("the check of {shown} ended without a result"))),
    }
}
