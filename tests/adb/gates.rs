//! The gates of a rollout, end to end: what phones answer to `pidof` and `dumpsys dropbox` stops a rollout or lets it go on.

use farmhand::rack::snapshot::{RolloutPhoneState, RolloutState, RolloutView};

use crate::desk::Desk;

/// The signer of the test APKs.
const SIGNER: &str = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";

/// The canary, the phone behind it, which of them gets a bad version and what is wrong with it, where the rollout ends, and why.
type Chapter = (&'static str, &'static str, Option<(&'static str, &'static str)>, RolloutState, &'static str);

const STORY: [Chapter; 4] = [
    ("A1", "A2", None, RolloutState::Finished, "2 phones on version 2"),
    (
        "A3",
        "A4",
        Some(("A3", "app-stops")),
        RolloutState::Paused,
        "the gate `agent` wants 100%, and 0 of 1 phone pass; ",
    ),
    (
        "A5",
        "A6",
        Some(("A5", "app-crashes")),
        RolloutState::Paused,
        "the gate `crashes` wants 100%, and 0 of 1 phone pass; ",
    ),
    // Behind the last wave somebody looks, too.
    (
        "A7",
        "A8",
        Some(("A8", "app-hangs")),
        RolloutState::Paused,
        "the gate `crashes` wants 100%, and 0 of 1 phone pass; ",
    ),
];

#[tokio::test]
async fn a_bad_version_stops_at_its_gate_behind_the_last_wave_too() {
    let phone = |number| format!("[[phone]]\nname = 'A{number}'\nbattery = 80\npackages = ['agent-1.apk']\n");
    let rack: String = (1..=8).map(phone).collect();
    let desk = Desk::start(&rack, &format!("[agent]\npackage = 'org.example.agent'\nsigners = ['{SIGNER}']\n")).await;
    desk.look(async {
        for number in 1..=8 {
            desk.ready(&format!("A{number}")).await.unwrap();
        }
        for (place, (canary, other, bad, ends, why)) in STORY.into_iter().enumerate() {
            if let Some((phone, fault)) = bad {
                desk.fault(phone, fault).await.unwrap();
            }
            let apk = firmware_tools::rack::test_apks().join("agent-2.apk");
            let words =
                ["rollout", "start", apk.to_str().unwrap(), "--waves", "1", "--canary", canary, "--phone", canary];
            let gates = [
                "--phone",
                other,
                "--approve",
                "none",
                "--soak",
                "2s",
                "--gate",
                "agent=100%",
                "--gate",
                "crashes=100%",
            ];
            desk.daemon.tell(&[&words[..], &gates[..]].concat()).await.unwrap();
            let id = format!("R{}", place + 1);
            let what = format!("{id} to be {}", ends.as_str());
            let view = desk.comes(&what, async || {
                let view: RolloutView =
                    desk.daemon.ask(&["rollout", "show", &id, "--json"]).await.map_err(|error| error.to_string())?;
                if view.state == ends { Ok(view) } else { Err(format!("{}: {}", view.state.as_str(), view.why)) }
            });
            let view = view.await.unwrap();
            assert!(view.why.starts_with(why), "{canary}: {}", view.why);
            let states: Vec<_> = view.waves.iter().flat_map(|wave| &wave.phones).map(|phone| phone.state).collect();
            let stops_early = bad.is_some_and(|(phone, _)| phone == canary);
            let second = if stops_early { RolloutPhoneState::Waiting } else { RolloutPhoneState::Done };
            assert_eq!(states, [RolloutPhoneState::Done, second], "{canary}");
            let version = desk.phone(other).state().packages["org.example.agent"].0;
            assert_eq!(version, if stops_early { 1 } else { 2 }, "{other}");
        }
    })
    .await;
}
