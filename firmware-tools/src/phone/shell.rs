//! The commands of a phone's shell: a table, and nothing that is not in it.
//!
//! These are the ones that farmhand uses, with what it learns from them:
//!
//! | command | what for |
//! | --- | --- |
//! | `getprop`, `getprop sys.boot_completed` | who the phone is; whether Android has started |
//! | `settings get secure android_id` | an identity of the installation |
//! | `service call iphonesubinfo 1 s16 com.android.shell` | the IMEI, which apps may not read but the shell may |
//! | `dumpsys iphonesubinfo` | the same before Android 5 |
//! | `dumpsys battery` | charge, temperature, power |
//! | `dumpsys package <name>`, `pm path <name>`, `cmd package list packages` | what is installed |
//! | `dumpsys connectivity` | the network in use |
//! | `cmd package install -S <size>`, `pm install <file>`, `pm uninstall <name>` | apps |
//! | `echo <words>` | whether the phone still answers |
//! | `reboot` | a restart |

use bytes::{Bytes, BytesMut};
use handset::{Console, Errno, FileSystem as _, Output};

use super::android::Android;
use super::dumpsys;
use super::packages::InstallOptions;
use super::words::{self, Redirection, When};

/// Exit code of `cmd` for a service that is not there.
const NO_SERVICE: u8 = 20;

/// Android 7 brought `cmd`.
const FIRST_SDK_WITH_CMD: u32 = 24;

/// Android 5 and later tell no IMEI by `dumpsys`.
const LAST_SDK_WITH_IMEI_DUMP: u32 = 20;

/// Runs a line.
pub(super) async fn run(android: &Android, line: &str, console: &mut Console<'_>) -> Output {
    let steps = match words::split(line) {
        Ok(steps) => steps,
        Err(bad) => return Output::failure(1, format!("{bad}\n")),
    };
    let mut all = Output::default();
    for step in steps {
        let runs = match step.when {
            When::Always => true,
            When::AfterSuccess => all.code == 0,
            When::AfterFailure => all.code != 0,
        };
        if runs {
            let words: Vec<_> = step.words.iter().map(String::as_str).collect();
            let output = redirected(command(android, &words, console).await, &step.redirections);
            all.stdout.extend(output.stdout);
            all.stderr.extend(output.stderr);
            all.code = output.code;
        }
    }
    all
}

/// What is left of a command's output. With `</dev/null` nothing changes: no command but `install -S` reads its input.
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
        [] | ["true"] => Output::default(),
        ["false"] => Output { code: 1, ..Output::default() },
        ["echo", words @ ..] => Output::success(words.join(" ") + "\n"),
        ["getprop", rest @ ..] => getprop(android, rest),
        ["id"] => Output::success("uid=2000(shell) gid=2000(shell) groups=2000(shell),1004(input),1007(log)\n"),
        ["cat", paths @ ..] => cat(android, paths),
        ["ls", paths @ ..] => list(android, paths),
        ["rm", paths @ ..] => remove(android, paths),
        ["reboot", ..] => {
            android.restart.notify_one();
            Output::default()
        }
        ["settings" | "service" | "dumpsys" | "pm" | "cmd", ..] if !android.state().booted => no_service(words),
        ["settings", "get", table, key] => {
            Output::success(android.setting(table, key).unwrap_or_else(|| "null".to_owned()) + "\n")
        }
        ["service", "call", "iphonesubinfo", "1", ..] => match &android.spec.imei {
            Some(imei) => Output::success(dumpsys::string_parcel(Some(imei))),
            None => Output::failure(1, "service: Service iphonesubinfo does not exist\n"),
        },
        ["dumpsys", service, rest @ ..] => dump(android, service, rest),
        ["pm", rest @ ..] | ["cmd", "package", rest @ ..] => package_manager(android, rest, console).await,
        ["cmd", ..] => no_service(words),
        [name, ..] => not_found(android, name),
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
        ["pm", ..] => Output::failure(NO_SERVICE, "cmd: Can't find service: package\n"),
        ["settings", ..] => Output::failure(NO_SERVICE, "cmd: Can't find service: settings\n"),
        _ => Output::failure(NO_SERVICE, "cmd: No service specified; use -l to list all services\n"),
    }
}

fn getprop(android: &Android, arguments: &[&str]) -> Output {
    let properties = android.properties();
    match arguments {
        [] => {
            Output::success(properties.iter().map(|(name, value)| format!("[{name}]: [{value}]\n")).collect::<String>())
        }
        [name, default @ ..] => {
            let value = properties.get(name).map(String::as_str).filter(|value| !value.is_empty());
            let value = value.or(default.first().copied()).unwrap_or_default();
            Output::success(format!("{value}\n"))
        }
    }
}

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

fn cat(android: &Android, paths: &[&str]) -> Output {
    each_path("cat", paths, |path| Ok(android.files.read(path)?.to_vec()))
}

fn list(android: &Android, paths: &[&str]) -> Output {
    let paths = if paths.is_empty() { &["/"] } else { paths };
    each_path("ls", paths, |path| match android.files.list(path) {
        Ok(entries) => {
            let names = entries.into_iter().map(|entry| entry.name).filter(|name| !name.starts_with('.'));
            Ok(names.flat_map(|name| (name + "\n").into_bytes()).collect())
        }
        Err(Errno::NotDirectory) => Ok(format!("{path}\n").into_bytes()),
        Err(errno) => Err(errno),
    })
}

fn remove(android: &Android, paths: &[&str]) -> Output {
    let forced = paths.contains(&"-f");
    each_path("rm", paths, |path| match android.files.remove(path) {
        Err(Errno::NotFound) if forced => Ok(Vec::new()),
        removed => removed.map(|()| Vec::new()),
    })
}

fn dump(android: &Android, service: &str, arguments: &[&str]) -> Output {
    match (service, arguments) {
        ("battery", []) => Output::success(dumpsys::battery(android)),
        ("connectivity", _) => Output::success(dumpsys::connectivity(android.spec.network)),
        ("package", [name, ..]) => match android.state().packages.get(name) {
            Some(installed) => Output::success(dumpsys::package(installed, android.spec.sdk)),
            None => Output::success(format!("Unable to find package: {name}\n")),
        },
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

/// `pm` and `cmd package`.
async fn package_manager(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    match words {
        ["path", name] => match android.state().packages.get(name) {
            Some(installed) => Output::success(format!("package:{}/base.apk\n", installed.code_path())),
            None => Output { code: 1, ..Output::default() },
        },
        ["list", "packages", rest @ ..] => list_packages(android, rest),
        ["install", rest @ ..] => install(android, rest, console).await,
        ["uninstall", rest @ ..] => {
            let name = rest.iter().rfind(|word| !word.starts_with('-')).copied().unwrap_or_default();
            answer(android.state().packages.uninstall(name))
        }
        [other, ..] => Output::failure(255, format!("Unknown command: {other}\n")),
        [] => Output::failure(255, "Package manager (package) commands:\n  help\n"),
    }
}

fn list_packages(android: &Android, options: &[&str]) -> Output {
    let with_version = options.contains(&"--show-versioncode");
    let filter = options.iter().find(|option| !option.starts_with('-')).copied().unwrap_or_default();
    let state = android.state();
    let listed = state.packages.iter().filter(|installed| installed.apk.package.contains(filter));
    let lines = listed.map(|installed| match with_version {
        true => format!("package:{} versionCode:{}\n", installed.apk.package, installed.apk.version_code),
        false => format!("package:{}\n", installed.apk.package),
    });
    Output::success(lines.collect::<String>())
}

/// `install [options] [-S size | file]`: with a size the APK comes by standard input.
async fn install(android: &Android, arguments: &[&str], console: &mut Console<'_>) -> Output {
    let mut options = InstallOptions::default();
    let mut size = None;
    let mut file = None;
    let mut words = arguments.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "-r" => options.replace = true,
            "-t" | "-d" | "-g" | "-f" | "-q" | "--dont-kill" | "--force-queryable" | "--skip-verification" => {}
            "-i" | "--user" | "--abi" | "--install-reason" | "--pkg" => drop(words.next()),
            "-S" => match words.next().map(str::parse::<u64>) {
                Some(Ok(bytes)) => size = Some(bytes),
                _ => return Output::failure(1, "Error: -S wants the number of bytes\n"),
            },
            option if option.starts_with('-') && option != "-" => {
                return Output::failure(1, format!("\nError: Unknown option: {option}\n"));
            }
            "-" => {}
            path => file = Some(path),
        }
    }
    let content = match (size, file) {
        (Some(size), _) => match streamed(android, size, console).await {
            Ok(content) => content,
            Err(failure) => return failure,
        },
        (None, Some(path)) => match android.files.read(path) {
            Ok(content) => content,
            Err(errno) => return Output::failure(1, format!("Error: failed to open {path}: {errno}\n")),
        },
        (None, None) => return Output::failure(1, "Error: must either specify a package size or an APK file\n"),
    };
    answer(android.install(&content, options))
}

/// The APK that follows on standard input.
async fn streamed(android: &Android, size: u64, console: &mut Console<'_>) -> Result<Bytes, Output> {
    if size > android.files.free_bytes() {
        return Err(Output::failure(1, "Error: java.io.IOException: Requested internal only, but not enough space\n"));
    }
    let mut content = BytesMut::new();
    let came = console.read_into(size, |bytes| content.extend_from_slice(bytes)).await;
    if came < size {
        return Err(Output::failure(1, format!("Error: expected {size} bytes of the APK, and {came} came\n")));
    }
    Ok(content.freeze())
}

fn answer(result: Result<(), String>) -> Output {
    match result {
        Ok(()) => Output::success("Success\n"),
        Err(reason) => Output { stdout: format!("Failure [{reason}]\n").into_bytes(), stderr: Vec::new(), code: 1 },
    }
}
