//! The small tools of a phone's shell: files, properties, settings, apps.

use std::time::Duration;

use handset::{Console, Errno, FileSystem as _, Output};

use super::android::Android;

/// Where the kernel tells the battery's current.
const CURRENT_NOW: &str = "/sys/class/power_supply/battery/current_now";

/// Runs `one` for each path and collects what comes out; a failure is said as toybox says it.
fn each_path(tool: &str, paths: &[&str], one: impl Fn(&str) -> Result<Vec<u8>, Errno>) -> Output {
    let mut output = Output::default();
    for path in paths.iter().filter(|path| !path.starts_with('-')) {
        match one(path) {
            Ok(bytes) => output.stdout.extend(bytes),
            Err(errno) => {
                output.code = 1;
                output.stderr.extend(format!("{tool}: {path}: {errno}\n").into_bytes());
            }
        }
    }
    output
}

/// `cat <paths>`; without paths what it reads comes out as it comes.
pub(super) async fn cat(android: &Android, paths: &[&str], console: &mut Console<'_>) -> Output {
    if !paths.is_empty() {
        return each_path("cat", paths, |path| match path {
            "/proc/uptime" => Ok(format!("{0:.2} {0:.2}\n", android.uptime().as_secs_f64()).into_bytes()),
            CURRENT_NOW => kernel_current(android),
            path => Ok(android.files.read(path)?.to_vec()),
        });
    }
    while let Some(bytes) = console.read().await {
        if console.print(&bytes).await.is_err() {
            break;
        }
    }
    Output::default()
}

/// What the kernel says of the battery's current: microampere, on Samsung's phones milliampere. Android 9 and later keep it from the
/// shell.
fn kernel_current(android: &Android) -> Result<Vec<u8>, Errno> {
    const LAST_SDK_WITH_SYSFS: u32 = 27;
    if android.spec.sdk > LAST_SDK_WITH_SYSFS {
        return Err(Errno::PermissionDenied);
    }
    let current = current_ua(android);
    let current = if super::dumpsys::is_samsung(android) { current / 1000 } else { current };
    Ok(format!("{current}\n").into_bytes())
}

/// `cmd battery get <key>`, which tells the current since Android 15.
pub(super) fn battery_value(android: &Android, key: &str) -> Output {
    const SDK_WITH_CURRENT: u32 = 35;
    match key {
        "current_now" if android.spec.sdk >= SDK_WITH_CURRENT => Output::success(format!("{}\n", current_ua(android))),
        _ => Output::success(format!("Unknown get option: {key}\n")),
    }
}

fn current_ua(android: &Android) -> i32 {
    let now = android.now();
    android.state().battery.read(now).current_ua
}

/// `sleep <seconds>…`, as long as the host listens.
pub(super) async fn sleep(words: &[&str], console: &mut Console<'_>) -> Output {
    if words.is_empty() {
        return Output::failure(1, "sleep: Needs 1 argument\n");
    }
    let mut all = Duration::ZERO;
    for word in words {
        let seconds = word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let Some(seconds) = seconds else { return Output::failure(1, format!("sleep: bad number '{word}'\n")) };
        all = all.saturating_add(seconds);
    }
    tokio::select! {
        () = tokio::time::sleep(all) => {}
        () = console.closed() => {}
    }
    Output::default()
}

pub(super) fn list(android: &Android, paths: &[&str]) -> Output {
    let paths = if paths.iter().all(|path| path.starts_with('-')) { &["/"] } else { paths };
    each_path("ls", paths, |path| match android.files.list(path) {
        Ok(entries) => {
            let names = entries.into_iter().map(|entry| entry.name).filter(|name| !name.starts_with('.'));
            Ok(names.flat_map(|name| (name + "\n").into_bytes()).collect())
        }
        Err(Errno::NotDirectory) => Ok(format!("{path}\n").into_bytes()),
        Err(errno) => Err(errno),
    })
}

pub(super) fn remove(android: &Android, words: &[&str]) -> Output {
    let has = |letter| words.iter().any(|word| word.starts_with('-') && word.contains(letter));
    let (forced, all) = (has('f'), has('r'));
    let memory = &android.files.memory;
    each_path("rm", words, |path| match if all { memory.remove_all(path) } else { memory.remove(path) } {
        Err(Errno::NotFound) if forced => Ok(Vec::new()),
        removed => removed.map(|()| Vec::new()),
    })
}

pub(super) fn make_folders(android: &Android, paths: &[&str]) -> Output {
    let now = android.now().as_secs() as i64;
    each_path("mkdir", paths, |path| android.files.memory.make_folder(path, now).map(|()| Vec::new()))
}

/// `df` of the data partition, in KiB as toybox prints it.
pub(super) fn disk_free(android: &Android) -> Output {
    let all = super::android::STORAGE_BYTES / 1024;
    let free = android.files.free_bytes() / 1024;
    let used = all - free.min(all);
    let percent = (used * 100).div_ceil(all);
    Output::success(format!(
        "Filesystem     1K-blocks     Used Available Use% Mounted on\n\
         /dev/block/dm-38 {all:>10} {used:>8} {free:>9} {percent:>3}% /data\n"
    ))
}

pub(super) fn getprop(android: &Android, arguments: &[&str]) -> Output {
    let properties = android.properties();
    match arguments {
        [] => {
            Output::success(properties.iter().map(|(name, value)| format!("[{name}]: [{value}]\n")).collect::<String>())
        }
        [name, default @ ..] => {
            let value = properties.get(*name).map(String::as_str).filter(|value| !value.is_empty());
            let value = value.or(default.first().copied()).unwrap_or_default();
            Output::success(format!("{value}\n"))
        }
    }
}

/// A shell may set what begins so; the rest is the system's.
pub(super) fn setprop(android: &Android, name: &str, value: &str) -> Output {
    if !["debug.", "log.", "persist.log.", "sys.usb."].iter().any(|allowed| name.starts_with(allowed)) {
        return Output::failure(
            1,
            format!("Failed to set property '{name}' to '{value}'.\nSee dmesg for error reason.\n"),
        );
    }
    android.state().properties.insert(name.to_owned(), value.to_owned());
    Output::default()
}

/// `settings get|put|delete|list <table> …`
pub(super) fn settings(android: &Android, words: &[&str]) -> Output {
    let set = |table: &&str| ["global", "secure", "system"].contains(table);
    match words {
        ["get", table, key] if set(table) => {
            Output::success(android.setting(table, key).unwrap_or_else(|| "null".to_owned()) + "\n")
        }
        ["put", table, key, value, ..] if set(table) => {
            android.state().settings.insert(((*table).to_owned(), (*key).to_owned()), Some((*value).to_owned()));
            Output::default()
        }
        ["delete", table, key] if set(table) => {
            let there = usize::from(android.setting(table, key).is_some());
            android.state().settings.insert(((*table).to_owned(), (*key).to_owned()), None);
            Output::success(format!("Deleted {there} rows\n"))
        }
        ["list", table] if set(table) => Output::success(
            android.settings_of(table).into_iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>(),
        ),
        _ => Output::failure(255, "Invalid namespace or command\n"),
    }
}

/// `monkey -p <package> -c android.intent.category.LAUNCHER <count>`
pub(super) fn monkey(android: &Android, package: &str, count: &str) -> Output {
    if android.state().packages.get(package).is_none() {
        return Output::failure(252, "** No activities found to run, monkey aborted.\n");
    }
    android.state().apps.start(package);
    Output::success(format!(
        "  bash arg: -p\n  bash arg: {package}\nEvents injected: {count}\n## Network stats: elapsed time=27ms\n"
    ))
}

/// `am start|start-service|broadcast|force-stop|get-current-user …`
pub(super) fn activity(android: &Android, words: &[&str]) -> Output {
    let value_of = |option: &str| words.iter().skip_while(|word| **word != option).nth(1).copied();
    let component = value_of("-n").unwrap_or_default();
    let installed = |component: &str| {
        let package = component.split('/').next().unwrap_or_default();
        android.state().packages.get(package).is_some()
    };
    match words {
        ["start" | "start-activity", ..] => {
            let starting = format!("Starting: Intent {{ cmp={component} }}\n");
            match installed(component) {
                true => {
                    android.state().apps.start(component.split('/').next().unwrap_or_default());
                    Output::success(starting)
                }
                false => Output {
                    stdout: starting.into_bytes(),
                    stderr: format!("Error type 3\nError: Activity class {{{component}}} does not exist.\n")
                        .into_bytes(),
                    code: 1,
                },
            }
        }
        ["startservice" | "start-service" | "start-foreground-service", ..] => {
            let starting = format!("Starting service: Intent {{ cmp={component} }}\n");
            match installed(component) {
                true => {
                    android.state().apps.serve(component);
                    Output::success(starting)
                }
                false => Output {
                    stdout: starting.into_bytes(),
                    stderr: b"Error: Not found; no service started.\n".to_vec(),
                    code: 255,
                },
            }
        }
        ["broadcast", ..] => {
            let action = value_of("-a").unwrap_or_default();
            if installed(component) {
                android.state().apps.start(component.split('/').next().unwrap_or_default());
            }
            Output::success(format!(
                "Broadcasting: Intent {{ act={action} flg=0x400000 }}\nBroadcast completed: result=0\n"
            ))
        }
        ["force-stop" | "kill", package] => {
            android.state().apps.stop(package);
            Output::default()
        }
        ["get-current-user"] => Output::success("0\n"),
        _ => Output::failure(1, "Activity manager (activity) commands:\n  help\n"),
    }
}
