//! Installs by the command line: each way in which they can fail, for whom they are, and what they grant.

use std::time::Duration;

use farmhand::adb::services::install::known_reasons;
use farmhand::phone::InstallFailureClass::{self, NeedsHand, Permanent, Transient};
use futures_util::future::join_all;

use crate::desk::{Desk, said};

/// Phones that fail side by side.
const PHONES: usize = 4;

/// The longest that a failed install may take.
const SOON: Duration = Duration::from_secs(20);

/// What a phone says behind the reason.
const DETAIL: &str = "as it was told to";

/// Failures without a reason of the package manager, and what is told of them.
const OTHERS: [(&str, InstallFailureClass, &str); 4] = [
    ("null", Transient, "the phone's package manager failed: null"),
    (
        "java.lang.SecurityException: You need INSTALL_PACKAGES",
        NeedsHand,
        "the phone does not let its shell install: look at its developer options: \
         java.lang.SecurityException: You need INSTALL_PACKAGES",
    ),
    (
        "INSTALL_FAILED_OF_A_LATER_ANDROID: -199",
        Permanent,
        "the phone refused the app (INSTALL_FAILED_OF_A_LATER_ANDROID: -199)",
    ),
    (
        "cmd: Can't find service: package",
        Transient,
        "Android's package manager has not started: cmd: Can't find service: package",
    ),
];

/// What the phone answers between the brackets, and what is told of it.
struct Case {
    answer: String,
    told: String,
}

impl Case {
    fn new(answer: String, class: InstallFailureClass, sentence: &str) -> Self {
        let code = match class {
            Transient => "install.transient",
            Permanent => "install.permanent",
            NeedsHand => "install.needs_hand",
        };
        let help = match (answer.split(':').next(), class) {
            (Some("INSTALL_FAILED_VERSION_DOWNGRADE"), _) => {
                "`--downgrade` asks for it; most phones allow that for debuggable apps only"
            }
            (Some("INSTALL_FAILED_TEST_ONLY"), _) => "`--test-only` allows it",
            (_, Transient) => "try again; it may work then",
            (_, Permanent) => "with this APK on this phone it will not work: see the reason",
            (_, NeedsHand) => "somebody must do something on the phone itself",
        };
        Self { answer, told: format!("{code} × {sentence} help: {help}") }
    }
}

#[tokio::test]
async fn each_failure_of_an_install_is_told_with_its_class_its_sentence_and_what_to_do() {
    let rack: String = (0..PHONES).map(|number| format!("[[phone]]\nname = 'A{number}'\n")).collect();
    let desk = Desk::start(&rack, "").await;
    let known = known_reasons().map(|(reason, class, sentence)| {
        Case::new(format!("{reason}: {DETAIL}"), class, &format!("{sentence} ({reason}: {DETAIL})"))
    });
    let others = OTHERS.into_iter().map(|(answer, class, told)| Case::new(answer.to_owned(), class, told));
    let cases: Vec<Case> = known.chain(others).collect();
    assert!(cases.len() > 60, "each reason of Android's PackageManager");
    let shares = cases.chunks(cases.len().div_ceil(PHONES)).enumerate();
    let wrong = join_all(shares.map(async |(number, share)| {
        let phone = format!("A{number}");
        let mut wrong = Vec::new();
        for case in share {
            wrong.extend(fails(&desk, &phone, case).await.err());
        }
        assert_eq!(desk.phone(&phone).state().installs, 0);
        assert_eq!(desk.phone(&phone).state().installs_failed, share.len() as u64);
        wrong
    }));
    let wrong = desk.look(async {
        for number in 0..PHONES {
            desk.ready(&format!("A{number}")).await.unwrap();
        }
        wrong.await.concat()
    });
    let wrong = wrong.await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// By each way in which an app can come: `abb_exec`, `exec:cmd`, or a file and `pm`.
const WAYS: [(&str, &str); 3] = [("A0", ""), ("A1", "adb = 'middle'"), ("A2", "adb = 'old'")];

#[tokio::test]
async fn an_app_is_for_one_user_with_all_that_it_asks_for_where_that_is_wanted() {
    let rack: String = WAYS.iter().map(|(name, adb)| format!("[[phone]]\nname = '{name}'\n{adb}\n")).collect();
    let desk = Desk::start(&rack, "").await;
    desk.look(async {
        for (phone, _) in WAYS {
            desk.ready(phone).await.unwrap();
            for_one_user(&desk, phone).await.unwrap_or_else(|why| panic!("{phone}: {why}"));
        }
    })
    .await;
}

async fn for_one_user(desk: &Desk, phone: &str) -> Result<(), String> {
    let shell = async |line: &str| -> Result<String, String> {
        let said = desk.done(phone, &["shell", line], SOON).await?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    };
    let apks = firmware_tools::rack::test_apks();
    let install = async |options: &[&str], names: &[&str]| -> Result<(), String> {
        let paths: Vec<String> = names.iter().map(|name| apks.join(name).display().to_string()).collect();
        let paths = paths.iter().map(String::as_str);
        let words: Vec<&str> = ["install"].into_iter().chain(options.iter().copied()).chain(paths).collect();
        desk.done(phone, &words, SOON).await.map(drop)
    };
    let is_refused = async |options: &[&str], name: &str, why: &str| match install(options, &[name]).await {
        Err(said) if said.contains(why) => Ok(()),
        other => Err(format!("{name} {options:?}: expected {why}, it is {other:?}")),
    };
    let granted = async || -> Result<usize, String> {
        let dump = shell("dumpsys package org.example.trial").await?;
        Ok(dump.lines().filter(|line| line.contains("granted=true, flags")).count())
    };
    assert_eq!(shell("pm create-user Guest").await?, "Success: created user id 10\n");
    is_refused(&["--user", "10"], "trial-2.apk", "install.permanent").await?;
    install(&["--user", "10", "--test-only"], &["trial-2.apk"]).await?;
    assert_eq!(shell("pm list packages").await?, "", "the owner does not have it");
    assert_eq!(shell("pm list packages --user 10").await?, "package:org.example.trial\n");
    assert_eq!(granted().await?, 0);
    is_refused(&["--user", "10", "--test-only"], "trial-1.apk", "INSTALL_FAILED_VERSION_DOWNGRADE").await?;
    install(&["--user", "10", "--test-only", "--downgrade", "--grant"], &["trial-1.apk"]).await?;
    assert_eq!(granted().await?, 2, "camera and microphone, for the guest");
    is_refused(&["--user", "12"], "agent-1.apk", "install.permanent × the phone has no user of that number").await?;
    // An app in several APKs comes by a session.
    install(&["--user", "10"], &["agent-2.apk", "agent-2-split-en.apk"]).await?;
    assert_eq!(shell("pm list packages agent").await?, "");
    assert_eq!(shell("pm path --user 10 org.example.agent").await?.lines().count(), 2);
    install(&[], &["agent-3.apk"]).await?;
    assert_eq!(shell("pm list packages agent").await?, "package:org.example.agent\n", "for all who are there");
    Ok(())
}

async fn fails(desk: &Desk, phone: &str, case: &Case) -> Result<(), String> {
    desk.fault(phone, &format!("install-fails:{}", case.answer)).await?;
    let apk = firmware_tools::rack::test_apks().join("agent-1.apk");
    let output = desk.run(phone, &["install", apk.to_str().unwrap()], SOON).await?;
    let said = said(&output);
    // Where a line is broken is the terminal's matter.
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    match output.status.code() {
        Some(4) if bare(&said) == bare(&case.told) => Ok(()),
        code => Err(format!("{}: expected 4 and\n  {}\nit is {code:?} and\n  {said}", case.answer, case.told)),
    }
}
