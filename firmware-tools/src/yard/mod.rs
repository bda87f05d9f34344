//! A rack of a few phones with a daemon on it, and what its command line says: what checks by points work with.

mod centre;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Output;
use std::time::Duration;

use farmhand::rack::snapshot::{PhoneState, PhoneView, RolloutState, RolloutView};
use serde::Deserialize;
use toml::{Table, Value};

use crate::cable::Hand;
use crate::check::points::Place;
use crate::check::{Daemon, Miss, miss, until};
use crate::phone::{PhoneStateView, VirtualPhone};
use crate::ports::Addresses;
use crate::rack::Rack;
use crate::rack_file::RackFile;

pub(crate) use centre::HEARD_WITHIN;

/// The package of the test APKs.
pub(super) const PACKAGE: &str = "org.example.agent";
/// Who signed them.
const SIGNER: &str = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
/// A phone that is plugged in, found, opened and provisioned, on a host where other racks start as well.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A rollout of a few phones that nothing holds up.
pub(super) const DONE_WITHIN: Duration = Duration::from_secs(60);

/// What a rack is made of.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    phones: Vec<String>,
    rack: String,
    config: String,
    labels: Vec<(&'static str, &'static str)>,
}

impl Setup {
    /// So many phones with version 1, `A1`, `A2` and so on; everybody agrees to everything.
    pub(super) fn of(phones: usize) -> Self {
        let phones = vec!["packages = [\"agent-1.apk\"]\n".to_owned(); phones];
        Self { phones, rack: String::new(), config: String::new(), labels: Vec::new() }
    }

    /// Lines of the rack file for one of them, from 1, in place of its version 1.
    pub(super) fn phone(mut self, number: usize, lines: &str) -> Self {
        if let Some(phone) = number.checked_sub(1).and_then(|place| self.phones.get_mut(place)) {
            *phone = format!("{lines}\n");
        }
        self
    }

    /// What is wrong with one of them from the start, beside its version 1.
    pub(super) fn fault(self, number: usize, fault: &str) -> Self {
        self.phone(number, &format!("packages = [\"agent-1.apk\"]\nfaults = [\"{fault}\"]"))
    }

    /// More of the rack file.
    pub(super) fn rack(mut self, lines: &str) -> Self {
        self.rack += lines;
        self.rack.push('\n');
        self
    }

    /// With a central server that hears each phone every two seconds, and the APKs on an HTTP server.
    pub(super) fn central(self) -> Self {
        self.rack("[central]\nheartbeat_s = 2\nsilence_s_max = 20\n[files]\n").config("[rollout]\ngather_s = 1\n")
    }

    /// More of farmhand.toml; what it says counts before what a rack has by itself.
    pub(super) fn config(mut self, lines: &str) -> Self {
        self.config += lines;
        self.config.push('\n');
        self
    }

    /// A label of one slot.
    pub(super) fn label(mut self, slot: &'static str, label: &'static str) -> Self {
        self.labels.push((slot, label));
        self
    }

    fn rack_file(&self) -> String {
        let mut text = self.rack.clone();
        for (number, lines) in self.phones.iter().enumerate() {
            // Writing to a String can't fail.
            let _ = write!(text, "[[phone]]\nname = \"A{}\"\n{lines}", number + 1);
        }
        text
    }

    /// farmhand.toml as the rack wrote it, with what is said beyond.
    fn configured(&self, written: &str) -> Result<String, Miss> {
        let read =
            |text: &str| text.parse::<Table>().map_err(|error| miss("a farmhand.toml", format!("{error}: {text}")));
        let usual =
            format!("[agent]\npackage = \"{PACKAGE}\"\nsigners = [\"{SIGNER}\"]\n[rollout]\napprove = \"none\"\n");
        let mut table = read(written)?;
        merge(&mut table, read(&usual)?);
        // Each piece by itself, so that two may speak of one section.
        for piece in pieces(&self.config) {
            merge(&mut table, read(&piece)?);
        }
        for (slot, label) in &self.labels {
            let slots = table.get_mut("slot").and_then(Value::as_array_mut).into_iter().flatten();
            let named =
                slots.filter_map(Value::as_table_mut).find(|one| one.get("name").and_then(Value::as_str) == Some(slot));
            if let Some(named) = named {
                named.insert("labels".to_owned(), Value::Array(vec![Value::String((*label).to_owned())]));
            }
        }
        toml::to_string(&table).map_err(|error| miss("a farmhand.toml", error))
    }
}

/// The sections of a configuration, one by one.
fn pieces(config: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for line in config.lines() {
        match pieces.last_mut().filter(|_| !line.starts_with('[')) {
            Some(piece) => *piece += &format!("{line}\n"),
            None => pieces.push(format!("{line}\n")),
        }
    }
    pieces
}

fn merge(table: &mut Table, more: Table) {
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(more)) => merge(known, more),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// See the module.
pub(super) struct Yard {
    pub(super) rack: Rack,
    pub(super) daemon: Daemon,
    place: Place,
}

/// One phone of a rollout, as `farmhand rollout export` has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) wave: usize,
    pub(super) slot: Option<String>,
    pub(super) state: String,
    pub(super) attempts: u32,
    pub(super) why: Option<String>,
}

impl Yard {
    /// Starts rack and daemon, and waits until every phone is ready.
    pub(super) async fn start(place: &Place, setup: Setup) -> Result<Self, Miss> {
        let yard = Self::start_unready(place, setup).await?;
        yard.all_ready().await?;
        Ok(yard)
    }

    /// The same without waiting for the phones.
    pub(super) async fn start_unready(place: &Place, setup: Setup) -> Result<Self, Miss> {
        Self::start_within(place, setup, &[]).await
    }

    /// The same with other words before the daemon's own, such as those of `unshare`.
    pub(super) async fn start_within(place: &Place, setup: Setup, before: &[&str]) -> Result<Self, Miss> {
        let cannot = |error: &dyn std::fmt::Display| miss("a rack", error);
        std::fs::create_dir_all(&place.dir).map_err(|error| cannot(&error))?;
        let file = RackFile::parse(&setup.rack_file(), "the check's rack").map_err(|error| cannot(&error))?;
        let rack = Rack::start(file, Addresses::AnyFree, &place.apks, &place.dir.join("rack")).await;
        let rack = rack.map_err(|error| cannot(&error))?;
        let path = rack.config_file();
        let written = std::fs::read_to_string(&path).map_err(|error| cannot(&error))?;
        std::fs::write(&path, setup.configured(&written)?).map_err(|error| cannot(&error))?;
        let (state, log) = (place.dir.join("state"), place.dir.join("farmhand.log"));
        let daemon = Daemon::start_by(before, &place.farmhand, &path, &state, &log).await;
        let daemon = daemon.map_err(|error| miss("a daemon", error))?;
        Ok(Self { rack, daemon, place: place.clone() })
    }

    /// Ends the daemon in order; the rest ends by being dropped.
    pub(super) async fn stop(mut self, seen: String) -> Result<String, Miss> {
        self.daemon.stop().await;
        Ok(seen)
    }

    pub(super) async fn all_ready(&self) -> Result<(), Miss> {
        let names: Vec<String> = self.slots();
        self.ready(&names.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Waits until these are ready.
    pub(super) async fn ready(&self, slots: &[&str]) -> Result<(), Miss> {
        until(READY_WITHIN, "phones that are ready", async || {
            let phones = self.phones().await?;
            let is_ready = |slot: &&&str| phones.get(**slot).is_some_and(|phone| phone.state == PhoneState::Ready);
            let others: Vec<&str> = slots.iter().filter(|slot| !is_ready(slot)).copied().collect();
            if others.is_empty() { Ok(()) } else { Err(format!("not ready: {}", others.join(", "))) }
        })
        .await
    }

    /// `farmhand phones --json`, by slot.
    pub(super) async fn phones(&self) -> Result<BTreeMap<String, PhoneView>, String> {
        let views: Vec<PhoneView> = self.daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
        Ok(views.into_iter().filter_map(|view| Some((view.slot.as_ref()?.to_string(), view))).collect())
    }

    fn slots(&self) -> Vec<String> {
        self.rack.file().phones.iter().map(|phone| phone.name.clone()).collect()
    }

    /// The phone in a slot.
    pub(super) fn phone(&self, slot: &str) -> Result<&VirtualPhone, Miss> {
        self.rack.phone(slot).map(crate::cable::Cable::phone).ok_or_else(|| miss("a phone in the rack", slot))
    }

    /// What can be seen of the phone in a slot.
    pub(super) fn seen(&self, slot: &str) -> Result<PhoneStateView, Miss> {
        Ok(self.phone(slot)?.state())
    }

    /// The version of the agent on each phone, with the slots of those that have it.
    pub(super) fn versions(&self) -> String {
        let mut by_version: Vec<(String, Vec<String>)> = Vec::new();
        for slot in self.slots() {
            let packages = self.rack.phone(&slot).map(|cable| cable.phone().state().packages).unwrap_or_default();
            let version = packages.get(PACKAGE).map_or_else(|| "none".to_owned(), |(code, _)| code.to_string());
            match by_version.iter_mut().find(|(known, _)| *known == version) {
                Some((_, slots)) => slots.push(slot),
                None => by_version.push((version, vec![slot])),
            }
        }
        let each = by_version.into_iter().map(|(version, slots)| format!("{} on {version}", slots.join(" ")));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Expects exactly these versions on the phones.
    pub(super) fn expect_versions(&self, expected: &str) -> Result<(), Miss> {
        let seen = self.versions();
        if seen == expected { Ok(()) } else { Err(miss(expected, seen)) }
    }

    /// Expects that no phone was installed on, or asked to.
    pub(super) fn expect_untouched(&self) -> Result<(), Miss> {
        for slot in self.slots() {
            let seen = self.seen(&slot)?;
            if (seen.installs, seen.installs_failed, seen.sessions) != (0, 0, 0) {
                return Err(miss(
                    "no phone touched",
                    format!("{slot}: {} installs, {} failed", seen.installs, seen.installs_failed),
                ));
            }
        }
        Ok(())
    }

    /// Approves a rollout of the centre's, if it waits for that.
    pub(super) async fn settle(&self, id: &str) -> Result<(), Miss> {
        let state = until(DONE_WITHIN, "a rollout that was fetched", async || {
            let view = self.view(id).await?;
            match view.state {
                RolloutState::Gathering | RolloutState::Fetching => Err(view.state.as_str().to_owned()),
                state => Ok(state),
            }
        })
        .await?;
        if state == RolloutState::WaitingApproval {
            self.tell(&["rollout", "approve", id]).await?;
        }
        Ok(())
    }

    /// Pulls the cable of a slot's phone out.
    pub(super) async fn unplug(&self, slot: &str) -> Result<(), Miss> {
        self.hold(slot, Hand::Out).await?;
        until(DONE_WITHIN, &format!("{slot} away"), async || {
            let state = self.phones().await?.get(slot).map(|phone| phone.state);
            if state == Some(PhoneState::Ready) { Err("ready".to_owned()) } else { Ok(()) }
        })
        .await
    }

    /// Puts it in again.
    pub(super) async fn plug(&self, slot: &str) -> Result<(), Miss> {
        self.hold(slot, Hand::In).await
    }

    async fn hold(&self, slot: &str, hand: Hand) -> Result<(), Miss> {
        let cable = self.rack.phone(slot).ok_or_else(|| miss("a phone in the rack", slot))?;
        cable.hold(hand).await.map_err(|error| miss("a cable that moves", error))
    }

    /// The path of an APK of the check.
    pub(super) fn apk(&self, name: &str) -> String {
        self.place.apks.join(name).display().to_string()
    }

    /// A command of the command line.
    pub(super) async fn run(&self, words: &[&str]) -> Result<Output, Miss> {
        self.daemon.run_within(words, DONE_WITHIN * 2).await.map_err(|error| miss("an end of the command", error))
    }

    /// What a command says that succeeds.
    pub(super) async fn tell(&self, words: &[&str]) -> Result<String, Miss> {
        let output = self.run(words).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let seen = format!("{}: {} {}", output.status, sentence(&output.stderr), sentence(&output.stdout));
        Err(miss(&format!("`farmhand {}` to succeed", words.join(" ")), seen))
    }

    /// What a command says that is refused.
    pub(super) async fn refused(&self, words: &[&str]) -> Result<String, Miss> {
        let output = self.run(words).await?;
        if output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(miss(&format!("`farmhand {}` to be refused", words.join(" ")), said));
        }
        Ok(sentence(&output.stderr))
    }

    /// `farmhand rollout start APK …`, with further words; what it says.
    pub(super) async fn begin(&self, apk: &str, words: &[&str]) -> Result<String, Miss> {
        let apk = self.apk(apk);
        self.tell(&[&["rollout", "start", &apk], words].concat()).await
    }

    /// `farmhand rollout show ID --wait`: the exit code for scripts.
    pub(super) async fn wait(&self, id: &str) -> Result<i32, Miss> {
        let output = self.run(&["rollout", "show", id, "--wait", "--timeout", "100s"]).await?;
        Ok(output.status.code().unwrap_or(-1))
    }

    /// Waits, and expects this exit code.
    pub(super) async fn wait_for(&self, id: &str, code: i32) -> Result<(), Miss> {
        let seen = self.wait(id).await?;
        if seen == code {
            return Ok(());
        }
        let shown = self.tell(&["rollout", "show", id]).await.unwrap_or_default();
        Err(miss(&format!("exit code {code} of the wait for {id}"), format!("{seen}: {shown}")))
    }

    /// `farmhand rollout list --json`
    pub(super) async fn rollouts(&self) -> Result<Vec<RolloutView>, String> {
        self.daemon.ask(&["rollout", "list", "--json"]).await.map_err(|error| error.to_string())
    }

    /// `farmhand rollout show ID --json`
    pub(super) async fn view(&self, id: &str) -> Result<RolloutView, String> {
        self.daemon.ask(&["rollout", "show", id, "--json"]).await.map_err(|error| error.to_string())
    }

    /// `farmhand rollout export ID --format json`
    pub(super) async fn rows(&self, id: &str) -> Result<Vec<Row>, String> {
        let words = ["rollout", "export", id, "--format", "json"];
        self.daemon.ask(&words).await.map_err(|error| error.to_string())
    }

    pub(super) async fn row(&self, id: &str, slot: &str) -> Result<Row, String> {
        let rows = self.rows(id).await?;
        rows.into_iter()
            .find(|row| row.slot.as_deref() == Some(slot))
            .ok_or_else(|| format!("no row of {slot} in {id}"))
    }

    /// The waves with their slots: `A1 | A2 A3`; who is left out is not in them.
    pub(super) async fn waves(&self, id: &str) -> Result<String, String> {
        let mut waves: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for row in self.rows(id).await?.into_iter().filter(|row| row.state != "skipped") {
            waves.entry(row.wave).or_default().push(row.slot.unwrap_or_default());
        }
        let each = waves.into_values().map(|mut slots| {
            slots.sort_unstable();
            slots.join(" ")
        });
        Ok(each.collect::<Vec<_>>().join(" | "))
    }

    /// Waits for a state of a rollout, and gives why it is in it.
    pub(super) async fn becomes(&self, id: &str, wanted: RolloutState) -> Result<String, Miss> {
        until(DONE_WITHIN, &format!("{id} {}", wanted.as_str()), async || {
            let view = self.view(id).await?;
            if view.state == wanted { Ok(view.why) } else { Err(format!("{} ({})", view.state.as_str(), view.why)) }
        })
        .await
    }

    /// Waits until the phone of a slot is so in a rollout, and says why.
    pub(super) async fn row_becomes(&self, id: &str, slot: &str, state: &str, limit: Duration) -> Result<Row, Miss> {
        until(limit, &format!("{slot} {state} in {id}"), async || {
            let row = self.row(id, slot).await?;
            if row.state == state { Ok(row) } else { Err(format!("{} ({})", row.state, row.why.unwrap_or_default())) }
        })
        .await
    }

    /// Waits until the phone of a slot waits for something that its reason names.
    pub(super) async fn waits_for(&self, id: &str, slot: &str, wanted: &str) -> Result<String, Miss> {
        until(DONE_WITHIN, &format!("{slot} of {id} to wait, with `{wanted}`"), async || {
            let row = self.row(id, slot).await?;
            let why = row.why.unwrap_or_default();
            if row.state == "waiting" && why.contains(wanted) { Ok(why) } else { Err(format!("{} ({why})", row.state)) }
        })
        .await
    }

    /// Which phones ask on their screen whether they may install: those on which an install is under way.
    pub(super) fn asking(&self) -> String {
        let asks = |slot: &String| self.rack.phone(slot).is_some_and(|cable| cable.phone().state().questions > 0);
        self.slots().into_iter().filter(asks).collect::<Vec<_>>().join(" ")
    }

    /// Waits until exactly these ask.
    pub(super) async fn asks(&self, slots: &str) -> Result<(), Miss> {
        until(DONE_WITHIN, &format!("installs under way on {slots}"), async || {
            let seen = self.asking();
            if seen == slots { Ok(()) } else { Err(format!("on `{seen}`")) }
        })
        .await
    }
}

/// What a person reads of an error, in one line.
pub(super) fn sentence(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr).replace(['│', '×'], " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Expects words in a text, and gives the text in one line.
pub(super) fn said(text: &str, words: &[&str]) -> Result<String, Miss> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.iter().find(|word| !line.contains(**word)) {
        None => Ok(line),
        Some(missing) => Err(miss(&format!("`{missing}`"), line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beyond_counts_and_sections_may_come_twice() {
        let setup =
            Setup::of(2).config("[rollout]\napprove = \"each\"").config("[rollout]\nsoak_s = 3").label("A2", "top");
        let text =
            setup.configured("[rollout]\nwaves = [1]\n[[slot]]\nname = \"A1\"\n[[slot]]\nname = \"A2\"\n").unwrap();
        let table: Table = text.parse().unwrap();
        let rollout = table["rollout"].as_table().unwrap();
        assert_eq!((rollout["approve"].as_str(), rollout["soak_s"].as_integer()), (Some("each"), Some(3)));
        assert_eq!(rollout["waves"].as_array().map(Vec::len), Some(1));
        assert_eq!(table["slot"][1]["labels"][0].as_str(), Some("top"));
    }

    #[test]
    fn an_error_is_one_sentence() {
        let text = "apk.package\n\n  × x.apk is refused: it is\n  │ another\n  help: none\n";
        assert_eq!(sentence(text.as_bytes()), "apk.package x.apk is refused: it is another help: none");
    }
}
