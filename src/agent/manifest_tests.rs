//! Manifests as Android's `aapt` compiles them; they are the seeds of the fuzzer, too.

use std::path::Path;

use super::Build;
use super::manifest::{ManifestError, needs_resources, parse};
use crate::rack::ids::VersionCode;

fn seed(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/apk_manifest");
    std::fs::read(folder.join(format!("seed-{name}"))).unwrap()
}

#[test]
fn a_manifest_says_what_it_is_for() {
    let good = parse(&seed("debuggable"), None).unwrap();
    assert_eq!((good.package.as_str(), good.version_name.as_str()), ("org.example.agent", "7.0-debug"));
    assert_eq!(good.version_code, VersionCode((1 << 32) + 7), "versionCodeMajor stands above versionCode");
    assert_eq!((good.min_sdk, good.max_sdk, good.build), (26, Some(33), Build::Debuggable));
    let bare = parse(&seed("bare"), None).unwrap();
    assert_eq!((bare.min_sdk, bare.max_sdk, bare.build), (1, None, Build::Release));
    assert_eq!(bare.version_name, "");
}

#[test]
fn what_is_not_installed_alone_is_refused() {
    let split = parse(&seed("split"), None).unwrap_err();
    assert_eq!(split.to_string(), "it is the split `config.arm64_v8a` of an app, which can't be installed alone");
    assert_eq!(parse(&seed("codeless"), None), Err(ManifestError::Missing("versionCode")));
    assert!(matches!(parse(&seed("header"), None), Err(ManifestError::Format(_))));
}

#[test]
fn a_reference_is_looked_up_in_the_resources() {
    let manifest = seed("reference");
    assert!(needs_resources(&manifest) && !needs_resources(&seed("good")));
    assert_eq!(parse(&manifest, Some(&seed("resources"))).unwrap().version_name, "7.1");
    parse(&manifest, Some(b"no table")).unwrap();
}
