//! The page in a real browser, live without a reload.

use std::time::Duration;

use serde_json::Value;

use super::super::stage::{PHONES, Stage, miss};
use super::super::until::{Miss, until};
use super::nothing_left;
use crate::cable::Hand;
use crate::check::browser::{Browser, BrowserError};

/// From the opening of the page to all of its cells.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// A change of a phone is on the page within this time.
const CHANGED_WITHIN: Duration = Duration::from_secs(2);
/// From plugging in to ready, seen on the page.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// The state of each phone by its id, as the page's cells say it.
const CELLS: &str = "Object.fromEntries([...document.querySelectorAll('[data-phone][data-state]')]\
                     .map(cell => [cell.dataset.phone, cell.dataset.state]))";
/// Lost with a reload: when the page was loaded, and a mark that nobody else sets.
const MARK: &str = "window.rackbenchMark ??= performance.timeOrigin + ':' + Math.random()";

fn broken(error: BrowserError) -> Miss {
    miss("an answer of the browser", error)
}

/// Eight cells, each with its state; a picture is kept.
pub(super) async fn shown(stage: &mut Stage) -> Result<(), Miss> {
    stage.all_ready(&PHONES).await?;
    let ids = ids(stage).await?;
    let url = stage.rack.page().ok_or_else(|| miss("[web] in the rack file", "none"))?;
    let screenshot = stage.screenshot.clone();
    let browser = stage.browser().await.map_err(broken)?;
    browser.open(&url).await.map_err(broken)?;
    cells_become(browser, SHOWN_WITHIN, "a ready cell for each of eight phones", |cells| {
        let wrong = ids.iter().filter(|id| cells[id.as_str()] != "ready");
        nothing_left(wrong.map(|id| format!("{id}: {}", cells[id.as_str()])).collect())
    })
    .await?;
    let picture = browser.picture().await.map_err(broken)?;
    keep(&screenshot, &picture).map_err(|error| miss(&format!("the picture in {}", screenshot.display()), error))
}

/// An unplugged phone's cell changes on the page that is open, and again when it is back.
pub(super) async fn cell_changed(stage: &mut Stage) -> Result<(), Miss> {
    stage.all_ready(&["P5"]).await?;
    let id = stage.phone("P5").await.map_err(|why| miss("P5", why))?.id.to_string();
    if stage.browser.is_none() {
        shown(stage).await?;
    }
    let mark = stage.browser().await.map_err(broken)?.evaluate(MARK).await.map_err(broken)?;
    let is = |cells: &Value, wanted: &str| match &cells[id.as_str()] {
        state if state == wanted => Ok(()),
        state => Err(format!("{id}: {state}")),
    };
    stage.hold("P5", Hand::Out).await?;
    let browser = stage.browser().await.map_err(broken)?;
    let changed = cells_become(browser, CHANGED_WITHIN, "the cell of P5 absent", |cells| is(cells, "absent")).await;
    stage.hold("P5", Hand::In).await?;
    changed?;
    let browser = stage.browser().await.map_err(broken)?;
    cells_become(browser, BACK_WITHIN, "the cell of P5 ready again", |cells| is(cells, "ready")).await?;
    let now = browser.evaluate(MARK).await.map_err(broken)?;
    if now == mark { Ok(()) } else { Err(miss(&format!("the same page, {mark}"), format!("another one, {now}"))) }
}

/// The ids of all phones, as the command line gives them.
async fn ids(stage: &Stage) -> Result<Vec<String>, Miss> {
    let phones = stage.phones().await.map_err(|why| miss("the phones' ids", why))?;
    Ok(phones.values().map(|view| view.id.to_string()).collect())
}

/// Looks at the cells until they are as wanted.
async fn cells_become(
    browser: &mut Browser,
    limit: Duration,
    expected: &str,
    wanted: impl Fn(&Value) -> Result<(), String>,
) -> Result<(), Miss> {
    until(limit, expected, async || {
        let cells = browser.evaluate(CELLS).await.map_err(|error| error.to_string())?;
        wanted(&cells)
    })
    .await
}

fn keep(file: &std::path::Path, picture: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(file, picture)
}
