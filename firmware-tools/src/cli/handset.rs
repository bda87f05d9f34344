//! `rackbench handset`: one virtual phone on a USB bus until Ctrl-C.

use std::path::PathBuf;

use handset::Mode;
use miette::{IntoDiagnostic as _, Result};

use super::{interrupted, log_to_stderr};
use crate::phone::{AdbGeneration, Fault, Gadget, PhoneSpec, serve_bare, serve_fastboot, serve_on_usb};

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
    /// What is wrong with it from the start, such as slow-disk:512; not what spoils a line
    #[arg(long = "fault")]
    faults: Vec<Fault>,
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
        let spec = PhoneSpec {
            imei: self.imei,
            model: self.model,
            sdk: self.sdk,
            packages: self.packages,
            adb: AdbGeneration::Windowed,
            ..PhoneSpec::new(self.serial.clone(), self.serial)
        };
        let gadget = self.gadget.zip(self.udc).map(|(folder, controller)| Gadget { folder, controller });
        let folder = &self.functionfs;
        let serve = async {
            let mode = match self.mode {
                Answers::Android => Mode::Android,
                Answers::Recovery => Mode::Recovery,
                Answers::Sideload => Mode::Sideload,
                Answers::Rescue => Mode::Rescue,
                Answers::Fastboot => return serve_fastboot(folder, gadget).await,
                Answers::Bare => return serve_bare(folder, gadget).await,
            };
            serve_on_usb(spec, mode, folder, gadget, &self.faults).await
        };
        tokio::select! {
            served = serve => served.into_diagnostic(),
            asked = interrupted() => asked,
        }
    }
}
