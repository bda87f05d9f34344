//! The package manager: what is installed, install sessions, and Android's own words for what it refuses.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::apk::{Apk, BadApk};
use super::permissions::is_from_its_user;
use super::users::{Users, Whose};

/// The first user id that apps get, and the uid of an app is its own for ever.
const FIRST_APP_ID: u32 = 10_100;

/// The first number of an install session; Android picks them by chance.
const FIRST_SESSION: u64 = 1_000_001;

/// Install sessions that are open at once (Android: 50 of one app).
const SESSIONS_MAX: usize = 50;

/// An installed app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installed {
    /// The base APK.
    pub(super) apk: Apk,
    /// Its splits, by name.
    pub(super) splits: BTreeMap<String, Apk>,
    pub(super) app_id: u32,
    /// Which install of this phone it came by; part of its path.
    pub(super) number: u64,
    /// For whom it is installed, and which permissions each has granted.
    pub(super) users: BTreeMap<u32, BTreeSet<String>>,
}

/// Numbers of apps for each user: the uid of an app is a number of its own within its user's.
const UIDS_OF_USER: u32 = 100_000;

impl Installed {
    /// The uid under which it runs for a user.
    pub(super) fn uid(&self, user: u32) -> u32 {
        user.saturating_mul(UIDS_OF_USER).saturating_add(self.app_id)
    }

    /// Whether anyone of those has it.
    pub(super) fn is_for(&self, whose: Whose) -> bool {
        match whose {
            Whose::All => true,
            Whose::One(user) => self.users.contains_key(&user),
        }
    }

    /// Where the APK lies, in the form of Android 11 and later.
    pub(super) fn code_path(&self) -> String {
        let Self { apk: Apk { package, .. }, number, .. } = self;
        format!("/data/app/~~{number:022}==/{package}-{number:022}==")
    }

    /// The files of all its APKs.
    pub(super) fn apk_paths(&self) -> impl Iterator<Item = String> {
        let folder = self.code_path();
        let splits = self.splits.keys().map(|name| format!("split_{name}.apk"));
        std::iter::once("base.apk".to_owned()).chain(splits).map(move |file| format!("{folder}/{file}"))
    }
}

/// Options of `pm install` that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InstallOptions {
    /// `-r`, which Android 9 and later imply.
    pub(super) replace: bool,
    /// `-d`: a lower version may come, where the app can be debugged.
    pub(super) downgrade: bool,
    /// `-t`: test-only apps may come.
    pub(super) test_only: bool,
    /// `-g`: it has all that it asks for.
    pub(super) grant: bool,
    /// `--user`: who gets it.
    pub(super) whose: Whose,
    /// `--referrer`: an address that the session keeps.
    pub(super) referrer: Option<String>,
    /// `-p`: what is installed stays, and these APKs come to it.
    pub(super) inherit: Option<String>,
}

/// The phone on which something is installed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) sdk: u32,
    /// A userdebug build.
    pub(super) debuggable: bool,
    pub(super) free_bytes: u64,
    pub(super) users: &'a Users,
}

/// All apps that were installed, and the sessions that install more.
#[derive(Clone, Debug, Default)]
pub(super) struct Packages {
    by_name: BTreeMap<String, Installed>,
    installs: u64,
    sessions: BTreeMap<u64, Session>,
    last_session: u64,
}

/// An install that gathers its APKs.
#[derive(Clone, Debug, Default)]
struct Session {
    options: InstallOptions,
    apks: BTreeMap<String, Bytes>,
}

impl Packages {
    pub(super) fn get(&self, package: &str) -> Option<&Installed> {
        self.by_name.get(package)
    }

    pub(super) fn get_mut(&mut self, package: &str) -> Option<&mut Installed> {
        self.by_name.get_mut(package)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Installed> {
        self.by_name.values()
    }

    /// Installs the APKs of one app.
    ///
    /// # Errors
    /// What stands between the brackets of Android's `Failure [...]`.
    pub(super) fn install(
        &mut self,
        contents: &[Bytes],
        place: Place<'_>,
        options: &InstallOptions,
    ) -> Result<&Installed, String> {
        self.installs += 1;
        let number = self.installs;
        let staged = format!("/data/app/vmdl{number}.tmp/base.apk");
        if contents.iter().map(|content| content.len() as u64).sum::<u64>() > place.free_bytes {
            return Err("INSTALL_FAILED_INSUFFICIENT_STORAGE".to_owned());
        }
        let apks = contents.iter().map(|content| read(content, &staged)).collect::<Result<Vec<_>, _>>()?;
        let (base, splits) = self.parts(apks, options)?;
        if base.min_sdk > place.sdk {
            let (min_sdk, sdk) = (base.min_sdk, place.sdk);
            return Err(format!(
                "INSTALL_FAILED_OLDER_SDK: {staged}: Requires newer sdk version #{min_sdk} (current version is #{sdk})"
            ));
        }
        if base.test_only && !options.test_only {
            return Err(
                "INSTALL_FAILED_TEST_ONLY: Failed to install test-only apk. Did you forget to add -t?".to_owned()
            );
        }
        let installed = self.by_name.get(&base.package);
        if let Some(installed) = installed {
            check_replacement(installed, &base, &place, options)?;
        }
        let app_id = installed.map_or(FIRST_APP_ID + self.by_name.len() as u32, |installed| installed.app_id);
        let mut users = installed.map(|installed| installed.users.clone()).unwrap_or_default();
        for user in place.users.of(options.whose) {
            let granted = users.entry(user).or_default();
            if options.grant {
                granted.extend(base.permissions.iter().filter(|permission| is_from_its_user(permission)).cloned());
            }
        }
        if users.is_empty() {
            return Err("INSTALL_FAILED_INTERNAL_ERROR: its user is gone".to_owned());
        }
        // What a new version asks for no more it has no more.
        users.values_mut().for_each(|granted| granted.retain(|permission| base.permissions.contains(permission)));
        let package = base.package.clone();
        let installed = Installed { apk: base, splits, app_id, number, users };
        Ok(self.by_name.entry(package).insert_entry(installed).into_mut())
    }

    /// The base and the splits, which must fit each other.
    fn parts(&self, apks: Vec<Apk>, options: &InstallOptions) -> Result<(Apk, BTreeMap<String, Apk>), String> {
        let invalid = |why: String| format!("INSTALL_FAILED_INVALID_APK: {why}");
        let inherited = options.inherit.as_ref().map(|package| {
            self.by_name.get(package).ok_or_else(|| invalid(format!("Missing existing base package for {package}")))
        });
        let inherited = inherited.transpose()?;
        let mut base = None;
        let mut splits = inherited.map(|installed| installed.splits.clone()).unwrap_or_default();
        let mut seen = BTreeSet::new();
        for apk in apks {
            let name = apk.split.clone();
            if !seen.insert(name.clone()) {
                let name = name.as_deref().unwrap_or("null");
                return Err(invalid(format!("Split {name} was defined multiple times")));
            }
            match name {
                None => base = Some(apk),
                Some(name) => drop(splits.insert(name, apk)),
            }
        }
        let base = base.or_else(|| inherited.map(|installed| installed.apk.clone()));
        let base = base.ok_or_else(|| invalid("Full install must include a base package".to_owned()))?;
        for (name, split) in &splits {
            let (code, wanted) = (split.version_code, base.version_code);
            if split.package != base.package {
                let (package, wanted) = (&split.package, &base.package);
                return Err(invalid(format!("split_{name}.apk package {package} inconsistent with {wanted}")));
            }
            if code != wanted {
                return Err(invalid(format!("split_{name}.apk version code {code} inconsistent with {wanted}")));
            }
            if split.signers != base.signers {
                return Err(invalid(format!("split_{name}.apk signatures are inconsistent")));
            }
        }
        Ok((base, splits))
    }

    /// Takes an app from one or all; with its last user it is gone.
    ///
    /// # Errors
    /// What stands between the brackets of Android's `Failure [...]`.
    pub(super) fn uninstall(&mut self, package: &str, whose: Whose) -> Result<(), String> {
        let Whose::One(user) = whose else {
            return match self.by_name.remove(package) {
                Some(_) => Ok(()),
                None => Err("DELETE_FAILED_INTERNAL_ERROR".to_owned()),
            };
        };
        let installed = self.by_name.get_mut(package);
        match installed.and_then(|installed| installed.users.remove(&user)) {
            Some(_) => {
                self.by_name.retain(|_, installed| !installed.users.is_empty());
                Ok(())
            }
            None => Err(format!("not installed for {user}")),
        }
    }

    /// A user is gone, and with it what only it had.
    pub(super) fn forget_user(&mut self, user: u32) {
        self.by_name.values_mut().for_each(|installed| drop(installed.users.remove(&user)));
        self.by_name.retain(|_, installed| !installed.users.is_empty());
    }

    /// Opens an install session; `None` if there are too many.
    pub(super) fn create_session(&mut self, options: InstallOptions) -> Option<u64> {
        if self.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        self.last_session = self.last_session.max(FIRST_SESSION - 1) + 1;
        self.sessions.insert(self.last_session, Session { options, apks: BTreeMap::new() });
        Some(self.last_session)
    }

    pub(super) fn has_session(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Adds an APK to a session, under a name.
    pub(super) fn write_session(&mut self, session: u64, name: &str, apk: Bytes) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.apks.insert(name.to_owned(), apk);
        }
    }

    /// Ends a session and gives what it gathered.
    pub(super) fn take_session(&mut self, session: u64) -> Option<(Vec<Bytes>, InstallOptions)> {
        let Session { options, apks } = self.sessions.remove(&session)?;
        Some((apks.into_values().collect(), options))
    }

    /// The numbers of the sessions that are open, with their referrers.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (u64, Option<&str>)> + '_ {
        self.sessions.iter().map(|(number, session)| (*number, session.options.referrer.as_deref()))
    }

    /// Bytes that open sessions hold.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.sessions.values().flat_map(|session| session.apks.values()).map(|apk| apk.len() as u64).sum()
    }
}

fn read(content: &Bytes, staged: &str) -> Result<Apk, String> {
    Apk::read(content).map_err(|bad| match bad {
        BadApk::NotApk => {
            format!("INSTALL_PARSE_FAILED_NOT_APK: Failed to parse {staged}: Failed to load asset path {staged}")
        }
        BadApk::BadManifest => format!("INSTALL_PARSE_FAILED_MANIFEST_MALFORMED: Failed parse of {staged}"),
        BadApk::NoCertificates => format!(
            "INSTALL_PARSE_FAILED_NO_CERTIFICATES: Failed to collect certificates from {staged}: \
             Attempt to get length of null array"
        ),
    })
}

/// Android 9: `pm install` replaces by default.
const SDK_WITH_IMPLIED_REPLACE: u32 = 28;

fn check_replacement(
    installed: &Installed,
    apk: &Apk,
    place: &Place<'_>,
    options: &InstallOptions,
) -> Result<(), String> {
    let package = &apk.package;
    if place.sdk < SDK_WITH_IMPLIED_REPLACE && !options.replace && options.inherit.is_none() {
        return Err(format!(
            "INSTALL_FAILED_ALREADY_EXISTS: Attempt to re-install {package} without first uninstalling."
        ));
    }
    if installed.apk.signers != apk.signers {
        return Err(format!(
            "INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package {package} signatures do not match newer version; ignoring!"
        ));
    }
    let (new, current) = (apk.version_code, installed.apk.version_code);
    // On a phone with a user's build `-d` helps only apps that can be debugged.
    let may_go_down = options.downgrade && (installed.apk.debuggable || place.debuggable);
    if new < current && !may_go_down {
        return Err(format!(
            "INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code {new} is older than current {current}"
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "packages_tests.rs"]
mod tests;
