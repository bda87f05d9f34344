//! `input`: keys of the phone, of which those for its screen do something.

use handset::Output;

use super::android::Android;
use super::battery::Power;

/// Runs `input <words>`: what touches the screen finds nothing there that would answer.
pub(super) fn run(android: &Android, words: &[&str]) -> Output {
    let keys = match words {
        ["keyevent", rest @ ..] | [_, "keyevent", rest @ ..] => rest,
        ["tap" | "swipe" | "text" | "press" | "roll", ..] => return Output::default(),
        _ => return Output::failure(255, "Error: Unknown command: \n"),
    };
    for key in keys.iter().filter(|key| !key.starts_with("--")) {
        match *key {
            "KEYCODE_WAKEUP" | "WAKEUP" | "224" => android.state().screen_on = Some(true),
            "KEYCODE_SLEEP" | "SLEEP" | "223" => android.state().screen_on = Some(false),
            "KEYCODE_POWER" | "POWER" | "26" => {
                let on = is_screen_on(android);
                android.state().screen_on = Some(!on);
            }
            _ => {}
        }
    }
    Output::default()
}

/// Whether the screen is lit: as long as no key was pressed, while the phone has power.
pub(super) fn is_screen_on(android: &Android) -> bool {
    let now = android.now();
    let state = android.state();
    state.screen_on.unwrap_or(state.battery.read(now).power == Power::Usb)
}
