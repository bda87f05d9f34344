//! `rackbench demo`: the demo's rack with the real daemon on it, for a person, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{IntoDiagnostic as _, Result, WrapErr as _, miette};

use super::{demo_rack, interrupted, log_to_stderr, say};
use crate::check::Daemon;
use crate::control::Control;
use crate::ports::Addresses;
use crate::rack::{Rack, test_apks};
use crate::rack_file::RackFile;

/// Run the demo's rack and the real daemon on it until Ctrl-C
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's binary
    #[arg(long)]
    farmhand: PathBuf,
    /// The rack file; the demo's by default
    #[arg(long)]
    file: Option<PathBuf>,
    /// Where the rack, the daemon's state (anew at each start) and its log are
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("warn");
        let file = RackFile::read(&self.file.unwrap_or_else(demo_rack))?;
        let (rack_dir, state) = (self.dir.join("rack"), self.dir.join("state"));
        std::fs::create_dir_all(&self.dir).into_diagnostic()?;
        // The rack's phones are as new at each start; a daemon that remembers others would only confuse.
        if let Err(error) = std::fs::remove_dir_all(&state)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).into_diagnostic().wrap_err_with(|| format!("{} is in use", state.display()));
        }
        let rack = Rack::start(file, Addresses::PreferWritten, &test_apks(), &rack_dir).await.into_diagnostic()?;
        let rack = Arc::new(rack);
        let _control = Control::start(Arc::clone(&rack), &rack_dir).into_diagnostic()?;
        let log = self.dir.join("farmhand.log");
        // The daemon's log is appended to, for it may be started again; each demo begins its own.
        std::fs::File::create(&log)
            .into_diagnostic()
            .wrap_err_with(|| format!("{} cannot be written", log.display()))?;
        let mut daemon = Daemon::start(&self.farmhand, &rack.config_file(), &state, &log).await.into_diagnostic()?;
        say(format_args!("{}", what_to_try(&rack, &self.farmhand, &self.dir)))?;
        tokio::select! {
            interrupted = interrupted() => interrupted?,
            ended = daemon.ended() => {
                let status = ended.into_diagnostic().wrap_err("the daemon cannot be waited for")?;
                return Err(miette!("the daemon ended by itself with {status}; its log: {}", log.display()));
            }
        }
        daemon.stop().await;
        Ok(())
    }
}

/// Commands that can be pasted as they are, in the order of a tour.
fn what_to_try(rack: &Rack, farmhand: &Path, dir: &Path) -> String {
    // As it was typed, so that what is printed can be pasted into the same terminal.
    let rackbench = std::env::args_os().next().map_or_else(|| "rackbench".into(), PathBuf::from);
    let ctl = format!("{} ctl --dir {}", rackbench.display(), dir.join("rack").display());
    let farmhand = format!("{} --state {}", farmhand.display(), dir.join("state").display());
    let page = rack.page().unwrap_or_else(|| "this rack file has no [web]".to_owned());
    let (imei, rack_dir) = (rack.imei("P1").unwrap_or_default(), dir.join("rack").display().to_string());
    let agent = format!(
        "{} agent --phone P1 --imei {imei} --tunnels {rack_dir}/tunnels --rack {rack_dir} --notice-every-ms 5000",
        rackbench.display()
    );
    let phone = rack.phone("P1").map_or_else(String::new, |cable| cable.phone().address().to_string());
    let broker = rack.broker().map_or(0, |broker| broker.address().port());
    format!(
        "\n  The rack is alive. Its page: {page}\n\n\
         Look at it:\n\
         \x20 {farmhand} phones\n\
         \x20 {farmhand} hubs\n\
         \x20 mosquitto_sub -p {broker} -v -t 'farmhand/#'\n\n\
         Look into a phone by Google's own adb, beside the daemon:\n\
         \x20 adb connect {phone} && adb -s {phone} shell getprop ro.product.model; adb disconnect {phone}\n\n\
         Pull a cable out, and put it in again:\n\
         \x20 {ctl} phone P3 unplug\n\
         \x20 {ctl} phone P3 plug\n\n\
         Switch a hub's port off, and on again; cut the hub's line:\n\
         \x20 {farmhand} hub H1 port 3 off\n\
         \x20 {farmhand} hub H1 port 3 sync\n\
         \x20 {ctl} hub H1 cut\n\
         \x20 {ctl} hub H1 restore\n\n\
         Kill the central server, and start it again:\n\
         \x20 {ctl} central stop\n\
         \x20 {ctl} central start\n\n\
         Be the agent on a phone, in another terminal; what it says, and what it may be told to do:\n\
         \x20 {agent}\n\
         \x20 {farmhand} line\n\
         \x20 {farmhand} policy show\n\
         \x20 {farmhand} policy explain TalkToFriendTask\n\
         \x20 {farmhand} audit\n\n\
         Let the centre ask four phones for an upgrade, of which one will fail; approve it; once it pauses, heal the phone, resume:\n\
         \x20 {ctl} phone P2 fault install-fails:INSTALL_FAILED_INVALID_APK\n\
         \x20 {ctl} central upgrade --apk agent-2.apk P1 P2 P3 P4\n\
         \x20 {farmhand} rollout list\n\
         \x20 {farmhand} rollout approve R1\n\
         \x20 {farmhand} rollout show R1\n\
         \x20 {ctl} phone P2 clear\n\
         \x20 {farmhand} rollout resume R1\n\n\
         Its log: {}\n\
         Ctrl-C ends everything.\n",
        dir.join("farmhand.log").display()
    )
}
