//! When a rollout begins: at a time, and in windows.

use std::time::{Duration, Instant};

use farmhand::clock::UnixMillis;

use super::yard::{Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &["window", "at", "window_shut"];

/// From now, in the point of `--at`.
const AT: Duration = Duration::from_secs(6);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "at" => at(place).await,
        "window" => window(place).await,
        "window_shut" => shut(place).await,
        other => unwritten(other),
    }
}

/// `12:34:56` in UTC, so long from now.
fn clock(from_now: Duration) -> (UnixMillis, u64) {
    let then = UnixMillis::from(std::time::SystemTime::now() + from_now);
    let seconds = u64::try_from(then.0).unwrap_or_default() / 1000;
    (then, seconds)
}

/// Hours and minutes of a time in UTC.
fn minute(seconds: u64) -> String {
    format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
}

async fn at(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).config("[rollout]\ntime_zone = \"UTC\"")).await?;
    let (then, seconds) = clock(AT);
    let text = format!("{}T{}:{:02}+00:00", date(seconds), minute(seconds), seconds % 60);
    yard.begin("agent-2.apk", &["--at", &text]).await?;
    let why = yard.view("R1").await.map_err(|why| miss("R1", why))?.why;
    yard.expect_untouched()?;
    until(AT * 4, "version 2", async || {
        let versions = yard.versions();
        if versions == "A1 on 2" { Ok(()) } else { Err(versions) }
    })
    .await?;
    let late_ms = UnixMillis::from(std::time::SystemTime::now()).0 - then.0 / 1000 * 1000;
    yard.wait_for("R1", 0).await?;
    if late_ms < 0 {
        return Err(miss("no install before its time", format!("{late_ms} ms after it")));
    }
    yard.stop(format!("--at {text}: version 2 came {late_ms} ms after it; before: {why}")).await
}

/// The days since 1970 as a date (Howard Hinnant's `civil_from_days`).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A window that opens with the next minute but one at the latest.
async fn window(place: &Place) -> Result<String, Miss> {
    let (_, now) = clock(Duration::from_secs(20));
    let opens = now - now % 60 + 60;
    let hours = format!("{}-{}", minute(opens), minute(opens + 3600));
    let config = format!("[rollout]\ntime_zone = \"UTC\"\nwindows = [\"{hours}\"]");
    let yard = Yard::start(place, Setup::of(1).config(&config)).await?;
    yard.begin("agent-2.apk", &[]).await?;
    let why = yard.view("R1").await.map_err(|why| miss("R1", why))?.why;
    yard.expect_untouched()?;
    let began = Instant::now();
    until(Duration::from_secs(150), "version 2", async || {
        let versions = yard.versions();
        if versions == "A1 on 2" { Ok(()) } else { Err(versions) }
    })
    .await?;
    let (_, done) = clock(Duration::ZERO);
    if done < opens {
        return Err(miss("no install before the window", format!("{} s before it", opens - done)));
    }
    yard.wait_for("R1", 0).await?;
    yard.stop(format!("window {hours} UTC, it waited {:.0} s: {why}", began.elapsed().as_secs_f64())).await
}

async fn shut(place: &Place) -> Result<String, Miss> {
    let (_, now) = clock(Duration::from_secs(7200));
    let config = format!("[rollout]\ntime_zone = \"UTC\"\nwindows = [\"{}-{}\"]", minute(now), minute(now + 3600));
    let yard = Yard::start(place, Setup::of(1).config(&config)).await?;
    yard.begin("agent-2.apk", &[]).await?;
    let output = yard.run(&["rollout", "show", "R1", "--wait", "--timeout", "3s"]).await?;
    yard.expect_untouched()?;
    if output.status.code() != Some(14) {
        return Err(miss("a wait that ends with 14", format!("{:?}", output.status)));
    }
    let told = said(&String::from_utf8_lossy(&output.stdout), &[&minute(now)])?;
    yard.stop(told).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_date() {
        for (days, text) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_784, "2026-11-27")] {
            assert_eq!(date(days * 86_400 + 5), text);
        }
    }
}
