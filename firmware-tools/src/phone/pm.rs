//! `pm` and `cmd package`: what they are asked, and Android's words for what comes of it.

use bytes::{Bytes, BytesMut};
use handset::{Console, FileSystem as _, Output};

use super::android::Android;
use super::dumpsys;
use super::packages::InstallOptions;

/// Exit code of a command that threw an exception.
const THROWN: u8 = 255;

/// Runs `pm <words>`.
pub(super) async fn run(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    match words {
        ["path", name] => path(android, name),
        ["list", "packages", rest @ ..] => list_packages(android, rest),
        ["list", "users"] => Output::success("Users:\n\tUserInfo{0:Owner:c13} running\n"),
        ["list", "features"] => Output::success("feature:reqGlEsVersion=0x30002\nfeature:android.hardware.wifi\n"),
        ["install", rest @ ..] => install(android, rest, console).await,
        ["install-create", rest @ ..] => create(android, rest),
        ["install-write", rest @ ..] => write(android, rest, console).await,
        ["install-commit", session, ..] => commit(android, session).await,
        ["install-abandon" | "install-destroy", session] => abandon(android, session),
        ["uninstall", rest @ ..] => {
            let mut rest = rest.iter().filter(|word| !matches!(**word, "-k" | "--user" | "0" | "all" | "current"));
            answer(android.state().packages.uninstall(rest.next().copied().unwrap_or_default()))
        }
        ["grant" | "revoke", rest @ ..] => permission(android, words, rest),
        ["clear", name] => match android.state().packages.get(name) {
            Some(_) => Output::success("Success\n"),
            None => Output { code: 1, ..Output::success("Failed\n") },
        },
        ["dump", name] => dump(android, name),
        [other, ..] => Output::failure(THROWN, format!("Unknown command: {other}\n")),
        [] => Output::failure(THROWN, "Package manager (package) commands:\n  help\n"),
    }
}

/// `dumpsys package <name>`.
pub(super) fn dump(android: &Android, name: &str) -> Output {
    match android.state().packages.get(name) {
        Some(installed) => Output::success(dumpsys::package(installed, android.spec.sdk)),
        None => Output::success(format!("Unable to find package: {name}\n")),
    }
}

fn path(android: &Android, name: &str) -> Output {
    match android.state().packages.get(name) {
        Some(installed) => {
            Output::success(installed.apk_paths().map(|path| format!("package:{path}\n")).collect::<String>())
        }
        None => Output { code: 1, ..Output::default() },
    }
}

fn list_packages(android: &Android, words: &[&str]) -> Output {
    let has = |option| words.contains(&option);
    let filter = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    // There are no apps of the system on this phone.
    if has("-s") {
        return Output::default();
    }
    let state = android.state();
    let listed = state.packages.iter().filter(|installed| installed.apk.package.contains(filter));
    let lines = listed.map(|installed| {
        let file = if has("-f") { format!("{}/base.apk=", installed.code_path()) } else { String::new() };
        let version = match has("--show-versioncode") {
            true => format!(" versionCode:{}", installed.apk.version_code),
            false => String::new(),
        };
        let uid = if has("-U") { format!(" uid:{}", installed.app_id) } else { String::new() };
        format!("package:{file}{}{version}{uid}\n", installed.apk.package)
    });
    Output::success(lines.collect::<String>())
}

/// What stands behind `install` or `install-create`.
#[derive(Default)]
struct Asked<'a> {
    options: InstallOptions,
    size: Option<u64>,
    file: Option<&'a str>,
}

/// Reads options; a wrong one is answered in Android's words.
fn options<'a>(words: &[&'a str]) -> Result<Asked<'a>, Output> {
    let mut asked = Asked::default();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "-r" => asked.options.replace = true,
            "-t" => asked.options.test_only = true,
            "-d" | "--downgrade" => asked.options.downgrade = true,
            "-p" => {
                asked.options.inherit = words.next().map(str::to_owned);
                asked.options.replace = true;
            }
            "-g" | "-f" | "-q" | "-R" | "--dont-kill" | "--force-queryable" | "--skip-verification" | "--full" => {}
            "--instant" | "--no-streaming" | "--fastdeploy" | "--bypass-low-target-sdk-block" => {}
            "--user" => match words.next() {
                Some("0" | "all" | "current") => {}
                other => {
                    let user = other.unwrap_or_default();
                    return Err(Output::failure(1, format!("Error: user {user} doesn't exist.\n")));
                }
            },
            "-i" | "--abi" | "--install-reason" | "--pkg" | "--install-location" => drop(words.next()),
            "-S" => match words.next().map(str::parse::<u64>) {
                Some(Ok(bytes)) => asked.size = Some(bytes),
                _ => return Err(Output::failure(1, "Error: -S wants the number of bytes\n")),
            },
            option if option.starts_with('-') && option != "-" => {
                return Err(Output::failure(1, format!("\nError: Unknown option: {option}\n")));
            }
            "-" => {}
            path => asked.file = Some(path),
        }
    }
    Ok(asked)
}

/// `install [options] [-S size | file]`: with a size the APK comes by standard input.
async fn install(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    let asked = match options(words) {
        Ok(asked) => asked,
        Err(wrong) => return wrong,
    };
    let content = match (asked.size, asked.file) {
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
    answer(android.install(&[content], &asked.options).await)
}

/// The APK that follows on standard input.
async fn streamed(android: &Android, size: u64, console: &mut Console<'_>) -> Result<Bytes, Output> {
    let room = android.files.free_bytes().saturating_sub(android.state().packages.staged_bytes());
    if size > room {
        return Err(Output::failure(1, "Error: java.io.IOException: Requested internal only, but not enough space\n"));
    }
    let mut content = BytesMut::new();
    let came = console.read_into(size, |bytes| content.extend_from_slice(bytes)).await;
    if came < size {
        return Err(Output::failure(1, format!("Error: expected {size} bytes of the APK, and {came} came\n")));
    }
    Ok(content.freeze())
}

fn create(android: &Android, words: &[&str]) -> Output {
    let asked = match options(words) {
        Ok(asked) => asked,
        Err(wrong) => return wrong,
    };
    match android.state().packages.create_session(asked.options) {
        Some(session) => Output::success(format!("Success: created install session [{session}]\n")),
        None => thrown("install-create", "java.lang.IllegalStateException: Too many active sessions for UID 2000"),
    }
}

/// `install-write [-S size] session name [file | -]`
async fn write(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    let (size, words) = match words {
        ["-S", size, rest @ ..] => (size.parse::<u64>().ok(), rest),
        rest => (None, rest),
    };
    let [session, name, rest @ ..] = words else {
        return Output::failure(1, "Error: must specify a session and a split name\n");
    };
    let session = match known(android, session, "install-write") {
        Ok(session) => session,
        Err(thrown) => return thrown,
    };
    let content = match (size, rest) {
        (Some(size), [] | ["-"]) => match streamed(android, size, console).await {
            Ok(content) => content,
            Err(failure) => return failure,
        },
        (_, [path]) if *path != "-" => match android.files.read(path) {
            Ok(content) => content,
            Err(errno) => return Output::failure(1, format!("Error: failed to open {path}: {errno}\n")),
        },
        _ => return Output::failure(1, "Error: must specify a APK size\n"),
    };
    let bytes = content.len();
    android.state().packages.write_session(session, name, content);
    Output::success(format!("Success: streamed {bytes} bytes\n"))
}

async fn commit(android: &Android, session: &str) -> Output {
    let session = match known(android, session, "install-commit") {
        Ok(session) => session,
        Err(thrown) => return thrown,
    };
    let taken = android.state().packages.take_session(session);
    match taken {
        Some((apks, options)) if !apks.is_empty() => answer(android.install(&apks, &options).await),
        _ => answer(Err("INSTALL_FAILED_INVALID_APK: No packages staged".to_owned())),
    }
}

fn abandon(android: &Android, session: &str) -> Output {
    match known(android, session, "install-abandon") {
        Ok(session) => {
            android.state().packages.take_session(session);
            Output::success("Success\n")
        }
        Err(thrown) => thrown,
    }
}

/// The session of this number, if it is open.
fn known(android: &Android, session: &str, command: &str) -> Result<u64, Output> {
    match session.parse() {
        Ok(number) if android.state().packages.has_session(number) => Ok(number),
        _ => Err(thrown(command, &format!("java.lang.SecurityException: Caller has no access to session {session}"))),
    }
}

/// `grant [--user id] package permission`, and `revoke`.
fn permission(android: &Android, words: &[&str], rest: &[&str]) -> Output {
    let command = words.first().copied().unwrap_or_default();
    let (["--user", _, name, permission] | [name, permission]) = rest else {
        return Output::failure(1, "Error: no permission specified\n");
    };
    let mut state = android.state();
    let Some(installed) = state.packages.get_mut(name) else {
        return thrown(command, &format!("java.lang.IllegalArgumentException: Unknown package: {name}"));
    };
    match command {
        "grant" => drop(installed.granted.insert((*permission).to_owned())),
        _ => drop(installed.granted.remove(*permission)),
    }
    Output::default()
}

/// A command's end by an exception.
pub(super) fn thrown(command: &str, exception: &str) -> Output {
    Output::failure(THROWN, format!("\nException occurred while executing '{command}':\n{exception}\n"))
}

fn answer(result: Result<(), String>) -> Output {
    match result {
        Ok(()) => Output::success("Success\n"),
        Err(reason) => Output { stdout: format!("Failure [{reason}]\n").into_bytes(), stderr: Vec::new(), code: 1 },
    }
}
