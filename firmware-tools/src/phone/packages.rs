//! The package manager: what is installed, and Android's own words for what it refuses.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::apk::{Apk, BadApk};

/// The first user id that apps get, and the uid of an app is its own for ever.
const FIRST_APP_ID: u32 = 10_100;

/// An installed app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) apk: Apk,
    pub(super) app_id: u32,
    /// Which install of this phone it came by; part of its path.
    pub(super) number: u64,
}

impl Installed {
    /// Where the APK lies, in the form of Android 11 and later.
    pub(super) fn code_path(&self) -> String {
        let Self { apk: Apk { package, .. }, number, .. } = self;
        format!("/data/app/~~{number:022}==/{package}-{number:022}==")
    }
}

/// Options of `pm install` that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InstallOptions {
    /// `-r`, which Android 9 and later imply.
    pub(super) replace: bool,
}

/// All apps that were installed.
#[derive(Clone, Debug, Default)]
pub(super) struct Packages {
    by_name: BTreeMap<String, Installed>,
    sessions: u64,
}

impl Packages {
    pub(super) fn get(&self, package: &str) -> Option<&Installed> {
        self.by_name.get(package)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Installed> {
        self.by_name.values()
    }

    /// Installs an APK.
    ///
    /// # Errors
    /// What stands between the brackets of Android's `Failure [...]`.
    pub(super) fn install(
        &mut self,
        content: &Bytes,
        sdk: u32,
        free_bytes: u64,
        options: InstallOptions,
    ) -> Result<&Installed, String> {
        self.sessions += 1;
        let number = self.sessions;
        let staged = format!("/data/app/vmdl{number}.tmp/base.apk");
        if content.len() as u64 > free_bytes {
            return Err("INSTALL_FAILED_INSUFFICIENT_STORAGE".to_owned());
        }
        let apk = Apk::read(content).map_err(|bad| match bad {
            BadApk::NotApk => {
                format!("INSTALL_PARSE_FAILED_NOT_APK: Failed to parse {staged}: Failed to load asset path {staged}")
            }
            BadApk::BadManifest => format!("INSTALL_PARSE_FAILED_MANIFEST_MALFORMED: Failed parse of {staged}"),
            BadApk::NoCertificates => format!(
                "INSTALL_PARSE_FAILED_NO_CERTIFICATES: Failed to collect certificates from {staged}: \
                 Attempt to get length of null array"
            ),
        })?;
        if apk.min_sdk > sdk {
            let min_sdk = apk.min_sdk;
            return Err(format!(
                "INSTALL_FAILED_OLDER_SDK: {staged}: Requires newer sdk version #{min_sdk} (current version is #{sdk})"
            ));
        }
        let installed = self.by_name.get(&apk.package);
        if let Some(installed) = installed {
            check_replacement(installed, &apk, sdk, options)?;
        }
        let app_id = installed.map_or(FIRST_APP_ID + self.by_name.len() as u32, |installed| installed.app_id);
        let package = apk.package.clone();
        let installed = Installed { apk, app_id, number };
        Ok(self.by_name.entry(package).insert_entry(installed).into_mut())
    }

    /// Removes an app.
    ///
    /// # Errors
    /// What stands between the brackets of Android's `Failure [...]`.
    pub(super) fn uninstall(&mut self, package: &str) -> Result<(), String> {
        match self.by_name.remove(package) {
            Some(_) => Ok(()),
            None => Err("DELETE_FAILED_INTERNAL_ERROR".to_owned()),
        }
    }
}

/// Android 9: `pm install` replaces by default.
const SDK_WITH_IMPLIED_REPLACE: u32 = 28;

fn check_replacement(installed: &Installed, apk: &Apk, sdk: u32, options: InstallOptions) -> Result<(), String> {
    let package = &apk.package;
    if sdk < SDK_WITH_IMPLIED_REPLACE && !options.replace {
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
    if new < current {
        // `-d` would not help: these APKs are not debuggable.
        return Err(format!(
            "INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code {new} is older than current {current}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apk(name: &str) -> Bytes {
        Bytes::from(std::fs::read(format!("{}/apks/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap())
    }

    fn install(packages: &mut Packages, name: &str) -> Result<u64, String> {
        packages
            .install(&apk(name), 34, u64::MAX, InstallOptions::default())
            .map(|installed| installed.apk.version_code)
    }

    #[test]
    fn an_upgrade_goes_and_a_downgrade_does_not() {
        let mut packages = Packages::default();
        assert_eq!(install(&mut packages, "agent-1.apk"), Ok(1));
        let app_id = packages.get("org.example.agent").unwrap().app_id;
        assert_eq!(install(&mut packages, "agent-3.apk"), Ok(3));
        assert_eq!(install(&mut packages, "agent-3.apk"), Ok(3));
        assert_eq!(packages.get("org.example.agent").unwrap().app_id, app_id);
        assert_eq!(
            install(&mut packages, "agent-2.apk").unwrap_err(),
            "INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 2 is older than current 3"
        );
        packages.uninstall("org.example.agent").unwrap();
        assert_eq!(install(&mut packages, "agent-2.apk"), Ok(2));
    }

    #[test]
    fn another_key_no_key_and_half_an_apk_are_refused() {
        let mut packages = Packages::default();
        install(&mut packages, "agent-1.apk").unwrap();
        install(&mut packages, "other-package-1.apk").unwrap();
        let why = |packages: &mut Packages, name| install(packages, name).unwrap_err();
        assert_eq!(
            why(&mut packages, "agent-2-other-key.apk"),
            "INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package org.example.agent signatures do not match newer version; \
             ignoring!"
        );
        assert!(why(&mut packages, "agent-2-unsigned.apk").starts_with("INSTALL_PARSE_FAILED_NO_CERTIFICATES: "));
        assert!(why(&mut packages, "agent-2-truncated.apk").starts_with("INSTALL_PARSE_FAILED_NOT_APK: "));
        let names: Vec<_> = packages.iter().map(|installed| installed.apk.package.as_str()).collect();
        assert_eq!(names, ["org.example.agent", "org.example.other"]);
        assert_eq!(packages.get("org.example.agent").unwrap().apk.version_code, 1);
    }

    #[test]
    fn the_phone_counts_too() {
        let mut packages = Packages::default();
        let content = apk("agent-1.apk");
        let why = packages.install(&content, 23, u64::MAX, InstallOptions::default()).unwrap_err();
        assert!(why.ends_with("Requires newer sdk version #24 (current version is #23)"), "{why}");
        let why = packages.install(&content, 34, 100, InstallOptions::default()).unwrap_err();
        assert_eq!(why, "INSTALL_FAILED_INSUFFICIENT_STORAGE");
        packages.install(&content, 26, u64::MAX, InstallOptions::default()).unwrap();
        let why = packages.install(&content, 26, u64::MAX, InstallOptions::default()).unwrap_err();
        assert!(why.starts_with("INSTALL_FAILED_ALREADY_EXISTS"), "{why}");
        packages.install(&content, 26, u64::MAX, InstallOptions { replace: true }).unwrap();
    }
}
