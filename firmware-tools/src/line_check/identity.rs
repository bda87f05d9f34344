//! What a phone registers as.

use farmhand::central::proto::{EnumMsgType as Type, PostDeviceInfoNoticeMessage};
use farmhand::rack::snapshot::{LineState, LineView};

use super::capture::Capture;
use super::rig::{missed, site};
use super::yard::{HEARD_WITHIN, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "identity.imei",
    "identity.serial",
    "identity.map",
    "identity.import",
    "identity.set",
    "identity.needed",
    "identity.send_sim",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "identity.imei" => registers(place, "[central.identity]\ncredential = \"imei\"", "350000000000001").await,
        "identity.serial" => registers(place, "[central.identity]\ncredential = \"serial\"", "VIRTUALA1").await,
        "identity.map" => map(place).await,
        "identity.import" => import(place).await,
        "identity.set" => set(place).await,
        "identity.needed" => needed(place).await,
        "identity.send_sim" => send_sim(place).await,
        other => unwritten(other),
    }
}

impl Yard {
    /// Waits until exactly these have a session at the centre.
    async fn knows(&self, credentials: &[&str]) -> Result<(), Miss> {
        until(HEARD_WITHIN, &format!("sessions of {}", credentials.join(", ")), async || {
            let record = self.centre().map_err(|miss| miss.to_string())?.record();
            let open: Vec<&str> = record
                .devices
                .iter()
                .filter(|(_, device)| device.connected && device.device_infos > 0)
                .map(|(name, _)| name.as_str())
                .collect();
            if open == credentials { Ok(()) } else { Err(format!("of {open:?}")) }
        })
        .await
    }

    /// Waits until a phone is shown so, and gives the reason; `farmhand line` must say it in these words.
    async fn needs_identity(&self, slot: &str) -> Result<String, Miss> {
        let is = |line: &LineView| line.state == LineState::NeedsIdentity;
        let line = self.line_becomes(slot, &format!("{slot} in need of an identity"), HEARD_WITHIN, is).await?;
        let shown = self.tell(&["line", slot]).await?;
        if shown.contains("needs identity") || shown.contains("needs_identity") {
            return Ok(line.why);
        }
        Err(miss("`needs identity` in `farmhand line`", shown))
    }
}

async fn registers(place: &Place, config: &str, credential: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "").config(config)).await?;
    yard.knows(&[credential]).await?;
    yard.stop(format!("A1 registers as {credential}")).await
}

/// A table of the owner's, by slot and by serial.
async fn map(place: &Place) -> Result<String, Miss> {
    let file = place.dir.join("phones.csv");
    std::fs::create_dir_all(&place.dir).map_err(missed("a folder"))?;
    std::fs::write(&file, "phone,credential\n# by slot, then by serial\nA1,rack-a1\nVIRTUALA2,rack-a2\n")
        .map_err(missed("a table"))?;
    let config = format!("[central.identity]\ncredential = \"map\"\nmap = \"{}\"", file.display());
    let yard = Yard::start(place, site(place, 3, "").config(&config)).await?;
    yard.knows(&["rack-a1", "rack-a2"]).await?;
    let left = yard.line("A3").await.map_err(missed("the line of A3"))?;
    if left.state != LineState::NeedsIdentity {
        return Err(miss("A3 in need of an identity", format!("{left:?}")));
    }
    yard.stop(format!("rack-a1 by its slot, rack-a2 by its serial; A3: {}", left.why)).await
}

/// `farmhand phones import` counts before the configuration, at once and over a restart.
async fn import(place: &Place) -> Result<String, Miss> {
    let mut yard = Yard::start(place, site(place, 2, "")).await?;
    yard.registered("A1").await?;
    let file = place.dir.join("import.csv");
    std::fs::write(&file, "phone,credential\nA1,imported-a1\nVIRTUALA2,imported-a2\n").map_err(missed("a table"))?;
    let said = yard.tell(&["phones", "import", &file.display().to_string()]).await?;
    yard.knows(&["imported-a1", "imported-a2"]).await?;
    yard.daemon.kill().await.map_err(missed("a kill"))?;
    yard.daemon.start_again().await.map_err(missed("a daemon again"))?;
    yard.knows(&["imported-a1", "imported-a2"]).await?;
    std::fs::write(&file, "phone,credential\nA1,twice\nA2,twice\n").map_err(missed("a table"))?;
    let refused = yard.refused(&["phones", "import", &file.display().to_string()]).await?;
    yard.stop(format!("{}; after kill -9, too; one that is claimed twice: {refused}", said.trim())).await
}

async fn set(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.knows(&["350000000000001"]).await?;
    yard.tell(&["phone", "A1", "identity", "set", "490154203237518"]).await?;
    yard.knows(&["490154203237518"]).await?;
    let audit = yard.tell(&["audit", "A1"]).await?;
    said(&audit, &["its identity was set"])?;
    yard.tell(&["phone", "A1", "identity", "forget"]).await?;
    yard.knows(&["350000000000001"]).await?;
    yard.stop("set, registered anew at once, in the audit; forgotten again".to_owned()).await
}

/// A phone that the table does not name, and one that would be what another already is.
async fn needed(place: &Place) -> Result<String, Miss> {
    let map = "[central.identity]\ncredential = \"map\"\n[central.identity.map]\nA1 = \"one\"\nA2 = \"one-too\"";
    let yard = Yard::start(place, site(place, 3, "").config(map)).await?;
    yard.knows(&["one", "one-too"]).await?;
    let unnamed = yard.needs_identity("A3").await?;
    yard.tell(&["phone", "A3", "identity", "set", "three"]).await?;
    yard.knows(&["one", "one-too", "three"]).await?;
    let taken = yard.refused(&["phone", "A2", "identity", "set", "three"]).await?;
    yard.tell(&["phone", "A3", "identity", "forget"]).await?;
    yard.tell(&["phone", "A2", "identity", "set", "one"]).await?;
    let second = yard.needs_identity("A2").await?;
    yard.knows(&["one"]).await?;
    yard.stop(format!("A3: {unnamed}; taken: {taken}; A2: {second}")).await
}

/// SIM numbers and IMSI are told only where the owner says so.
async fn send_sim(place: &Place) -> Result<String, Miss> {
    let without = sim_told(&inner(place, "without"), "").await?;
    let with = sim_told(&inner(place, "with"), "[central.identity]\nsend_sim = true").await?;
    let (none, sim) = ((String::new(), String::new()), ("262010000000001".to_owned(), "+491710000001".to_owned()));
    if (&without, &with) == (&none, &sim) {
        return Ok(format!("without it neither; with it IMSI {}, number {}", with.0, with.1));
    }
    Err(miss("neither without send_sim, both with it", format!("{without:?}, {with:?}")))
}

/// IMSI1 and Number1 as they were told last.
async fn sim_told(place: &Place, config: &str) -> Result<(String, String), Miss> {
    let yard = Yard::start(place, site(place, 1, "").config(config)).await?;
    yard.registered("A1").await?;
    let posted = Capture::of(place).said(Type::PostDeviceInfoNotice);
    let last = posted.last().ok_or_else(|| miss("PostDeviceInfoNotice", "none"))?;
    let info: PostDeviceInfoNoticeMessage = last.body().map_err(missed("its body"))?;
    yard.stop(String::new()).await?;
    Ok((info.imsi1, info.number1))
}

/// A rack of its own within a point.
fn inner(place: &Place, name: &str) -> Place {
    Place { dir: place.dir.join(name), ..place.clone() }
}
