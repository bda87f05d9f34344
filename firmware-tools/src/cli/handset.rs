//! `rackbench handset`: one virtual phone on a USB bus until Ctrl-C.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use handset::Mode;
use miette::{Context as _, IntoDiagnostic as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{interrupted, log_to_stderr};
use crate::phone::{AdbGeneration, Auth, Fault, Gadget, PhoneSpec, Tunnels, serve_bare, serve_fastboot, serve_on_usb};

/// Put one virtual phone on a USB bus, by the kernel's FunctionFS
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The mounted FunctionFS of its function
    #[arg(long, value_name = "DIR")]
    functionfs: PathBuf,
    /// ro.serialno
    #[arg(long)]
    serial: String,
    /// Its IMEI; it has no modem without
    #[arg(long)]
    imei: Option<String>,
    /// What answers on it
    #[arg(long, value_enum, default_value_t = Answers::Android)]
    mode: Answers,
    /// ro.product.model
    #[arg(long, default_value = "Pixel 6a")]
    model: String,
    /// ro.build.version.sdk
    #[arg(long, default_value_t = 34)]
    sdk: u32,
    /// APKs that are installed on it
    #[arg(long = "package", value_name = "APK")]
    packages: Vec<PathBuf>,
    /// Whom it lets in: `off` is everybody, `ask:5` whoever has a key, as its user allows it after 5 s, `known:adbkey.pub` one key
    #[arg(long, default_value = "off", value_parser = auth)]
    auth: Auth,
    /// What is wrong with it, such as slow-disk:512
    #[arg(long = "fault")]
    faults: Vec<Fault>,
    /// A file with more that is wrong, one in a line; it is read again at each SIGHUP
    #[arg(long, value_name = "FILE")]
    faults_file: Option<PathBuf>,
    /// Where its reverse tunnels are written, a line `serial local remote` for each
    #[arg(long, value_name = "FILE")]
    tunnels: Option<PathBuf>,
    /// Its gadget's folder in configfs: with it the phone plugs itself in, and leaves the bus to restart
    #[arg(long, requires = "udc", value_name = "DIR")]
    gadget: Option<PathBuf>,
    /// The device controller for its gadget, such as dummy_udc.0
    #[arg(long, requires = "gadget")]
    udc: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Answers {
    Android,
    /// The recovery system at its menu
    Recovery,
    /// The recovery system, which waits for `adb sideload`
    Sideload,
    /// The recovery system after Android failed to start
    Rescue,
    /// The bootloader, which waits for `fastboot`; it answers no command
    Fastboot,
    /// Nothing: whatever comes is taken, and zeros are sent without end
    Bare,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("info");
        let folder = &self.functionfs;
        let serve = async {
            let mode = match self.mode {
                Answers::Android => Mode::Android,
                Answers::Recovery => Mode::Recovery,
                Answers::Sideload => Mode::Sideload,
                Answers::Rescue => Mode::Rescue,
                Answers::Fastboot => return serve_fastboot(folder, self.gadget()).await.into_diagnostic(),
                Answers::Bare => return serve_bare(folder, self.gadget()).await.into_diagnostic(),
            };
            self.serve(mode).await
        };
        tokio::select! {
            served = serve => served,
            asked = interrupted() => asked,
        }
    }

    async fn serve(&self, mode: Mode) -> Result<()> {
        let spec = PhoneSpec {
            imei: self.imei.clone(),
            model: self.model.clone(),
            sdk: self.sdk,
            packages: self.packages.clone(),
            auth: self.auth.clone(),
            adb: AdbGeneration::Windowed,
            ..PhoneSpec::new(self.serial.clone(), self.serial.clone())
        };
        let tunnels = Arc::new(self.tunnels.clone().map(Tunnels::written_to).unwrap_or_default());
        let (wrong, faults) = watch::channel(self.faults()?);
        let changes = async {
            let mut asked = signal(SignalKind::hangup()).into_diagnostic()?;
            while asked.recv().await.is_some() {
                wrong.send_replace(self.faults()?);
            }
            Ok(())
        };
        tokio::select! {
            served = serve_on_usb(spec, mode, &self.functionfs, self.gadget(), tunnels, faults) => served.into_diagnostic(),
            ended = changes => ended,
        }
    }

    fn gadget(&self) -> Option<Gadget> {
        self.gadget.clone().zip(self.udc.clone()).map(|(folder, controller)| Gadget { folder, controller })
    }

    /// What is wrong with it now.
    fn faults(&self) -> Result<Vec<Fault>> {
        let Some(file) = &self.faults_file else { return Ok(self.faults.clone()) };
        let more = read_faults(file).wrap_err_with(|| file.display().to_string())?;
        Ok([&self.faults[..], &more].concat())
    }
}

fn read_faults(file: &Path) -> Result<Vec<Fault>> {
    let text = std::fs::read_to_string(file).into_diagnostic()?;
    text.lines().map(|line| Fault::from_str(line).into_diagnostic()).collect()
}

/// What stands behind `--auth`.
fn auth(text: &str) -> Result<Auth, String> {
    match text.split_once(':') {
        None if text == "off" => Ok(Auth::Off),
        Some(("ask", seconds)) => {
            let accept_after_s = seconds.parse().map_err(|_| format!("`{seconds}` is no number of seconds"))?;
            Ok(Auth::Ask { accept_after_s })
        }
        Some(("known", file)) => Ok(Auth::Known(vec![file.into()])),
        _ => Err("there are off, ask:SECONDS and known:FILE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_lets_in_can_be_said() {
        assert_eq!(auth("off"), Ok(Auth::Off));
        assert_eq!(auth("ask:0.5"), Ok(Auth::Ask { accept_after_s: 0.5 }));
        assert_eq!(auth("known:keys/adbkey.pub"), Ok(Auth::Known(vec!["keys/adbkey.pub".into()])));
        assert_eq!(auth("ask:soon"), Err("`soon` is no number of seconds".to_owned()));
        assert!(auth("on").unwrap_err().contains("known:FILE"));
    }

    #[test]
    fn each_line_of_a_file_is_a_fault() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(read_faults(file.path()).unwrap(), []);
        std::fs::write(file.path(), "wrong-magic\nslow-disk:9\n").unwrap();
        assert_eq!(read_faults(file.path()).unwrap(), [Fault::WrongMagic, Fault::SlowDisk { kib_per_s: 9 }]);
        std::fs::write(file.path(), "wrong-magick\n").unwrap();
        assert!(read_faults(file.path()).unwrap_err().to_string().contains("no fault is called `wrong-magick`"));
    }
}
