//! What keeps apps from running, as a host asks for it and sets it.

use super::tests::{Host, path, spec};
use super::*;

const AGENT: &str = "org.example.agent";

async fn phone(spec: PhoneSpec) -> (VirtualPhone, Host) {
    let phone = VirtualPhone::start(PhoneSpec { packages: vec![path("agent-1.apk")], ..spec }).unwrap();
    let host = Host::online(&phone).await;
    (phone, host)
}

#[tokio::test]
async fn an_app_is_put_on_the_whitelist_and_taken_from_it() {
    let (_phone, mut host) = phone(spec()).await;
    let whitelist = "dumpsys deviceidle whitelist";
    assert!(!host.shell(whitelist).await.contains(AGENT));
    assert_eq!(host.shell(&format!("{whitelist} +{AGENT}")).await, format!("Added: {AGENT}\n"));
    assert_eq!(host.shell(&format!("{whitelist} +no.such")).await, "Unknown package: no.such\n");
    assert!(host.shell(whitelist).await.contains(&format!("user,{AGENT},10100\n")));
    assert_eq!(host.shell(&format!("am get-standby-bucket {AGENT}")).await, "5\n", "it is exempted");
    assert_eq!(host.shell(&format!("{whitelist} ={AGENT} -{AGENT}")).await, format!("true\nRemoved: {AGENT}\n"));
    assert_eq!(
        host.shell(&format!("{whitelist} {AGENT}")).await,
        format!("Package must be prefixed with +, -, or =: {AGENT}\n")
    );
}

#[tokio::test]
async fn a_bucket_is_set_by_its_name() {
    let (_phone, mut host) = phone(spec()).await;
    assert_eq!(host.shell(&format!("am set-standby-bucket {AGENT} rare")).await, "");
    assert_eq!(host.shell(&format!("am get-standby-bucket {AGENT}")).await, "40\n");
    assert!(host.shell(&format!("am set-standby-bucket {AGENT} best")).await.contains("Error: Unknown bucket: best"));
    assert!(host.shell("am get-standby-bucket no.such").await.contains("non existent package (no.such)"));
    let (_phone, mut host) = phone(PhoneSpec { sdk: 27, ..spec() }).await;
    assert!(!host.shell(&format!("am get-standby-bucket {AGENT}")).await.starts_with(|c: char| c.is_ascii_digit()));
}

#[tokio::test]
async fn an_operation_has_a_mode_or_its_default() {
    let (_phone, mut host) = phone(spec()).await;
    let get = format!("appops get {AGENT} RUN_IN_BACKGROUND");
    assert_eq!(host.shell(&get).await, "No operations.\nDefault mode: allow\n");
    assert_eq!(host.shell(&format!("appops set {AGENT} RUN_IN_BACKGROUND ignore")).await, "");
    assert_eq!(host.shell(&get).await, "RUN_IN_BACKGROUND: ignore\n");
    assert!(
        host.shell(&format!("appops set {AGENT} RUN_IN_BACKGROUND maybe")).await.contains("Mode maybe is not valid")
    );
    let miui = format!("appops get {AGENT} 10008");
    assert!(host.shell(&miui).await.contains("Error: Unknown operation string: 10008"));
    let (_phone, mut host) = phone(PhoneSpec { brand: "Xiaomi".to_owned(), ..spec() }).await;
    assert_eq!(host.shell(&miui).await, "No operations.\n");
    host.shell(&format!("appops set {AGENT} 10008 allow")).await;
    assert_eq!(host.shell(&miui).await, "MIUIOP(10008): allow\n");
}

#[tokio::test]
async fn what_was_set_outlives_a_restart_unless_the_rom_forgets_it() {
    let (phone, mut host) = phone(PhoneSpec { reboot_away_s: 0.0, boot_s: 0.0, ..spec() }).await;
    let set = format!("dumpsys deviceidle whitelist +{AGENT}; appops set {AGENT} RUN_IN_BACKGROUND allow");
    let ask = format!("dumpsys deviceidle whitelist; appops get {AGENT} RUN_IN_BACKGROUND; pidof {AGENT}");
    let restarted = async |phone: &VirtualPhone| {
        let before = phone.state().reboots;
        phone.reboot();
        while phone.state().reboots == before || !phone.state().booted {
            tokio::task::yield_now().await;
        }
    };
    host.shell(&set).await;
    restarted(&phone).await;
    let mut host = Host::online(&phone).await;
    let told = host.shell(&ask).await;
    assert!(told.contains(&format!("user,{AGENT}")) && told.contains("RUN_IN_BACKGROUND: allow\n"), "{told}");
    phone.set_fault(Fault::ForgetsExemptions);
    restarted(&phone).await;
    let mut host = Host::online(&phone).await;
    let told = host.shell(&ask).await;
    assert!(!told.contains(AGENT) && told.ends_with("No operations.\nDefault mode: allow\n"), "{told}");
}
