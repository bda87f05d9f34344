//! The commands of a phone's shell: a table, and nothing that is not in it.
//!
//! | command | what for |
//! | --- | --- |
//! | `getprop`, `getprop sys.boot_completed`, `setprop` | who the phone is; whether Android has started |
//! | `settings get secure android_id`, `put`, `delete`, `list` | an identity of the installation |
//! | `service call iphonesubinfo 1 s16 com.android.shell` | the IMEI, which apps may not read but the shell may |
//! | `dumpsys iphonesubinfo` | the same before Android 5 |
//! | `content query --uri content://telephony/siminfo` | its SIM card |
//! | `dumpsys battery`, `dumpsys power`, `dumpsys connectivity` | charge, temperature, power; the screen; the network in use |
//! | `cat /sys/class/power_supply/battery/current_now`, `cmd battery get current_now` | the battery's current, where Android tells it |
//! | `pm`, `cmd package` | apps, see `pm.rs` |
//! | `am`, `cmd activity` | start something of an app; its standby bucket |
//! | `dumpsys deviceidle whitelist`, `appops` | what keeps an app running |
//! | `pidof`, `dumpsys activity services`, `dumpsys dropbox`, `date` | whether an app or a service runs, and how it failed |
//! | `logcat`, `screencap -p`, `df`, `cat`, `ls`, `rm`, `mkdir`, `id`, `wm size`, `wm density`, `input` | see and do |
//! | `cmd vibrator`, `cmd vibrator_manager`, `sleep` | make it stand out among others |
//! | `echo <words>` | whether the phone still answers |
//! | `reboot` | a restart |

use std::ops::ControlFlow;
use std::pin::Pin;

use handset::{Console, Output};

use super::android::Android;
use super::script::{self, Step, What};
use super::words::{LAST_CODE, Redirection, When};
use super::{apps, dumpsys, input, logcat, pm, saving, screen, tools, vibrator};

/// Exit code of `cmd` for a service that is not there.
const NO_SERVICE: u8 = 20;

/// Android 7 brought `cmd`.
const FIRST_SDK_WITH_CMD: u32 = 24;

/// Android 5 and later tell no IMEI by `dumpsys`.
const LAST_SDK_WITH_IMEI_DUMP: u32 = 20;

/// Runs a line.
pub(super) async fn run(android: &Android, line: &str, console: &mut Console<'_>) -> Output {
    let steps = match script::read(line) {
        Ok(steps) => steps,
        Err(bad) => return Output::failure(1, format!("{bad}\n")),
    };
    let mut all = Output::default();
    // Whether by `exit` or not, the line is at its end.
    let _ = list(android, &steps, console, &mut all).await;
    all
}

type Listed<'a> = Pin<Box<dyn Future<Output = ControlFlow<()>> + Send + 'a>>;

/// Runs a list's commands, up to an `exit`. What they say comes to what was said before, and their exit codes take its place.
fn list<'a>(android: &'a Android, steps: &'a [Step], console: &'a mut Console<'_>, all: &'a mut Output) -> Listed<'a> {
    Box::pin(async move {
        for step in steps {
            let runs = match step.when {
                When::Always => true,
                When::AfterSuccess => all.code == 0,
                When::AfterFailure => all.code != 0,
            };
            if !runs {
                continue;
            }
            let flow = match &step.what {
                What::Words(words) => simple(android, words, &step.redirections, console, all).await,
                what if step.redirections.is_empty() => compound(android, what, console, all).await,
                what => {
                    let mut own = Output { code: all.code, ..Output::default() };
                    let flow = compound(android, what, console, &mut own).await;
                    add(all, redirected(own, &step.redirections));
                    flow
                }
            };
            if flow.is_break() {
                return flow;
            }
        }
        ControlFlow::Continue(())
    })
}

/// A group, or the rounds of a loop.
async fn compound(android: &Android, what: &What, console: &mut Console<'_>, all: &mut Output) -> ControlFlow<()> {
    match what {
        What::Words(_) => ControlFlow::Continue(()),
        What::Group(steps) => list(android, steps, console, all).await,
        What::Loop { rounds, body } => {
            all.code = 0;
            for _ in 0..*rounds {
                // A loop that only counts must not keep the other phones waiting.
                tokio::task::yield_now().await;
                if list(android, body, console, all).await.is_break() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        }
    }
}

/// One command.
async fn simple(
    android: &Android,
    words: &[String],
    redirections: &[Redirection],
    console: &mut Console<'_>,
    all: &mut Output,
) -> ControlFlow<()> {
    let code = all.code.to_string();
    let words: Vec<String> = words.iter().map(|word| word.replace(LAST_CODE, &code)).collect();
    let mut words: Vec<_> = words.iter().map(String::as_str).collect();
    // Each command is a process of its own here anyway.
    if words.first() == Some(&"exec") {
        words.remove(0);
    }
    if let ["exit", code @ ..] = words.as_slice() {
        all.code = code.first().map_or(all.code, |code| code.parse().unwrap_or(2));
        return ControlFlow::Break(());
    }
    // What says something while it runs, or lets time pass, comes behind what was said before.
    if matches!(words.as_slice(), ["cat"] | ["logcat" | "sleep", ..])
        && console.print(&std::mem::take(&mut all.stdout)).await.is_err()
    {
        return ControlFlow::Break(());
    }
    let output = command(android, &words, console).await;
    add(all, redirected(output, redirections));
    ControlFlow::Continue(())
}

fn add(all: &mut Output, output: Output) {
    all.stdout.extend(output.stdout);
    all.stderr.extend(output.stderr);
    all.code = output.code;
}

/// What is left of a command's output. With `</dev/null` nothing changes: what reads its input says so by itself.
fn redirected(output: Output, redirections: &[Redirection]) -> Output {
    #[derive(Clone, Copy)]
    enum Sink {
        Stdout,
        Stderr,
        Nowhere,
    }
    let (mut stdout, mut stderr) = (Sink::Stdout, Sink::Stderr);
    for redirection in redirections {
        match redirection {
            Redirection::NoStdin => {}
            Redirection::DropStdout => stdout = Sink::Nowhere,
            Redirection::DropStderr => stderr = Sink::Nowhere,
            Redirection::StderrToStdout => stderr = stdout,
            Redirection::StdoutToStderr => stdout = stderr,
        }
    }
    let mut left = Output { code: output.code, ..Output::default() };
    for (sink, bytes) in [(stdout, output.stdout), (stderr, output.stderr)] {
        match sink {
            Sink::Stdout => left.stdout.extend(bytes),
            Sink::Stderr => left.stderr.extend(bytes),
            Sink::Nowhere => {}
        }
    }
    left
}

/// Runs one command.
pub(super) async fn command(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    android.state().shells += 1;
    match words {
        ["cmd", ..] if android.spec.sdk < FIRST_SDK_WITH_CMD => not_found(android, "cmd"),
        // What is exported is for programs that read their environment, of which there are none.
        [] | ["true"] | ["export", ..] => Output::default(),
        ["false"] => Output { code: 1, ..Output::default() },
        ["echo", words @ ..] => Output::success(words.join(" ") + "\n"),
        ["getprop", rest @ ..] => tools::getprop(android, rest),
        ["setprop", name, value] => tools::setprop(android, name, value),
        ["id"] => Output::success(identity(android)),
        ["cat", paths @ ..] => tools::cat(android, paths, console).await,
        ["ls", paths @ ..] => tools::list(android, paths),
        ["rm", words @ ..] => tools::remove(android, words),
        ["mkdir", paths @ ..] => tools::make_folders(android, paths),
        ["df", ..] => tools::disk_free(android),
        ["date", rest @ ..] => apps::date(rest),
        ["pidof", names @ ..] => apps::pidof(android, names).unwrap_or_else(|| not_found(android, "pidof")),
        ["sleep", rest @ ..] => tools::sleep(rest, console).await,
        ["reboot", ..] => {
            android.restart.notify_one();
            Output::default()
        }
        ["remount", ..] => match android.remount() {
            Ok(sentence) => Output::success(sentence),
            Err(sentence) => Output::failure(1, sentence),
        },
        ["logcat", rest @ ..] => logcat::run(android, rest, console).await,
        _ if !android.state().booted && needs_android(words) => no_service(words),
        ["screencap", ..] => match screen::picture(&android.spec.serial, android.now()) {
            Ok(picture) => Output::success(picture),
            Err(error) => Output::failure(1, format!("screencap: {error}\n")),
        },
        ["wm", "density"] => Output::success(format!("Physical density: {}\n", screen::DENSITY)),
        ["cmd", "battery", "get", key] => tools::battery_value(android, key),
        ["wm", "size"] => Output::success(format!("Physical size: {}x{}\n", screen::WIDTH, screen::HEIGHT)),
        ["input", rest @ ..] => input::run(android, rest),
        ["cmd", service @ ("vibrator" | "vibrator_manager"), rest @ ..] => vibrator::run(android, service, rest),
        ["settings", rest @ ..] | ["cmd", "settings", rest @ ..] => tools::settings(android, rest),
        ["service", "call", "iphonesubinfo", "1", ..] => match &android.spec.imei {
            Some(imei) => Output::success(dumpsys::string_parcel(Some(imei))),
            None => Output::failure(1, "service: Service iphonesubinfo does not exist\n"),
        },
        ["content", "query", "--uri", "content://telephony/siminfo"] => sims(android),
        ["dumpsys" | "cmd", "deviceidle", "whitelist", rest @ ..] => {
            saving::whitelist(android, rest).unwrap_or_else(|| no_service(words))
        }
        ["appops", rest @ ..] | ["cmd", "appops", rest @ ..] => saving::app_ops(android, rest),
        ["am", command @ ("get-standby-bucket" | "set-standby-bucket"), rest @ ..] => {
            let unknown = || Output::failure(255, format!("Unknown command: {command}\n"));
            saving::bucket(android, command, rest).unwrap_or_else(unknown)
        }
        ["dumpsys", service, rest @ ..] => dump(android, service, rest),
        ["pm", rest @ ..] | ["cmd", "package", rest @ ..] => pm::run(android, rest, console).await,
        ["am", rest @ ..] | ["cmd", "activity", rest @ ..] => tools::activity(android, rest),
        ["monkey", "-p", package, "-c", "android.intent.category.LAUNCHER", count] => {
            tools::monkey(android, package, count)
        }
        ["cmd", ..] => no_service(words),
        [name, ..] => not_found(android, name),
    }
}

fn needs_android(words: &[&str]) -> bool {
    let needing = ["settings", "service", "dumpsys", "pm", "cmd", "am", "screencap", "wm", "input", "monkey", "appops"];
    words.first().is_some_and(|name| needing.contains(name))
}

/// The SIM card of a phone that has a modem; its numbers are made from the IMEI.
fn sims(android: &Android) -> Output {
    let Some(imei) = &android.spec.imei else { return Output::success("No result found.\n") };
    let end = |digits: usize| imei.get(imei.len().saturating_sub(digits)..).unwrap_or(imei);
    let (imsi, number) = (format!("26201{}", end(10)), format!("+49171{}", end(7)));
    Output::success(format!("Row: 0 _id=1, icc_id=8949{imei}, sim_id=0, number={number}, imsi={imsi}\n"))
}

fn identity(android: &Android) -> String {
    match android.state().root {
        true => "uid=0(root) gid=0(root) groups=0(root)\n".to_owned(),
        false => "uid=2000(shell) gid=2000(shell) groups=2000(shell),1004(input),1007(log)\n".to_owned(),
    }
}

/// The shell's words for a command that is not there, which Android 9 made longer.
fn not_found(android: &Android, name: &str) -> Output {
    const SDK_WITH_LONGER_WORDS: u32 = 28;
    let inaccessible = if android.spec.sdk >= SDK_WITH_LONGER_WORDS { "inaccessible or " } else { "" };
    Output::failure(127, format!("/system/bin/sh: {name}: {inaccessible}not found\n"))
}

fn no_service(words: &[&str]) -> Output {
    match words {
        ["cmd", service, ..] => Output::failure(NO_SERVICE, format!("cmd: Can't find service: {service}\n")),
        ["dumpsys", service, ..] => Output::failure(0, format!("Can't find service: {service}\n")),
        ["service", "call", service, ..] => {
            Output::failure(NO_SERVICE, format!("service: Service {service} does not exist\n"))
        }
        ["appops", ..] => Output::failure(NO_SERVICE, "cmd: Can't find service: appops\n"),
        ["pm", ..] => Output::failure(NO_SERVICE, "cmd: Can't find service: package\n"),
        ["settings", ..] => Output::failure(NO_SERVICE, "cmd: Can't find service: settings\n"),
        ["am" | "monkey", ..] => Output::failure(NO_SERVICE, "cmd: Can't find service: activity\n"),
        ["screencap" | "wm" | "input", ..] => Output::failure(1, "Error: no display\n"),
        _ => Output::failure(NO_SERVICE, "cmd: No service specified; use -l to list all services\n"),
    }
}

fn dump(android: &Android, service: &str, arguments: &[&str]) -> Output {
    match (service, arguments) {
        ("battery", []) => Output::success(dumpsys::battery(android)),
        ("activity", ["services", component]) => Output::success(apps::services(android, component)),
        ("dropbox", []) => Output::success(apps::dropbox(android)),
        ("power", []) => Output::success(dumpsys::power(android)),
        ("connectivity", _) => Output::success(dumpsys::connectivity(android.spec.network)),
        ("package", [name, ..]) => pm::dump(android, name),
        ("iphonesubinfo", _) => match &android.spec.imei {
            Some(imei) if android.spec.sdk <= LAST_SDK_WITH_IMEI_DUMP => {
                Output::success(format!("Phone Subscriber Info:\n  Phone Type = GSM\n  Device ID = {imei}\n"))
            }
            Some(_) => Output::default(),
            None => no_service(&["dumpsys", service]),
        },
        (service, _) => no_service(&["dumpsys", service]),
    }
}
