//! `farmhand rollout export`: what became of each phone, for other programs.

use clap::ValueEnum;
use serde::Serialize;

use super::super::paper::json;
use super::watch::Slots;
use crate::rack::ids::{PackageName, PhoneId, RolloutId, SlotName, VersionCode};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState, RolloutView};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// A list of objects
    Json,
    /// A table with a heading
    Csv,
}

/// One phone of a rollout. The fields are the columns, in this order.
#[derive(Debug, Serialize)]
struct Row<'v> {
    rollout: &'v RolloutId,
    rollout_state: RolloutState,
    package: &'v PackageName,
    version_code: VersionCode,
    version_name: &'v str,
    /// From 1.
    wave: usize,
    slot: Option<&'v SlotName>,
    phone: &'v PhoneId,
    state: RolloutPhoneState,
    attempts: u32,
    why: Option<&'v str>,
}

/// A row for each phone, wave by wave.
pub(super) fn export(view: &RolloutView, slots: &Slots, format: Format) -> String {
    let rows = view.waves.iter().enumerate().flat_map(|(place, wave)| {
        wave.phones.iter().map(move |phone| Row {
            rollout: &view.id,
            rollout_state: view.state,
            package: &view.package,
            version_code: view.version_code,
            version_name: &view.version_name,
            wave: place + 1,
            slot: slots.get(&phone.phone),
            phone: &phone.phone,
            state: phone.state,
            attempts: phone.attempts,
            why: phone.why.as_deref(),
        })
    });
    match format {
        Format::Json => json(&rows.collect::<Vec<_>>()),
        Format::Csv => {
            let mut table = csv::Writer::from_writer(Vec::new());
            for row in rows {
                // Plain values into memory: there is nothing to fail.
                let _ = table.serialize(row);
            }
            String::from_utf8_lossy(&table.into_inner().unwrap_or_default()).into_owned()
        }
    }
}
