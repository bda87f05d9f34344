//! A virtual phone on a USB bus: the same Android behind the kernel's FunctionFS.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use handset::{Authorisation, Fastboot, FunctionFs, Handset, KeyStore, Mode, SourceSink, UnknownKey};

use super::android::Android;
use super::battery::Power;
use super::faults::Fault;
use super::spec::PhoneSpec;
use super::tunnels::Tunnels;
use super::{Behind, installed, named, port, seconds};

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

/// Serves a phone in `folder`, a mounted FunctionFS, until the function is taken away. What its spec says of addresses means
/// nothing here, nor does a fault that spoils a line.
///
/// # Errors
/// An APK or key of the spec can't be used, there is no FunctionFS, or the gadget can't be bound; the error names it.
pub async fn serve(
    spec: PhoneSpec,
    mode: Mode,
    folder: &Path,
    gadget: Option<Gadget>,
    faults: &[Fault],
) -> io::Result<()> {
    let android = installed(spec)?;
    android.faults.send_modify(|wrong| faults.iter().for_each(|fault| wrong.add(fault.clone())));
    android.set_power(Power::Usb);
    let refuses = android.faults.borrow().refuses_auth;
    let authorisation = match refuses {
        true => Authorisation::Keys(KeyStore::new([], UnknownKey::Ignore)),
        false => port::authorisation(&android.spec.auth)?,
    };
    let profile = port::profile(&android.spec, android.product()).in_mode(mode);
    let behind = Behind { android: Arc::clone(&android), tunnels: Arc::<Tunnels>::default() };
    let handset = Handset::new(Arc::new(behind), profile, authorisation);
    let mut function = named(folder.display(), FunctionFs::open(folder, handset.terms()))?;
    if let Some(gadget) = &gadget {
        gadget.plug()?;
    }
    let mut serving = pin!(function.serve(&handset));
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            () = android.restart.notified() => restart(&android, gadget.as_ref()).await?,
        }
    }
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
