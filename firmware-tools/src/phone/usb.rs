//! A virtual phone on a USB bus: the same Android behind the kernel's FunctionFS.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use handset::{Authorisation, Carrier, Fastboot, FunctionFs, Handset, KeyStore, Mode, SourceSink, UnknownKey};
use tokio::sync::watch;

use super::android::Android;
use super::battery::Power;
use super::faults::{Fault, Faults};
use super::spec::PhoneSpec;
use super::tunnels::Tunnels;
use super::{Behind, installed, line, named, port, seconds};

/// The gadget that a phone's function belongs to, so that the phone can plug itself in and restart.
#[derive(Clone, Debug)]
pub struct Gadget {
    /// Its folder in configfs.
    pub folder: PathBuf,
    /// The device controller that it is bound to, such as `dummy_udc.0`.
    pub controller: String,
}

impl Gadget {
    fn plug(&self) -> io::Result<()> {
        self.bind(&self.controller)
    }

    fn unplug(&self) -> io::Result<()> {
        self.bind("")
    }

    fn bind(&self, controller: &str) -> io::Result<()> {
        let file = self.folder.join("UDC");
        named(file.display(), std::fs::write(&file, format!("{controller}\n")))
    }
}

/// Serves a bootloader that waits for `fastboot` in `folder`, a mounted FunctionFS. It never ends.
///
/// # Errors
/// There is no FunctionFS, or the gadget can't be bound; the error names it.
pub async fn serve_fastboot(folder: &Path, gadget: Option<Gadget>) -> io::Result<()> {
    let _function = named(folder.display(), Fastboot::open(folder))?;
    if let Some(gadget) = gadget {
        gadget.plug()?;
    }
    std::future::pending().await
}

/// Serves a function over which bytes come and go, in `folder`, a mounted FunctionFS. It never ends.
///
/// # Errors
/// As [`serve_fastboot`].
pub async fn serve_bare(folder: &Path, gadget: Option<Gadget>) -> io::Result<()> {
    named(folder.display(), SourceSink::serve(folder))?;
    if let Some(gadget) = gadget {
        gadget.plug()?;
    }
    std::future::pending().await
}

/// Serves a phone in `folder`, a mounted FunctionFS, until the function is taken away. `faults` is all that is wrong with it now; its
/// cable is the gadget's, so that `unplugs-after` means nothing here, nor does what its spec says of addresses.
///
/// # Errors
/// An APK or key of the spec can't be used, there is no FunctionFS, or the gadget can't be bound; the error names it.
pub async fn serve(
    spec: PhoneSpec,
    mode: Mode,
    folder: &Path,
    gadget: Option<Gadget>,
    tunnels: Arc<Tunnels>,
    mut faults: watch::Receiver<Vec<Fault>>,
) -> io::Result<()> {
    let android = installed(spec)?;
    android.faults.send_replace(Faults::of(&faults.borrow_and_update()));
    android.set_power(Power::Usb);
    let refuses = android.faults.borrow().refuses_auth;
    let authorisation = match refuses {
        true => Authorisation::Keys(KeyStore::new([], UnknownKey::Ignore)),
        false => port::authorisation(&android.spec.auth)?,
    };
    let profile = port::profile(&android.spec, android.product()).in_mode(mode);
    let behind = Behind::new(Arc::clone(&android), tunnels);
    let handset = Handset::new(Arc::new(behind), profile, authorisation);
    let mut function = named(folder.display(), FunctionFs::open(folder, handset.terms(), carrier(&android)))?;
    if let Some(gadget) = &gadget {
        gadget.plug()?;
    }
    let mut serving = pin!(function.serve(&handset));
    loop {
        let stalls = android.faults.borrow().stalls;
        tokio::select! {
            // A session that is not polled neither reads nor answers: that is a phone that hangs.
            () = &mut serving, if !stalls => return Ok(()),
            () = android.restart.notified() => restart(&android, gadget.as_ref()).await?,
            Ok(()) = faults.changed() => drop(android.faults.send_replace(Faults::of(&faults.borrow_and_update()))),
        }
    }
}

/// Spoils what goes to the host by what is wrong with the phone at that moment.
fn carrier(android: &Android) -> Carrier {
    let faults = android.faults.subscribe();
    Box::new(move |header, payload| line::transfers(header, payload, faults.borrow().spoils))
}

/// Away from the bus and back, where the phone can; Android starts anew in any case.
async fn restart(android: &Android, gadget: Option<&Gadget>) -> io::Result<()> {
    android.goes_down();
    if let Some(gadget) = gadget {
        gadget.unplug()?;
    }
    tokio::time::sleep(seconds(android.spec.reboot_away_s)).await;
    // The sender lives as long as the phone.
    let _ = android.faults.subscribe().wait_for(|faults| !faults.never_comes_back).await;
    if let Some(gadget) = gadget {
        gadget.plug()?;
    }
    tokio::time::sleep(seconds(android.spec.boot_s)).await;
    android.state().booted = true;
    Ok(())
}
