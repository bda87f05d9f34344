//! Users, what each has, and what each has granted, as a host asks for them.

use super::tests::{Host, apk, path, spec};
use super::*;

const TRIAL: &str = "org.example.trial";

/// A phone with a second user, 10, and its host.
async fn shared() -> (VirtualPhone, Host) {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.shell("pm create-user Guest").await, "Success: created user id 10\n");
    (phone, host)
}

/// What an install with these options says.
async fn install(host: &mut Host, options: &str, name: &str) -> String {
    let content = apk(name);
    let options: String = options.split_whitespace().map(|option| format!("{option}\0")).collect();
    host.ask(&format!("abb_exec:package\0install\0{options}-S\0{}", content.len()), content).await.unwrap()
}

async fn packages(host: &mut Host, options: &str) -> String {
    host.shell(&format!("pm list packages {options}")).await
}

#[tokio::test]
async fn an_app_is_installed_for_all_or_for_one() {
    let (_phone, mut host) = shared().await;
    assert_eq!(
        host.shell("pm list users").await,
        "Users:\n\tUserInfo{0:Owner:4c13} running\n\tUserInfo{10:Guest:400}\n"
    );
    assert_eq!(install(&mut host, "--user 10", "agent-1.apk").await, "Success\n");
    assert_eq!(packages(&mut host, "").await, "", "the owner has none");
    assert_eq!(packages(&mut host, "--user 10 -U").await, "package:org.example.agent uid:1010100\n");
    assert_eq!(packages(&mut host, "--user all").await, "package:org.example.agent\n");
    assert_eq!(install(&mut host, "", "other-package-1.apk").await, "Success\n");
    for user in ["0", "cur", "10"] {
        assert!(packages(&mut host, &format!("--user {user} other")).await.contains("org.example.other"), "{user}");
    }
    assert_eq!(packages(&mut host, "--user 11").await, "", "whom there is not has none");
    assert_eq!(host.shell("pm path org.example.agent").await, "");
    assert!(host.shell("pm path --user 10 org.example.agent").await.starts_with("package:/data/app/"));
    assert_eq!(
        host.shell("pm install-existing --user 0 org.example.agent").await,
        "Package org.example.agent installed for user: 0\n"
    );
    assert_eq!(host.shell("pm uninstall --user 10 org.example.agent").await, "Success\n");
    assert_eq!(host.shell("pm uninstall --user 10 org.example.agent").await, "Failure [not installed for 10]\n");
    assert_eq!(packages(&mut host, "agent").await, "package:org.example.agent\n");
}

#[tokio::test]
async fn a_session_is_for_its_user() {
    let (_phone, mut host) = shared().await;
    let made = host.shell("pm install-create --user 10 -t -g").await;
    let session =
        made.trim_end().trim_start_matches("Success: created install session [").trim_end_matches(']').to_owned();
    let content = apk("trial-1.apk");
    let write = format!("exec:cmd package install-write -S {} {session} base -", content.len());
    assert!(host.ask(&write, content).await.unwrap().starts_with("Success"));
    assert_eq!(host.shell(&format!("pm install-commit {session}")).await, "Success\n");
    assert_eq!(packages(&mut host, "--user 10").await, format!("package:{TRIAL}\n"));
    assert_eq!(packages(&mut host, "").await, "");
    let dump = host.shell(&format!("dumpsys package {TRIAL}")).await;
    let of = |user: &str| {
        dump.split(&format!("    User {user}: ")).nth(1).unwrap().split("    User ").next().unwrap().to_owned()
    };
    assert!(of("10").starts_with("installed=true") && of("10").contains("CAMERA: granted=true"), "{dump}");
    assert!(of("0").starts_with("installed=false") && of("0").contains("CAMERA: granted=false"), "{dump}");
    assert!(dump.contains("    install permissions:\n      android.permission.INTERNET: granted=true\n"), "{dump}");
}

#[tokio::test]
async fn what_an_app_asks_for_is_granted_at_once_or_by_its_user() {
    let (_phone, mut host) = shared().await;
    let granted = async |host: &mut Host| {
        let dump = host.shell(&format!("dumpsys package {TRIAL}")).await;
        dump.lines().filter(|line| line.contains("granted=true, flags")).count()
    };
    assert_eq!(install(&mut host, "-t", "trial-1.apk").await, "Success\n");
    assert_eq!(granted(&mut host).await, 0);
    let camera = format!("{TRIAL} android.permission.CAMERA");
    assert_eq!(host.shell(&format!("pm grant {camera}")).await, "");
    assert_eq!(granted(&mut host).await, 1, "the owner alone has granted it");
    assert_eq!(host.shell(&format!("pm grant --user 10 {camera}")).await, "");
    assert_eq!(host.shell(&format!("pm revoke {camera}")).await, "");
    assert_eq!(granted(&mut host).await, 1);
    assert_eq!(install(&mut host, "-t -g --user all", "trial-2.apk").await, "Success\n");
    assert_eq!(granted(&mut host).await, 4, "camera and microphone, for both");
    assert_eq!(host.shell(&format!("pm clear --user 10 {TRIAL}")).await, "Success\n");
    assert_eq!(granted(&mut host).await, 2);
}

#[tokio::test]
async fn what_cannot_be_granted_or_named_is_refused_in_androids_words() {
    let (_phone, mut host) = shared().await;
    install(&mut host, "-t", "trial-1.apk").await;
    for (line, why) in [
        ("pm grant nobody x", "Unknown package: nobody"),
        ("pm grant org.example.trial", "Error: no permission specified"),
        (
            "pm grant org.example.trial android.permission.SEND_SMS",
            "Package org.example.trial has not requested permission android.permission.SEND_SMS",
        ),
        (
            "pm grant org.example.trial android.permission.INTERNET",
            "Permission android.permission.INTERNET requested by org.example.trial is not a changeable permission type",
        ),
        ("pm grant --user all org.example.trial android.permission.CAMERA", "Call does not support special user #-1"),
        ("pm list packages --user ten", "Error: java.lang.IllegalArgumentException: Bad user number: ten"),
        ("pm list packages --users", "Error: Unknown option: --users"),
        ("pm install --user", "Argument expected after \"--user\""),
        ("pm install --user 12 /x.apk", "Error: user 12 doesn't exist."),
        ("pm install --wrong /x.apk", "java.lang.IllegalArgumentException: Unknown option --wrong"),
        ("pm install-existing --user 10 nobody", "Package nobody doesn't exist"),
        ("pm create-user", "Error: no user name specified."),
        ("pm remove-user 0", "Error: couldn't remove user id 0"),
    ] {
        let said = host.shell(line).await;
        assert!(said.contains(why), "{line}: {said}");
    }
}

#[tokio::test]
async fn android_5_grants_nothing_by_an_option() {
    let phone = VirtualPhone::start(PhoneSpec { sdk: 22, ..spec() }).unwrap();
    let mut host = Host::online(&phone).await;
    assert!(host.shell("pm install -g /x.apk").await.contains("Unknown option -g"));
}

#[tokio::test]
async fn with_a_user_goes_what_only_it_had() {
    let phone = VirtualPhone::start(PhoneSpec { packages: vec![path("agent-1.apk")], ..spec() }).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.shell("pm create-user --profileOf 0 --managed Work").await, "Success: created user id 10\n");
    assert_eq!(install(&mut host, "--user 10", "other-package-1.apk").await, "Success\n");
    assert_eq!(host.shell("pm remove-user 10").await, "Success: removed user\n");
    assert_eq!(packages(&mut host, "--user all").await, "package:org.example.agent\n");
    assert_eq!(host.shell("am get-current-user").await, "0\n");
    assert_eq!(host.shell("pm get-max-users").await, "Maximum supported users: 4\n");
}
