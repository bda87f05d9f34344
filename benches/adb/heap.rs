//! What a phone that is online and idle holds on the heap: its actor and its connection, with all queues.

use std::alloc::System;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use farmhand::adb::online::OnlinePhones;
use farmhand::adb::services::SharedFiles;
use farmhand::phone::actor::{self, ActorContext};
use farmhand::phone::{Command, Event};
use farmhand::rack;
use farmhand::rack::ids::Endpoint;
use stats_alloc::StatsAlloc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inside::keys;
use crate::report::{Goal, report};

const PHONES: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);

/// The same adbd serves as all phones.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn measure(adbd: &str, allocator: &StatsAlloc<System>) -> io::Result<()> {
    let (events, mut inbox) = mpsc::channel(256);
    let context = Arc::new(ActorContext {
        keys: keys(),
        package: None,
        upkeep: farmhand::config::Upkeep::default(),
        sims: farmhand::config::Sims::Kept,
        install_timeout: Duration::from_secs(60),
        apks: SharedFiles::default(),
        bus: None,
        events,
        online: OnlinePhones::default(),
    });
    let endpoint: Endpoint = format!("tcp:{adbd}").parse().map_err(io::Error::other)?;
    let live = || {
        let stats = allocator.stats();
        stats.bytes_allocated as isize - stats.bytes_deallocated as isize
    };
    let cancel = CancellationToken::new();
    let mut doors = Vec::with_capacity(PHONES);
    let mut before = 0;
    // The first one brings what all share.
    for phone in 0..=PHONES {
        let (commands, orders) = mpsc::channel(16);
        actor::spawn(Arc::clone(&context), endpoint.clone(), orders, cancel.clone());
        let opened = async {
            while let Some(event) = inbox.recv().await {
                match event {
                    rack::Event::Appeared { .. } => commands.send(Command::Open).await.map_err(io::Error::other)?,
                    rack::Event::Phone { event: Event::Opened { .. }, .. } => return Ok(()),
                    other => return Err(io::Error::other(format!("{other:?}"))),
                }
            }
            Err(io::Error::other("the actor has ended"))
        };
        tokio::time::timeout(PATIENCE, opened).await??;
        // A question that is over must leave nothing behind.
        commands.send(Command::Probe).await.map_err(io::Error::other)?;
        tokio::time::timeout(PATIENCE, inbox.recv()).await?;
        doors.push(commands);
        if phone == 0 {
            before = live();
        }
    }
    let held = (live() - before) as f64 / PHONES as f64;
    cancel.cancel();
    report("adb.heap_per_idle_phone", held, "bytes", Goal::AtMost(34_816.0))
}
