//! What agents say while the centre is away.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use farmhand::central::proto::{EnumErrorCode, EnumMsgType as Type};
use farmhand::rack::snapshot::LineState;

use super::capture::Capture;
use super::rig::{MESSAGES, SOON, hears, missed, relayed, talk, tells, tells_and_hears, tells_many, within};
use super::yard::{HEARD_WITHIN, Setup, Yard, said};
use super::{Place, unwritten};
use crate::agent::Agent;
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "store.budget",
    "store.kill_9.each",
    "store.kill_9.silent",
    "store.kill_9.late",
    "store.kill_9.error",
    "store.rate",
    "store.behind_stored_ones",
    "store.sealed",
    "store.tasks_never",
    "store.shown",
    "store.corrupted",
];

/// What no file may hold.
const SECRET: &str = "whispered-while-nobody-listened";

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "store.budget" => budget(place).await,
        "store.kill_9.each" => kill(place, "each").await,
        "store.kill_9.silent" => kill(place, "silent").await,
        "store.kill_9.late" => kill(place, "late").await,
        "store.kill_9.error" => kill(place, "error").await,
        "store.rate" => rate(place).await,
        "store.behind_stored_ones" => behind(place).await,
        "store.sealed" => sealed(place).await,
        "store.tasks_never" => tasks(place).await,
        "store.shown" => shown(place).await,
        "store.corrupted" => corrupted(place).await,
        other => unwritten(other),
    }
}

/// A rack whose centre was there once, is away, and an agent.
async fn in_an_outage(place: &Place, setup: Setup) -> Result<(Yard, Agent), Miss> {
    let yard = Yard::start(place, setup).await?;
    yard.registered("A1").await?;
    let agent = yard.agent("A1").await?;
    yard.centre()?.stop().await;
    yard.line_becomes("A1", "a line that waits", HEARD_WITHIN, |line| line.state != LineState::Registered).await?;
    Ok((yard, agent))
}

/// Acknowledged, killed with -9, and delivered in order once the centre is back.
async fn kill(place: &Place, ack: &str) -> Result<String, Miss> {
    const MANY: u64 = 100;
    let setup = relayed(place, &format!("ack = \"{ack}\"")).config("[central.outbox]\nper_second = 1000");
    let (mut yard, mut agent) = in_an_outage(place, setup).await?;
    tells_many(&mut agent, "stored", MANY).await?;
    yard.daemon.kill().await.map_err(missed("a kill"))?;
    drop(agent);
    yard.daemon.start_again().await.map_err(missed("a daemon again"))?;
    yard.centre_returns().await?;
    let capture = Capture::of(place);
    let many = usize::try_from(MANY).unwrap_or(usize::MAX);
    let texts = yard.texts(&capture, many, HEARD_WITHIN * 4).await?;
    let emptied = yard.line_becomes("A1", "an empty outbox", HEARD_WITHIN * 2, |line| line.outbox.waiting == 0);
    emptied.await?;
    // A centre that refuses each once has it come again behind others.
    let mut once = BTreeSet::new();
    let first: Vec<&String> = texts.iter().filter(|text| once.insert(text.as_str())).collect();
    let expected: Vec<String> = (0..MANY).map(|number| format!("stored {number}")).collect();
    if first.iter().copied().ne(expected.iter()) {
        return Err(miss("all in their order", format!("{first:?}")));
    }
    yard.stop(format!("{MANY} acknowledged, kill -9, {MANY} delivered in order, {} more than once", texts.len() - many))
        .await
}

/// Stored notices go at the pace that the owner set.
async fn rate(place: &Place) -> Result<String, Miss> {
    const MANY: u64 = 60;
    let setup = relayed(place, "").config("[central.outbox]\nper_second = 5");
    let (yard, mut agent) = in_an_outage(place, setup).await?;
    tells_many(&mut agent, "slowly", MANY).await?;
    yard.centre_returns().await?;
    let capture = Capture::of(place);
    yard.texts(&capture, 1, HEARD_WITHIN * 2).await?;
    let begun = Instant::now();
    yard.texts(&capture, usize::try_from(MANY).unwrap_or(usize::MAX), HEARD_WITHIN * 2).await?;
    let took = begun.elapsed();
    if took < Duration::from_secs(8) {
        return Err(miss("60 notices at 5 a second in no less than 8 s", format!("{took:?}")));
    }
    yard.stop(format!("{MANY} notices at 5 a second took {took:.1?}")).await
}

/// What the agent says while stored ones wait goes behind them.
async fn behind(place: &Place) -> Result<String, Miss> {
    let setup = relayed(place, "").config("[central.outbox]\nper_second = 10");
    let (yard, mut agent) = in_an_outage(place, setup).await?;
    tells_many(&mut agent, "stored", 30).await?;
    yard.centre_returns().await?;
    yard.registered("A1").await?;
    tells_many(&mut agent, "meanwhile", 10).await?;
    let texts = yard.texts(&Capture::of(place), 40, HEARD_WITHIN * 2).await?;
    let stored = (0..30).map(|number| format!("stored {number}"));
    let expected: Vec<String> = stored.chain((0..10).map(|number| format!("meanwhile {number}"))).collect();
    if texts != expected {
        return Err(miss("those of the outage first", format!("{texts:?}")));
    }
    yard.stop("30 of the outage, then 10 that came while these went".to_owned()).await
}

/// Nothing of a notice can be read in any file of the state directory, and the key is its owner's alone.
async fn sealed(place: &Place) -> Result<String, Miss> {
    let (yard, mut agent) = in_an_outage(place, relayed(place, "")).await?;
    tells_many(&mut agent, SECRET, 50).await?;
    let state = place.dir.join("state");
    let files = files_below(&state).map_err(missed("the state directory"))?;
    for file in &files {
        let bytes = std::fs::read(file).unwrap_or_default();
        if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
            return Err(miss("no file with a notice in the clear", file.display()));
        }
    }
    let mode = std::fs::metadata(state.join("outbox.key")).map_err(missed("outbox.key"))?.permissions().mode() & 0o777;
    if mode != 0o600 {
        return Err(miss("outbox.key with mode 0600", format!("{mode:o}")));
    }
    let seen = format!("50 notices stored, 0 hits in {} files; outbox.key has mode 0600\n", files.len());
    yard.stop(seen + "RESULT outbox.plaintext_hits 0 hits goal <= 0").await
}

fn files_below(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(files_below(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}

/// A task for an agent that is away fails at once, and is not there when the agent is back.
async fn tasks(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "").config(MESSAGES)).await?;
    yard.registered("A1").await?;
    drop(yard.agent("A1").await?);
    yard.line_becomes("A1", "an agent that is away", HEARD_WITHIN, |line| line.agent_since.is_none()).await?;
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("never kept")).await?;
    let told = yard.refusal("A1", task, EnumErrorCode::TargetNotOnline).await?;
    let mut agent = yard.agent("A1").await?;
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("new")).await?;
    let given = hears(&mut agent, Type::TalkToFriendTask).await?;
    if given.content != talk("new") {
        return Err(miss("only the new task", format!("{given:?}")));
    }
    yard.stop(format!("{told}; the agent that is back gets {task} only")).await
}

/// `farmhand line` counts what waits, and stops when nothing does.
async fn shown(place: &Place) -> Result<String, Miss> {
    let (yard, mut agent) = in_an_outage(place, relayed(place, "")).await?;
    tells_many(&mut agent, "counted", 7).await?;
    // What is told of the outbox is renewed each second.
    let shown = until(SOON, "what is stored in `farmhand line`", async || {
        let shown = yard.tell(&["line"]).await.map_err(|miss| miss.to_string())?;
        said(&shown, &["7 stored for the central server"]).map_err(|miss| miss.to_string())
    })
    .await?;
    yard.centre_returns().await?;
    yard.line_becomes("A1", "nothing stored", HEARD_WITHIN * 2, |line| line.outbox.waiting == 0).await?;
    let after = yard.tell(&["line"]).await?;
    if after.contains("stored for the central server") {
        return Err(miss("no more than what waits", after));
    }
    let note = shown.split("notices of its agent").nth(1).unwrap_or_default();
    yard.stop(format!("notices of its agent{note}; nothing once the centre has them")).await
}

/// When the room is used up notices are no longer acknowledged, and nothing that was is lost.
async fn budget(place: &Place) -> Result<String, Miss> {
    let setup = relayed(place, "").config("[central.outbox]\nmax_mb = 1\nper_second = 1000");
    let (yard, mut agent) = in_an_outage(place, setup).await?;
    let filler = "x".repeat(8000);
    let mut acknowledged = 0_usize;
    loop {
        let notice = tells(&mut agent, &format!("{acknowledged} {filler}")).await?;
        match tokio::time::timeout(SOON / 2, agent.acknowledged(notice)).await {
            Ok(Ok(())) => acknowledged += 1,
            Ok(Err(why)) => return Err(miss("a line that stands", why)),
            Err(_) => break,
        }
        if acknowledged > 200 {
            return Err(miss("an end at a quarter of 1 MB", format!("{acknowledged} notices of 8 kB acknowledged")));
        }
    }
    let trouble = yard.line("A1").await.map_err(missed("the line"))?.outbox.trouble;
    let trouble = trouble.ok_or_else(|| miss("why nothing more is stored", "nothing"))?;
    yard.centre_returns().await?;
    yard.texts(&Capture::of(place), acknowledged + 1, HEARD_WITHIN * 2).await?;
    within("the line to take notices again", async {
        let notice = agent.was_told("wxid_check", b"there is room").await?;
        agent.acknowledged(notice).await
    })
    .await?;
    yard.stop(format!("{acknowledged} notices of 8 kB, then: {trouble}; all delivered, and it goes on")).await
}

/// A file that is damaged is put aside, and a new one begun; the log says so, and nothing is invented.
async fn corrupted(place: &Place) -> Result<String, Miss> {
    let (mut yard, mut agent) = in_an_outage(place, relayed(place, "")).await?;
    tells_many(&mut agent, "buried", 20).await?;
    yard.daemon.kill().await.map_err(missed("a kill"))?;
    drop(agent);
    let state = place.dir.join("state");
    for name in ["outbox.db-wal", "outbox.db-shm"] {
        let _ = std::fs::remove_file(state.join(name));
    }
    std::fs::write(state.join("outbox.db"), vec![0x5a; 40_000]).map_err(missed("a damaged file"))?;
    yard.daemon.start_again().await.map_err(missed("a daemon again"))?;
    let mut agent = yard.agent("A1").await?;
    tells_and_hears(&mut agent, "after").await?;
    let aside = until(SOON, "outbox-damaged-….db", async || {
        let files = files_below(&state).map_err(|error| error.to_string())?;
        let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
        let damaged = files.iter().filter_map(name).find(|name| name.starts_with("outbox-damaged-"));
        damaged.ok_or_else(|| format!("{files:?}"))
    })
    .await?;
    let log = std::fs::read_to_string(yard.daemon.log()).unwrap_or_default();
    said(&log, &["outbox-damaged-"])?;
    yard.centre_returns().await?;
    let texts = yard.texts(&Capture::of(place), 1, HEARD_WITHIN * 2).await?;
    if texts != ["after"] {
        return Err(miss("only what was said afterwards", format!("{texts:?}")));
    }
    yard.stop(format!("kept as {aside}, and in the log; the new one took what came then")).await
}
