//! Each fault, as a host meets it.

use std::time::Duration;

use bytes::Bytes;
use handset::wire::{Command, Message};

use super::tests::{Host, apk, spec};
use super::*;

/// A phone with this fault.
fn with(fault: &str) -> VirtualPhone {
    let phone = VirtualPhone::start(spec()).unwrap();
    phone.set_fault(fault.parse().unwrap());
    phone
}

#[tokio::test]
async fn a_makers_dialog_waits_for_a_hand() {
    for (tap, expected) in
        [(Tap::Allow, "Success\n"), (Tap::Deny, "Failure [INSTALL_FAILED_USER_RESTRICTED: Install canceled by user]\n")]
    {
        let phone = with("asks-before-install");
        let mut host = Host::online(&phone).await;
        let installing = host.install("agent-1.apk");
        let tapping = async {
            while phone.state().questions == 0 {
                tokio::task::yield_now().await;
            }
            phone.tap(tap);
        };
        let (answer, ()) = tokio::join!(installing, tapping);
        assert_eq!((answer.as_str(), phone.state().questions), (expected, 0));
    }
}

#[tokio::test]
async fn each_makers_refusal_needs_a_hand_and_says_which() {
    for (brand, refusal, advice) in [
        ("Xiaomi", "INSTALL_FAILED_USER_RESTRICTED: Install canceled by user", "allow installs over USB"),
        ("HUAWEI", "INSTALL_CANCELED_BY_USER", "allow installs over USB"),
        ("OPPO", "-99", "allow installs over USB"),
        ("vivo", "INSTALL_FAILED_ABORTED: User rejected permissions", "cancelled on the phone"),
    ] {
        let phone = VirtualPhone::start(PhoneSpec { brand: brand.to_owned(), ..spec() }).unwrap();
        phone.set_fault(Fault::AsksBeforeInstall);
        let mut host = Host::online(&phone).await;
        let tapping = async {
            while phone.state().questions == 0 {
                tokio::task::yield_now().await;
            }
            phone.tap(Tap::Deny);
        };
        let (answer, ()) = tokio::join!(host.install("agent-1.apk"), tapping);
        assert_eq!(answer, format!("Failure [{refusal}]\n"), "{brand}");
        let failure = farmhand::adb::services::install::judge(&answer).unwrap_err();
        assert_eq!(failure.class, farmhand::phone::InstallFailureClass::NeedsHand, "{brand}");
        assert!(failure.why.contains(advice), "{brand}: {}", failure.why);
    }
}

#[tokio::test]
async fn an_install_fails_as_it_shall() {
    for reason in ["INSTALL_FAILED_DEXOPT", "INSTALL_FAILED_VERIFICATION_FAILURE: Verifier said no", "null"] {
        let phone = with(&format!("install-fails:{reason}"));
        assert_eq!(Host::online(&phone).await.install("agent-1.apk").await, format!("Failure [{reason}]\n"));
        assert_eq!(phone.state().installs_failed, 1);
    }
}

#[tokio::test]
async fn headers_with_a_wrong_magic_are_no_messages() {
    let phone = with("wrong-magic");
    let mut host = Host::connect(&phone).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_millis(50), host.hear()).await;
    assert!(heard.is_err(), "what has a wrong magic is skipped");
}

#[tokio::test]
async fn a_wrong_sum_is_seen_by_who_looks() {
    let phone = with("wrong-checksum");
    let mut host = Host::connect(&phone).await.unwrap();
    host.check_sums();
    assert!(host.hear().await.unwrap_err().contains("sums up to"));
}

#[tokio::test]
async fn a_phone_can_greet_twice_and_in_small_pieces() {
    let phone = with("cnxn-twice");
    phone.set_fault(Fault::ShortPackets);
    let mut host = Host::connect(&phone).await.unwrap();
    let (first, second) = (host.hear().await.unwrap(), host.hear().await.unwrap());
    assert_eq!((first.command, &first), (Command::CNXN, &second));
    assert_eq!(host.shell("echo fine").await, "fine\n");
}

/// Pushes so many bytes.
async fn push(host: &mut Host, bytes: usize) -> Result<String, String> {
    let head = [b"SEND".as_slice(), &27_u32.to_le_bytes(), b"/data/local/tmp/f1234,33188", b"DATA"].concat();
    let body = [&head[..], &(bytes as u32).to_le_bytes(), &vec![0; bytes], b"DONE\x07\0\0\0QUIT\0\0\0\0"].concat();
    host.ask("sync:", Bytes::from(body)).await
}

#[tokio::test]
async fn a_full_disk_takes_nothing() {
    let phone = with("full-disk");
    let mut host = Host::online(&phone).await;
    assert!(push(&mut host, 100).await.unwrap().ends_with("No space left on device"));
    phone.clear_faults();
    assert!(push(&mut host, 100).await.unwrap().starts_with("OKAY"));
}

#[tokio::test]
async fn a_slow_disk_takes_its_time() {
    let phone = with("slow-disk:1000");
    let mut host = Host::online(&phone).await;
    let start = std::time::Instant::now();
    push(&mut host, 100_000).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cable_comes_out_in_the_middle() {
    let phone = with("unplugs-after:50000");
    let mut host = Host::online(&phone).await;
    assert!(push(&mut host, 100_000).await.is_err());
    while phone.is_plugged() {
        tokio::task::yield_now().await;
    }
    phone.clear_faults();
    phone.plug().await.unwrap();
    assert_eq!(Host::online(&phone).await.shell("echo back").await, "back\n");
}

#[tokio::test]
async fn a_phone_that_never_comes_back_does_once_that_is_cleared() {
    let phone = with("never-comes-back");
    phone.reboot();
    while phone.state().reboots == 0 || Host::connect(&phone).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let back = async || {
        while Host::connect(&phone).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let late = tokio::time::timeout(Duration::from_millis(50), back()).await;
    assert!(late.is_err(), "it is away five times as long as a restart takes");
    phone.clear_faults();
    back().await;
}

#[tokio::test]
async fn two_phones_can_have_one_serial() {
    let (one, other) = (VirtualPhone::start(spec()).unwrap(), VirtualPhone::start(spec()).unwrap());
    for phone in [&one, &other] {
        assert_eq!(Host::online(phone).await.shell("getprop ro.serialno").await, "R58M123\n");
    }
    let content = apk("agent-1.apk");
    let service = format!("abb_exec:package\0install\0-S\0{}", content.len());
    Host::online(&one).await.ask(&service, content).await.unwrap();
    assert_eq!((one.state().installs, other.state().installs), (1, 0));
    let refused = Message::new(Command::OPEN, 1, 0, "nonsense:");
    let mut host = Host::online(&other).await;
    host.say(refused).await.unwrap();
    assert_eq!(host.hear().await.unwrap().command, Command::CLSE);
}

#[tokio::test]
async fn an_app_runs_until_a_new_version_fails_and_the_dropbox_says_how() {
    let packages = vec![crate::rack::test_apks().join("agent-1.apk")];
    let phone = VirtualPhone::start(PhoneSpec { packages, ..spec() }).unwrap();
    let mut host = Host::online(&phone).await;
    let process = "pidof org.example.agent; echo \"pidof $?\"";
    let dropbox = "date '+%Y-%m-%d %H:%M:%S'; dumpsys dropbox";
    let first = host.shell(process).await;
    assert_eq!(first, "4711\npidof 0\n");
    assert!(host.shell(dropbox).await.contains("Drop box contents: 0 entries\n"));
    phone.set_fault(Fault::App(AppFault::Crashes));
    assert_eq!(host.install("agent-2.apk").await, "Success\n");
    assert_eq!(host.shell(process).await, "4712\npidof 0\n", "it runs again");
    let told = host.shell(dropbox).await;
    assert!(
        told.contains(" data_app_crash (text, ") && told.contains("    Process: org.example.agent/PID: 4711/"),
        "{told}"
    );
    phone.set_fault(Fault::App(AppFault::Stops));
    host.install("agent-2.apk").await;
    assert_eq!(host.shell(process).await, "pidof 1\n");
    assert_eq!(host.shell("pidof nobody; echo $?").await, "1\n");
}

#[tokio::test]
async fn an_install_takes_its_time() {
    let phone = with("install-takes:300");
    let began = tokio::time::Instant::now();
    assert_eq!(Host::online(&phone).await.install("agent-1.apk").await, "Success\n");
    assert!(began.elapsed() >= Duration::from_millis(300) && phone.state().installs == 1);
}

#[tokio::test]
async fn a_battery_can_be_hot() {
    let phone = with("hot");
    assert!(Host::online(&phone).await.shell("dumpsys battery").await.contains("temperature: 461"));
}
