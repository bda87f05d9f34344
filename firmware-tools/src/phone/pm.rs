//! `pm` and `cmd package`: what they are asked, and Android's words for what comes of it.

use bytes::{Bytes, BytesMut};
use handset::{Console, FileSystem as _, Output};

use super::android::Android;
use super::dumpsys;
use super::packages::InstallOptions;
use super::permissions::is_from_its_user;
use super::users::{Kind, OWNER, Users, Whose};

/// Exit code of a command that threw an exception.
const THROWN: u8 = 255;

/// Runs `pm <words>`.
pub(super) async fn run(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    let [command, rest @ ..] = words else {
        return Output::failure(THROWN, "Package manager (package) commands:\n  help\n");
    };
    match (*command, rest) {
        ("list", ["packages", rest @ ..]) => list_packages(android, rest),
        ("list", ["users"]) => Output::success(android.state().users.list(android.spec.sdk)),
        ("list", ["features"]) => Output::success("feature:reqGlEsVersion=0x30002\nfeature:android.hardware.wifi\n"),
        ("get-max-users", []) => Output::success(Users::max()),
        ("create-user", rest) => create_user(android, rest),
        ("remove-user", rest) => remove_user(android, rest),
        ("install", rest) => install(android, rest, console).await,
        ("install-create", rest) => create(android, rest),
        ("install-write", rest) => write(android, rest, console).await,
        ("install-commit", [session, ..]) => commit(android, session).await,
        ("install-abandon" | "install-destroy", [session]) => abandon(android, session),
        ("dump", [name]) => dump(android, name),
        ("path" | "install-existing" | "uninstall" | "grant" | "revoke" | "clear", rest) => {
            of_user(android, command, rest).unwrap_or_else(|wrong| wrong)
        }
        (other, _) => Output::failure(THROWN, format!("Unknown command: {other}\n")),
    }
}

/// Commands that may name a user.
fn of_user(android: &Android, command: &str, words: &[&str]) -> Result<Output, Output> {
    let (whose, rest) = take_user(command, words)?;
    Ok(match (command, rest.as_slice()) {
        ("path", [name]) => path(android, name, whose.unwrap_or(Whose::One(OWNER))),
        ("install-existing", [name]) => install_existing(android, name, one(command, whose)?),
        ("uninstall", [options @ .., name]) if options.iter().all(|option| *option == "-k") => {
            uninstall(android, name, whose.unwrap_or_default())
        }
        ("grant" | "revoke", [name, permission]) => {
            change_permission(android, command, name, permission, one(command, whose)?)?
        }
        ("grant" | "revoke", [_]) => Output::failure(1, "Error: no permission specified\n"),
        ("clear", [name]) => clear(android, name, one(command, whose)?),
        _ => Output::failure(1, "Error: no package specified\n"),
    })
}

/// What stands behind `--user`, and the other words.
fn take_user<'a>(command: &str, words: &[&'a str]) -> Result<(Option<Whose>, Vec<&'a str>), Output> {
    let (mut whose, mut others) = (None, Vec::new());
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--user" {
            whose = Some(user_behind(command, words.next())?);
        } else {
            others.push(word);
        }
    }
    Ok((whose, others))
}

fn user_behind(command: &str, word: Option<&str>) -> Result<Whose, Output> {
    let illegal = |why: &str| thrown(command, &format!("java.lang.IllegalArgumentException: {why}"));
    let word = word.ok_or_else(|| illegal("Argument expected after \"--user\""))?;
    Whose::parse(word).ok_or_else(|| illegal(&format!("Bad user number: {word}")))
}

/// The one user of a command that is for one only, by default the owner.
fn one(command: &str, whose: Option<Whose>) -> Result<u32, Output> {
    match whose.unwrap_or(Whose::One(OWNER)) {
        Whose::One(user) => Ok(user),
        Whose::All => {
            Err(thrown(command, "java.lang.IllegalArgumentException: Call does not support special user #-1"))
        }
    }
}

/// `dumpsys package <name>`, and `dumpsys package installs`.
pub(super) fn dump(android: &Android, name: &str) -> Output {
    let state = android.state();
    if name == "installs" {
        return Output::success(dumpsys::installs(state.packages.sessions()));
    }
    match state.packages.get(name) {
        Some(installed) => Output::success(dumpsys::package(installed, android.spec.sdk, &state.users)),
        None => Output::success(format!("Unable to find package: {name}\n")),
    }
}

/// With the last user that has an app goes what was set for it.
fn uninstall(android: &Android, name: &str, whose: Whose) -> Output {
    let mut state = android.state();
    let removed = state.packages.uninstall(name, whose);
    if state.packages.get(name).is_none() {
        state.saving.forget(name);
    }
    answer(removed)
}

fn path(android: &Android, name: &str, whose: Whose) -> Output {
    match android.state().packages.get(name).filter(|installed| installed.is_for(whose)) {
        Some(installed) => {
            Output::success(installed.apk_paths().map(|path| format!("package:{path}\n")).collect::<String>())
        }
        None => Output { code: 1, ..Output::default() },
    }
}

/// `list packages [options] [--user id] [filter]`: by default those of the owner.
fn list_packages(android: &Android, words: &[&str]) -> Output {
    const OPTIONS: [&str; 12] =
        ["-a", "-d", "-e", "-f", "-i", "-l", "-s", "-U", "-u", "-3", "--show-versioncode", "--apex-only"];
    // Unlike others it catches what is thrown.
    let (whose, words) = match take_user("list", words) {
        Ok((whose, words)) => (whose.unwrap_or(Whose::One(OWNER)), words),
        Err(thrown) => {
            let text = String::from_utf8_lossy(&thrown.stderr).into_owned();
            return Output {
                code: THROWN,
                ..Output::success(format!("Error: {}\n", text.lines().last().unwrap_or_default()))
            };
        }
    };
    if let Some(unknown) = words.iter().find(|word| word.starts_with('-') && !OPTIONS.contains(word)) {
        return Output { code: THROWN, ..Output::success(format!("Error: Unknown option: {unknown}\n")) };
    }
    let has = |option| words.contains(&option);
    let filter = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    // There are no apps of the system on this phone, no modules, and none that is disabled.
    if has("-s") || has("-d") || has("--apex-only") {
        return Output::default();
    }
    let uid_of = match whose {
        Whose::One(user) => user,
        Whose::All => OWNER,
    };
    let state = android.state();
    let listed = state.packages.iter().filter(|installed| installed.is_for(whose));
    let lines = listed.filter(|installed| installed.apk.package.contains(filter)).map(|installed| {
        let file = if has("-f") { format!("{}/base.apk=", installed.code_path()) } else { String::new() };
        let version = match has("--show-versioncode") {
            true => format!(" versionCode:{}", installed.apk.version_code),
            false => String::new(),
        };
        let installer = if has("-i") { "  installer=null" } else { "" };
        let uid = if has("-U") { format!(" uid:{}", installed.uid(uid_of)) } else { String::new() };
        format!("package:{file}{}{version}{installer}{uid}\n", installed.apk.package)
    });
    Output::success(lines.collect::<String>())
}

/// `create-user [options] name`
fn create_user(android: &Android, words: &[&str]) -> Output {
    let mut kind = Kind::Full;
    let mut words = words.iter().copied().peekable();
    while let Some(option) = words.next_if(|word| word.starts_with("--")) {
        match option {
            "--managed" => kind = Kind::Profile,
            "--profileOf" | "--user-type" => drop(words.next()),
            "--guest" | "--restricted" | "--ephemeral" | "--demo" | "--pre-create-only" | "--for-testing" => {}
            unknown => return Output::failure(1, format!("Error: unknown option {unknown}\n")),
        }
    }
    let Some(name) = words.next() else { return Output::failure(1, "Error: no user name specified.\n") };
    match android.state().users.create(name, kind) {
        Some(user) => Output::success(format!("Success: created user id {user}\n")),
        None => Output::failure(1, "Error: couldn't create User.\n"),
    }
}

/// `remove-user [--set-ephemeral-if-in-use] [--wait] id`
fn remove_user(android: &Android, words: &[&str]) -> Output {
    let Some(word) = words.iter().find(|word| !word.starts_with('-')) else {
        return Output::failure(1, "Error: no user id specified.\n");
    };
    let mut state = android.state();
    match Whose::parse(word) {
        Some(Whose::One(user)) if state.users.remove(user) => {
            state.packages.forget_user(user);
            Output::success("Success: removed user\n")
        }
        Some(Whose::One(user)) => Output::failure(1, format!("Error: couldn't remove user id {user}\n")),
        Some(Whose::All) | None => {
            thrown("remove-user", &format!("java.lang.IllegalArgumentException: Bad user number: {word}"))
        }
    }
}

/// `install-existing [--user id] package`: what one user has another one gets.
fn install_existing(android: &Android, name: &str, user: u32) -> Output {
    let mut state = android.state();
    if !state.users.has(user) {
        return no_such_user(user);
    }
    let missing = format!("android.content.pm.PackageManager$NameNotFoundException: Package {name} doesn't exist\n");
    match state.packages.get_mut(name) {
        Some(installed) => {
            installed.users.entry(user).or_default();
            Output::success(format!("Package {name} installed for user: {user}\n"))
        }
        None => Output { code: 1, ..Output::success(missing) },
    }
}

/// `clear [--user id] package`: with its data go its grants.
fn clear(android: &Android, name: &str, user: u32) -> Output {
    match android.state().packages.get_mut(name).and_then(|installed| installed.users.get_mut(&user)) {
        Some(granted) => {
            granted.clear();
            Output::success("Success\n")
        }
        None => Output { code: 1, ..Output::success("Failed\n") },
    }
}

/// What stands behind `install` or `install-create`.
#[derive(Default)]
struct Asked<'a> {
    options: InstallOptions,
    size: Option<u64>,
    file: Option<&'a str>,
}

/// Reads options; a wrong one is answered in Android's words.
fn options<'a>(android: &Android, command: &str, words: &[&'a str]) -> Result<Asked<'a>, Output> {
    /// Android 6 has permissions that an app gets only from its user.
    const SDK_WITH_GRANT: u32 = 23;
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
            "-g" if android.spec.sdk >= SDK_WITH_GRANT => asked.options.grant = true,
            "-f" | "-q" | "-R" | "--dont-kill" | "--force-queryable" | "--skip-verification" | "--full" => {}
            "--instant" | "--no-streaming" | "--fastdeploy" | "--bypass-low-target-sdk-block" => {}
            "--referrer" => asked.options.referrer = words.next().map(str::to_owned),
            "--user" => asked.options.whose = user_behind(command, words.next())?,
            "-i" | "--abi" | "--install-reason" | "--pkg" | "--install-location" => drop(words.next()),
            "-S" => match words.next().map(str::parse::<u64>) {
                Some(Ok(bytes)) => asked.size = Some(bytes),
                _ => return Err(Output::failure(1, "Error: -S wants the number of bytes\n")),
            },
            option if option.starts_with('-') && option != "-" => {
                let exception = format!("java.lang.IllegalArgumentException: Unknown option {option}");
                return Err(thrown(command, &exception));
            }
            "-" => {}
            path => asked.file = Some(path),
        }
    }
    match asked.options.whose {
        Whose::One(user) if !android.state().users.has(user) => Err(no_such_user(user)),
        _ => Ok(asked),
    }
}

/// `install [options] [-S size | file]`: with a size the APK comes by standard input.
async fn install(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    let asked = match options(android, "install", words) {
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
    let asked = match options(android, "install-create", words) {
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
fn change_permission(
    android: &Android,
    command: &str,
    name: &str,
    permission: &str,
    user: u32,
) -> Result<Output, Output> {
    let refused = |exception: String| Err(thrown(command, &exception));
    let mut state = android.state();
    let Some(installed) = state.packages.get_mut(name).filter(|installed| installed.is_for(Whose::One(user))) else {
        return refused(format!("java.lang.IllegalArgumentException: Unknown package: {name}"));
    };
    if !installed.apk.permissions.contains(permission) {
        return refused(format!(
            "java.lang.SecurityException: Package {name} has not requested permission {permission}"
        ));
    }
    if !is_from_its_user(permission) {
        return refused(format!(
            "java.lang.SecurityException: Permission {permission} requested by {name} is not a changeable permission type"
        ));
    }
    let granted = installed.users.entry(user).or_default();
    match command {
        "grant" => drop(granted.insert(permission.to_owned())),
        _ => drop(granted.remove(permission)),
    }
    Ok(Output::default())
}

fn no_such_user(user: u32) -> Output {
    Output::failure(1, format!("Error: user {user} doesn't exist.\n"))
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
