//! Installing an APK, and what the handset's package manager says about it.
//!
//! It answers `Success`, or `Failure [REASON: detail]` with a reason of Android's PackageManager, or a complaint of another kind
//! when Android has not started. [`judge`] makes of each what a person and the daemon need: whether to try again, and a sentence.

#[cfg(feature = "daemon")]
mod run;

use crate::adb::failure::{InstallFailure, InstallFailureClass};

#[cfg(feature = "daemon")]
pub use run::{Apk, InstallFlag, InstallOptions, leftovers};

/// What marks an install session as farmhand's: the session's referrer, which Android keeps and shows, and hands to an app verifier. Nothing
/// else depends on it.
pub const SESSION_MARK: &str = "farmhand:install";

use InstallFailureClass::{NeedsHand, Permanent, Transient};

/// Why an install waits for somebody at the phone.
const ASKS_ITS_USER: &str =
    "the phone asks its user first: allow installs over USB in its developer options, or tap on its screen";

/// Why the phone does not take the app in the way that it was sent.
const WRONG_KIND: &str =
    "this kind of install does not fit the app, as of an instant app in the place of one of the system";

/// The reasons of Android's PackageManager (android.content.pm.PackageManager) and of makers, what to do, and why.
const REASONS: &[(&str, InstallFailureClass, &str)] = &[
    ("INSTALL_FAILED_USER_RESTRICTED", NeedsHand, ASKS_ITS_USER),
    // The pm of MIUI and EMUI.
    ("INSTALL_CANCELED_BY_USER", NeedsHand, ASKS_ITS_USER),
    // A number that Android has no name for: the guard of ColorOS and MIUI before the package manager.
    ("-99", NeedsHand, ASKS_ITS_USER),
    (
        "INSTALL_FAILED_VERIFICATION_FAILURE",
        NeedsHand,
        "the phone's app verifier refused the app: allow it on the screen, or turn off \"Verify apps over USB\"",
    ),
    ("INSTALL_FAILED_ABORTED", NeedsHand, "the install was cancelled on the phone"),
    ("INSTALL_FAILED_INSUFFICIENT_STORAGE", Transient, "the phone's storage is full"),
    ("INSTALL_FAILED_MEDIA_UNAVAILABLE", Transient, "the place of the install is not available"),
    ("INSTALL_FAILED_CONTAINER_ERROR", Transient, "the place of the install could not be used"),
    ("INSTALL_FAILED_INTERNAL_ERROR", Transient, "Android failed by itself"),
    ("INSTALL_FAILED_DEXOPT", Transient, "the app's code could not be prepared, often for want of storage"),
    ("INSTALL_FAILED_VERIFICATION_TIMEOUT", Transient, "the phone's app verifier did not answer"),
    ("INSTALL_FAILED_PACKAGE_CHANGED", Transient, "the app was changed meanwhile"),
    ("INSTALL_FAILED_REPLACE_COULDNT_DELETE", Transient, "the installed version could not be removed"),
    ("INSTALL_FAILED_OTHER_STAGED_SESSION_IN_PROGRESS", Transient, "another install is waiting for a restart"),
    ("INSTALL_FAILED_VERSION_DOWNGRADE", Permanent, "a newer version is installed"),
    ("INSTALL_FAILED_PERMISSION_MODEL_DOWNGRADE", Permanent, "the installed version has the newer permission model"),
    ("INSTALL_FAILED_SANDBOX_VERSION_DOWNGRADE", Permanent, "the installed version has a newer sandbox"),
    (
        "INSTALL_FAILED_UPDATE_INCOMPATIBLE",
        Permanent,
        "the installed version was signed by another key: it must be uninstalled first",
    ),
    ("INSTALL_FAILED_SHARED_USER_INCOMPATIBLE", Permanent, "the app's shared user was signed by another key"),
    ("INSTALL_FAILED_INSTANT_APP_INVALID", Permanent, WRONG_KIND),
    // The same number by its name from Android 14 on.
    ("INSTALL_FAILED_SESSION_INVALID", Permanent, WRONG_KIND),
    ("INSTALL_FAILED_ALREADY_EXISTS", Permanent, "the app is installed already"),
    ("INSTALL_FAILED_DUPLICATE_PACKAGE", Permanent, "a package of this name is there already"),
    ("INSTALL_FAILED_DUPLICATE_PERMISSION", Permanent, "another app defines the same permission"),
    ("INSTALL_FAILED_CONFLICTING_PROVIDER", Permanent, "another app has a content provider of the same name"),
    ("INSTALL_FAILED_DUPLICATE_PERMISSION_GROUP", Permanent, "another app defines the same group of permissions"),
    ("INSTALL_FAILED_BAD_PERMISSION_GROUP", Permanent, "the app names a group of permissions that does not exist"),
    ("INSTALL_FAILED_PROCESS_NOT_DEFINED", Permanent, "the APK's manifest names a process that it does not define"),
    ("INSTALL_FAILED_WRONG_INSTALLED_VERSION", Permanent, "another version is installed than the update is made for"),
    ("INSTALL_FAILED_MULTIPACKAGE_INCONSISTENCY", Permanent, "the parts of the install belong to different apps"),
    (
        "INSTALL_FAILED_MULTI_ARCH_NOT_MATCH_ALL_NATIVE_ABIS",
        Permanent,
        "the app lacks code for one of the phone's kinds of processor",
    ),
    (
        "INSTALL_FAILED_SHARED_LIBRARY_BAD_CERTIFICATE_DIGEST",
        Permanent,
        "a library of the phone is signed by another key",
    ),
    ("INSTALL_FAILED_UPDATE_OWNERSHIP", NeedsHand, "another store owns the app: allow the update on the screen"),
    ("INSTALL_FAILED_PRE_APPROVAL_NOT_AVAILABLE", Transient, "the phone can't ask its user for approval now"),
    ("INSTALL_ACTIVATION_FAILED", Transient, "the app was installed and could not be activated: restart the phone"),
    ("INSTALL_FAILED_INVALID_APK", Permanent, "the APK is broken"),
    ("INSTALL_FAILED_INVALID_URI", Permanent, "the phone could not find the APK"),
    ("INSTALL_FAILED_BAD_SIGNATURE", Permanent, "the APK's signature is broken"),
    ("INSTALL_FAILED_BAD_DEX_METADATA", Permanent, "the APK's profile is broken"),
    ("INSTALL_FAILED_OLDER_SDK", Permanent, "the phone's Android is too old for the app"),
    ("INSTALL_FAILED_NEWER_SDK", Permanent, "the phone's Android is too new for the app"),
    ("INSTALL_FAILED_DEPRECATED_SDK_VERSION", Permanent, "the app is made for an Android older than this phone takes"),
    ("INSTALL_FAILED_TEST_ONLY", Permanent, "the app is marked as a test: install it with the flag for tests"),
    ("INSTALL_FAILED_CPU_ABI_INCOMPATIBLE", Permanent, "the app has no code for the phone's processor"),
    ("INSTALL_FAILED_NO_MATCHING_ABIS", Permanent, "the app has no code for the phone's processor"),
    ("INSTALL_FAILED_MISSING_FEATURE", Permanent, "the phone lacks a feature that the app needs"),
    ("INSTALL_FAILED_MISSING_SHARED_LIBRARY", Permanent, "the phone lacks a library that the app needs"),
    ("INSTALL_FAILED_MISSING_SPLIT", Permanent, "the app consists of several APKs, and some are missing"),
    ("INSTALL_FAILED_NO_SHARED_USER", Permanent, "the app's shared user does not exist"),
    ("INSTALL_FAILED_INVALID_INSTALL_LOCATION", Permanent, "the app can't be installed at its place"),
    (
        "INSTALL_FAILED_UID_CHANGED",
        Permanent,
        "data of an earlier install belongs to another user: it must be removed first",
    ),
    ("INSTALL_FAILED_REJECTED_BY_BUILDTYPE", Permanent, "the phone's build does not take this app"),
    ("INSTALL_PARSE_FAILED_NOT_APK", Permanent, "the file is no APK"),
    ("INSTALL_PARSE_FAILED_NO_CERTIFICATES", Permanent, "the APK is not signed in a way that the phone takes"),
    (
        "INSTALL_PARSE_FAILED_INCONSISTENT_CERTIFICATES",
        Permanent,
        "the APK is signed by another key than the installed version",
    ),
    ("INSTALL_PARSE_FAILED_UNEXPECTED_EXCEPTION", Permanent, "the phone could not read the APK"),
    ("INSTALL_PARSE_FAILED_BAD_MANIFEST", Permanent, "the APK's manifest is broken"),
    ("INSTALL_PARSE_FAILED_MANIFEST_MALFORMED", Permanent, "the APK's manifest is broken"),
    ("INSTALL_PARSE_FAILED_MANIFEST_EMPTY", Permanent, "the APK's manifest is empty"),
    ("INSTALL_PARSE_FAILED_BAD_PACKAGE_NAME", Permanent, "the APK's package name is not allowed"),
    ("INSTALL_PARSE_FAILED_BAD_SHARED_USER_ID", Permanent, "the APK's shared user is not allowed"),
    ("INSTALL_PARSE_FAILED_ONLY_COREAPP_ALLOWED", Permanent, "the phone takes only core apps while it is encrypted"),
    ("INSTALL_PARSE_FAILED_SKIPPED", Permanent, "the APK is not made for this phone, and was skipped"),
    (
        "INSTALL_PARSE_FAILED_RESOURCES_ARSC_COMPRESSED",
        Permanent,
        "the APK's resources are compressed, which this Android does not take",
    ),
    ("INSTALL_PARSE_FAILED_CERTIFICATE_ENCODING", Permanent, "the APK's certificate is broken"),
];

/// What package managers say instead of a reason, what to do, and why.
const COMPLAINTS: &[(&str, InstallFailureClass, &str)] = &[
    ("INSTALL_CANCELED_BY_USER", NeedsHand, ASKS_ITS_USER),
    (
        "no_install_apps",
        NeedsHand,
        "this phone's owner or its management forbids installs: lift the restriction for its user",
    ),
    ("Error: user", Permanent, "the phone has no user of that number: `pm list users` on it tells which there are"),
    ("Unknown option", Permanent, "the phone's package manager is too old for a flag of the install"),
    ("SecurityException", NeedsHand, "the phone does not let its shell install: look at its developer options"),
];

/// Each reason for a failed install that has a class of its own, with its class and its sentence for a person.
pub fn known_reasons() -> impl Iterator<Item = (&'static str, InstallFailureClass, &'static str)> {
    REASONS.iter().copied()
}

/// How much of an answer that nobody understands is shown, in characters.
const SHOWN_CHARS_MAX: usize = 300;

/// What the package manager's answer means.
///
/// # Errors
/// The failure, by what to do about it.
pub fn judge(answer: &str) -> Result<(), InstallFailure> {
    // Older ones print what they do before.
    let lines = || answer.lines().map(str::trim);
    if let Some(failure) = lines().find_map(|line| line.strip_prefix("Failure")) {
        return Err(judge_failure(failure.trim().trim_matches(['[', ']'])));
    }
    if lines().any(|line| line.starts_with("Success")) {
        return Ok(());
    }
    Err(judge_complaint(answer.trim()))
}

fn judge_failure(said: &str) -> InstallFailure {
    let in_reason = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_-".contains(c);
    let end = said.find([':', ' ', ']', '(']).unwrap_or(said.len());
    let (reason, detail) = said.split_at(end);
    // An exception of Java's has small letters in its name.
    let is_reason = reason.starts_with(|c: char| c.is_ascii_uppercase()) && reason.chars().all(in_reason);
    let detail = detail.trim_start_matches([':', ' ']);
    let (class, sentence) = match REASONS.iter().find(|(known, ..)| *known == reason) {
        Some((_, class, sentence)) => (*class, *sentence),
        None if !is_reason => return judge_complaint(said),
        // A reason that a later Android or a maker invented is about this APK on this phone, as nearly all are.
        None => (Permanent, "the phone refused the app"),
    };
    let mut why = format!("{sentence} ({reason}");
    if !detail.is_empty() {
        why += &format!(": {}", shown(detail));
    }
    why += ")";
    InstallFailure { class, reason: Some(reason.to_owned()), why }
}

/// What is no answer of the package manager: mostly that there is none yet.
fn judge_complaint(said: &str) -> InstallFailure {
    if let Some((_, class, sentence)) = COMPLAINTS.iter().find(|(known, ..)| said.contains(known)) {
        return InstallFailure { class: *class, reason: None, why: format!("{sentence}: {}", shown(said)) };
    }
    let why = if said.is_empty() {
        "the phone ended the install without a word".to_owned()
    } else if ["Can't find service", "Could not access the Package Manager", "Is the system running"]
        .iter()
        .any(|known| said.contains(known))
    {
        format!("Android's package manager has not started: {}", shown(said))
    } else {
        format!("the phone's package manager failed: {}", shown(said))
    };
    InstallFailure { class: Transient, reason: None, why }
}

/// Judges any bytes as a package manager's answer; what a fuzzer calls.
///
/// # Panics
/// When a failure can't be shown in a line, or success and failure are taken for each other.
pub fn fuzz_install_answer(bytes: &[u8]) {
    let answer = String::from_utf8_lossy(bytes);
    let says = |word: &str| answer.lines().any(|line| line.trim().starts_with(word));
    match judge(&answer) {
        Ok(()) => assert!(says("Success") && !says("Failure")),
        Err(failure) => assert!(!failure.why.is_empty() && !failure.why.contains(char::is_control), "{}", failure.why),
    }
}

/// On one line, without control characters, not too long.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(answer: &str) -> (InstallFailureClass, Option<String>, String) {
        let failure = judge(answer).unwrap_err();
        (failure.class, failure.reason, failure.why)
    }

    #[test]
    fn success_is_success_whatever_was_printed_before() {
        assert_eq!(judge("Success\n"), Ok(()));
        assert_eq!(judge("\tpkg: /data/local/tmp/a.apk\nSuccess\n"), Ok(()));
    }

    #[test]
    fn a_failure_is_told_by_reason_with_what_to_do() {
        let (class, reason, why) = failure(
            "Failure [INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 1 is older than current 2]\n",
        );
        assert_eq!((class, reason.as_deref()), (Permanent, Some("INSTALL_FAILED_VERSION_DOWNGRADE")));
        assert_eq!(
            why,
            "a newer version is installed (INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 1 is \
             older than current 2)"
        );
        assert_eq!(failure("Failure [INSTALL_FAILED_USER_RESTRICTED: Install canceled by user]").0, NeedsHand);
        assert_eq!(failure("Failure [INSTALL_FAILED_INSUFFICIENT_STORAGE]").0, Transient);
        assert_eq!(failure("Failure [INSTALL_FAILED_OF_A_LATER_ANDROID: -199]").0, Permanent);
    }

    #[test]
    fn what_is_no_answer_may_work_the_next_time() {
        let (class, reason, why) = failure("cmd: Can't find service: package\n");
        assert_eq!((class, reason), (Transient, None));
        assert!(why.starts_with("Android's package manager has not started"), "{why}");
        assert_eq!(failure("").2, "the phone ended the install without a word");
        assert_eq!(failure("Failure [null]").0, Transient);
        assert_eq!(failure("Failure [NullPointerException: a field]").1, None);
        let (class, reason, why) = failure("Failure [SecurityException: User restriction prevents installing]");
        assert_eq!((class, reason), (NeedsHand, None));
        assert!(why.contains("does not let its shell install"), "{why}");
        assert_eq!(failure("Killed").2, "the phone's package manager failed: Killed");
    }

    /// The names of PackageManager.installStatusToString, Android 5 to 16, by their numbers from -1 down; then those that AOSP lacks.
    const CLASSES: &[(&str, InstallFailureClass)] = &[
        ("INSTALL_FAILED_ALREADY_EXISTS", Permanent),
        ("INSTALL_FAILED_INVALID_APK", Permanent),
        ("INSTALL_FAILED_INVALID_URI", Permanent),
        ("INSTALL_FAILED_INSUFFICIENT_STORAGE", Transient),
        ("INSTALL_FAILED_DUPLICATE_PACKAGE", Permanent),
        ("INSTALL_FAILED_NO_SHARED_USER", Permanent),
        ("INSTALL_FAILED_UPDATE_INCOMPATIBLE", Permanent),
        ("INSTALL_FAILED_SHARED_USER_INCOMPATIBLE", Permanent),
        ("INSTALL_FAILED_MISSING_SHARED_LIBRARY", Permanent),
        ("INSTALL_FAILED_REPLACE_COULDNT_DELETE", Transient),
        ("INSTALL_FAILED_DEXOPT", Transient),
        ("INSTALL_FAILED_OLDER_SDK", Permanent),
        ("INSTALL_FAILED_CONFLICTING_PROVIDER", Permanent),
        ("INSTALL_FAILED_NEWER_SDK", Permanent),
        ("INSTALL_FAILED_TEST_ONLY", Permanent),
        ("INSTALL_FAILED_CPU_ABI_INCOMPATIBLE", Permanent),
        ("INSTALL_FAILED_MISSING_FEATURE", Permanent),
        ("INSTALL_FAILED_CONTAINER_ERROR", Transient),
        ("INSTALL_FAILED_INVALID_INSTALL_LOCATION", Permanent),
        ("INSTALL_FAILED_MEDIA_UNAVAILABLE", Transient),
        ("INSTALL_FAILED_VERIFICATION_TIMEOUT", Transient),
        ("INSTALL_FAILED_VERIFICATION_FAILURE", NeedsHand),
        ("INSTALL_FAILED_PACKAGE_CHANGED", Transient),
        ("INSTALL_FAILED_UID_CHANGED", Permanent),
        ("INSTALL_FAILED_VERSION_DOWNGRADE", Permanent),
        ("INSTALL_FAILED_PERMISSION_MODEL_DOWNGRADE", Permanent),
        ("INSTALL_FAILED_SANDBOX_VERSION_DOWNGRADE", Permanent),
        ("INSTALL_FAILED_MISSING_SPLIT", Permanent),
        ("INSTALL_FAILED_DEPRECATED_SDK_VERSION", Permanent),
        ("INSTALL_PARSE_FAILED_NOT_APK", Permanent),
        ("INSTALL_PARSE_FAILED_BAD_MANIFEST", Permanent),
        ("INSTALL_PARSE_FAILED_UNEXPECTED_EXCEPTION", Permanent),
        ("INSTALL_PARSE_FAILED_NO_CERTIFICATES", Permanent),
        ("INSTALL_PARSE_FAILED_INCONSISTENT_CERTIFICATES", Permanent),
        ("INSTALL_PARSE_FAILED_CERTIFICATE_ENCODING", Permanent),
        ("INSTALL_PARSE_FAILED_BAD_PACKAGE_NAME", Permanent),
        ("INSTALL_PARSE_FAILED_BAD_SHARED_USER_ID", Permanent),
        ("INSTALL_PARSE_FAILED_MANIFEST_MALFORMED", Permanent),
        ("INSTALL_PARSE_FAILED_MANIFEST_EMPTY", Permanent),
        ("INSTALL_FAILED_INTERNAL_ERROR", Transient),
        ("INSTALL_FAILED_USER_RESTRICTED", NeedsHand),
        ("INSTALL_FAILED_DUPLICATE_PERMISSION", Permanent),
        ("INSTALL_FAILED_NO_MATCHING_ABIS", Permanent),
        ("INSTALL_FAILED_ABORTED", NeedsHand),
        ("INSTALL_FAILED_INSTANT_APP_INVALID", Permanent),
        ("INSTALL_FAILED_SESSION_INVALID", Permanent),
        ("INSTALL_FAILED_BAD_DEX_METADATA", Permanent),
        ("INSTALL_FAILED_BAD_SIGNATURE", Permanent),
        ("INSTALL_FAILED_OTHER_STAGED_SESSION_IN_PROGRESS", Transient),
        ("INSTALL_FAILED_MULTIPACKAGE_INCONSISTENCY", Permanent),
        ("INSTALL_FAILED_WRONG_INSTALLED_VERSION", Permanent),
        ("INSTALL_FAILED_PROCESS_NOT_DEFINED", Permanent),
        ("INSTALL_PARSE_FAILED_ONLY_COREAPP_ALLOWED", Permanent),
        ("INSTALL_PARSE_FAILED_RESOURCES_ARSC_COMPRESSED", Permanent),
        ("INSTALL_PARSE_FAILED_SKIPPED", Permanent),
        ("INSTALL_FAILED_DUPLICATE_PERMISSION_GROUP", Permanent),
        ("INSTALL_FAILED_BAD_PERMISSION_GROUP", Permanent),
        ("INSTALL_ACTIVATION_FAILED", Transient),
        ("INSTALL_FAILED_PRE_APPROVAL_NOT_AVAILABLE", Transient),
        ("INSTALL_FAILED_SHARED_LIBRARY_BAD_CERTIFICATE_DIGEST", Permanent),
        ("INSTALL_FAILED_MULTI_ARCH_NOT_MATCH_ALL_NATIVE_ABIS", Permanent),
        ("INSTALL_FAILED_UPDATE_OWNERSHIP", NeedsHand),
        ("INSTALL_FAILED_REJECTED_BY_BUILDTYPE", Permanent),
        ("INSTALL_CANCELED_BY_USER", NeedsHand),
        ("-99", NeedsHand),
    ];

    #[test]
    fn each_reason_has_its_class() {
        for (name, class) in CLASSES {
            for answer in [format!("Failure [{name}]\n"), format!("\tpkg: a.apk\nFailure [{name}: because]\n")] {
                let (judged, reason, why) = failure(&answer);
                assert_eq!((judged, reason.as_deref()), (*class, Some(*name)), "{answer}");
                assert!(!why.starts_with("the phone refused the app"), "{answer} has no sentence of its own: {why}");
            }
        }
        let untested: Vec<_> = REASONS.iter().filter(|row| CLASSES.iter().all(|(name, _)| *name != row.0)).collect();
        assert!(untested.is_empty(), "{untested:?}");
    }

    #[test]
    fn a_guard_before_the_package_manager_needs_a_hand() {
        for answer in ["Failure [INSTALL_CANCELED_BY_USER]\n", "Failure [-99]\n", "Error: INSTALL_CANCELED_BY_USER\n"] {
            let (class, _, why) = failure(answer);
            assert_eq!(class, NeedsHand, "{answer}");
            assert!(why.starts_with("the phone asks its user first: allow installs over USB"), "{why}");
        }
        assert_eq!(failure("Failure [-1000]").0, Transient, "a number that nobody knows may pass");
    }

    #[test]
    fn no_reason_stands_twice_in_the_table() {
        let mut names: Vec<_> = REASONS.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REASONS.len());
    }

    proptest! {
        #[test]
        fn any_answer_is_judged_in_a_line(answer: String, failed: bool) {
            let answer = if failed { format!("Failure [{answer}]") } else { answer };
            if let Err(failure) = judge(&answer) {
                prop_assert!(failure.why.chars().all(|c| !c.is_control()));
            }
        }
    }
}
