//! Records to rows and back. A row that makes no sense is an error that names it, never a guess.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, params};

use super::promise::{
    AUDIT_LINES_MAX, AuditQuery, AuditRecord, Promise, Report, RolloutNumber, RolloutPhoneRecord, RolloutRecord, Stands,
};
use crate::agent::ApkSource;
use crate::clock::UnixMillis;
use crate::rack::access::{Role, TokenRecord};
use crate::rack::detach::Detachment;
use crate::rack::ids::{HubName, HubPort, PackageName, PhoneId, Serial, VersionCode};
use crate::rack::lease::{HOLD, Lease, Tool};
use crate::rack::power::{PortOff, PowerLedger};
use crate::rack::snapshot::{PowerPort, RolloutPhoneState, RolloutState};

/// Carries one promise out within a transaction.
pub(super) fn write(db: &Transaction<'_>, promise: &Promise) -> rusqlite::Result<()> {
    match promise {
        Promise::Rollout(record) => write_rollout(db, record),
        Promise::RolloutPhone(record) => write_rollout_phone(db, record),
        Promise::ForgetRollout(number) => {
            db.prepare_cached("DELETE FROM rollout WHERE number = ?1")?.execute([number.0]).map(drop)
        }
        Promise::Power(ledger) => write_power(db, ledger),
        Promise::Lease(lease) => db
            .prepare_cached(
                "INSERT OR REPLACE INTO lease (phone, who, reason, since_unix_ms, until_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![lease.phone.as_str(), lease.who, lease.reason, lease.since.0, lease.until.0])
            .map(drop),
        Promise::LeaseIsOver(lease) => db
            .prepare_cached("DELETE FROM lease WHERE phone = ?1 AND until_unix_ms = ?2")?
            .execute(params![lease.phone.as_str(), lease.until.0])
            .map(drop),
        Promise::ForgetLease(phone) => {
            db.prepare_cached("DELETE FROM lease WHERE phone = ?1")?.execute([phone.as_str()]).map(drop)
        }
        Promise::Identity { name, credential } => db
            .prepare_cached("INSERT OR REPLACE INTO identity (name, credential) VALUES (?1, ?2)")?
            .execute([name, credential])
            .map(drop),
        Promise::ForgetIdentity(name) => {
            db.prepare_cached("DELETE FROM identity WHERE name = ?1")?.execute([name]).map(drop)
        }
        Promise::SharedSerial(serial) => db
            .prepare_cached("INSERT OR IGNORE INTO shared_serial (serial) VALUES (?1)")?
            .execute([serial.as_str()])
            .map(drop),
        Promise::Detached(detachment) => db
            .prepare_cached("INSERT OR REPLACE INTO detached (endpoint, who, since_unix_ms) VALUES (?1, ?2, ?3)")?
            .execute(params![detachment.endpoint.to_string(), detachment.who, detachment.since.0])
            .map(drop),
        Promise::Attached(endpoint) => {
            db.prepare_cached("DELETE FROM detached WHERE endpoint = ?1")?.execute([endpoint.to_string()]).map(drop)
        }
        Promise::Token(record) => write_token(db, record),
        Promise::ForgetToken(id) => db.prepare_cached("DELETE FROM token WHERE id = ?1")?.execute([id]).map(drop),
        Promise::Audit(record) => write_audit(db, record),
    }
}

fn write_token(db: &Transaction<'_>, record: &TokenRecord) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO token (id, owner, role, secret_sha256, created_unix_ms, expires_unix_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        record.id,
        record.owner,
        record.role.as_str(),
        record.secret_sha256,
        record.created.0,
        record.expires.map(|at| at.0),
    ])
    .map(drop)
}

/// Only ever added: what is older than the newest [`AUDIT_LINES_MAX`] gives way.
fn write_audit(db: &Transaction<'_>, record: &AuditRecord) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO audit (at_unix_ms, who, what, target) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![record.at.0, record.who, record.what, record.target])?;
    let oldest = db.last_insert_rowid() - i64::from(AUDIT_LINES_MAX);
    db.prepare_cached("DELETE FROM audit WHERE id <= ?1")?.execute([oldest]).map(drop)
}

fn write_rollout(db: &Transaction<'_>, record: &RolloutRecord) -> rusqlite::Result<()> {
    let (kind, source) = match &record.source {
        ApkSource::Url(url) => ("url", url.clone()),
        ApkSource::File(path) => ("file", path.to_string_lossy().into_owned()),
    };
    let unwritable = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let strategy = serde_json::to_string(&record.strategy).map_err(unwritable)?;
    let joins = record.joins.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
    db.prepare_cached(
        "INSERT INTO rollout (number, state, why, source_kind, source, package, version_code, version_name, sha256,
                              created_unix_ms, ended_unix_ms, strategy, open_waves, soaks_until_unix_ms, accepted_failures,
                              joins, closes_unix_ms, starts_unix_ms, takes_back, stands, stands_over)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
         ON CONFLICT (number) DO UPDATE SET state = ?2, why = ?3, source_kind = ?4, source = ?5, package = ?6,
             version_code = ?7, version_name = ?8, sha256 = ?9, created_unix_ms = ?10, ended_unix_ms = ?11,
             strategy = ?12, open_waves = ?13, soaks_until_unix_ms = ?14, accepted_failures = ?15, joins = ?16, closes_unix_ms = ?17,
             starts_unix_ms = ?18, takes_back = ?19, stands = ?20, stands_over = ?21",
    )?
    .execute(params![
        record.number.0,
        record.state.as_str(),
        record.why,
        kind,
        source,
        record.package.as_str(),
        record.version_code.0.cast_signed(),
        record.version_name,
        record.sha256,
        record.created.0,
        record.ended.map(|at| at.0),
        strategy,
        record.open_waves,
        record.soaks_until.map(|at| at.0),
        record.accepted_failures,
        joins,
        record.closes.map(|at| at.0),
        record.starts.map(|at| at.0),
        record.takes_back.map(|number| number.0),
        record.stands.as_ref().map(|stands| stands.turn),
        record.stands.as_ref().and_then(|stands| stands.over.as_ref()),
    ])
    .map(drop)
}

fn write_rollout_phone(db: &Transaction<'_>, record: &RolloutPhoneRecord) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO rollout_phone (rollout, phone, position, wave, state, attempts, interrupted, why, notice,
                                               report, retried, unfit_since_unix_ms, version_before)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        record.rollout.0,
        record.phone.as_str(),
        record.position,
        record.wave,
        record.state.as_str(),
        record.attempts,
        record.interrupted,
        record.why,
        record.notice,
        report_word(record.report),
        record.retried,
        record.unfit_since.map(|at| at.0),
        record.before.map(|version| version.0.cast_signed()),
    ])
    .map(drop)
}

/// A few rows, so that they are written anew each time.
fn write_power(db: &Transaction<'_>, ledger: &PowerLedger) -> rusqlite::Result<()> {
    db.execute_batch("DELETE FROM port_off; DELETE FROM power_cycle;")?;
    let mut port =
        db.prepare_cached("INSERT OR REPLACE INTO port_off (hub, port, since_unix_ms) VALUES (?1, ?2, ?3)")?;
    for PortOff { power, since } in &ledger.off {
        port.execute(params![power.hub.as_str(), power.port.0, since.0])?;
    }
    let mut cycle = db.prepare_cached("INSERT INTO power_cycle (began_unix_ms) VALUES (?1)")?;
    ledger.cycles.iter().try_for_each(|began| cycle.execute([began.0]).map(drop))
}

/// What the last daemon has promised of the power of ports.
pub(super) fn power(db: &Connection) -> rusqlite::Result<PowerLedger> {
    let port = |row: &Row<'_>| {
        let power = PowerPort { hub: HubName::new(row.get::<_, String>("hub")?), port: HubPort(row.get("port")?) };
        Ok(PortOff { power, since: UnixMillis(row.get("since_unix_ms")?) })
    };
    let off =
        db.prepare("SELECT * FROM port_off ORDER BY hub, port")?.query_map([], port)?.collect::<Result<_, _>>()?;
    let mut cycles = db.prepare("SELECT began_unix_ms FROM power_cycle ORDER BY began_unix_ms")?;
    let cycles = cycles.query_map([], |row| row.get(0).map(UnixMillis))?.collect::<Result<_, _>>()?;
    Ok(PowerLedger { off, cycles })
}

/// All rollouts with their phones, as the records that made them, in the order of their numbers.
pub(super) fn rollouts(db: &Connection) -> rusqlite::Result<Vec<Promise>> {
    let mut records = Vec::new();
    for record in db.prepare("SELECT * FROM rollout ORDER BY number")?.query_map([], read_rollout)? {
        records.push(Promise::Rollout(record?));
    }
    let mut phones = db.prepare("SELECT * FROM rollout_phone ORDER BY rollout, position")?;
    for record in phones.query_map([], read_rollout_phone)? {
        records.push(Promise::RolloutPhone(record?));
    }
    Ok(records)
}

/// Every hold, whether its time is over or not.
pub(super) fn leases(db: &Connection) -> rusqlite::Result<Vec<Lease>> {
    let mut lines = db.prepare("SELECT phone, who, reason, since_unix_ms, until_unix_ms FROM lease ORDER BY phone")?;
    let read = |row: &Row<'_>| {
        Ok(Lease {
            phone: PhoneId::new(row.get::<_, String>(0)?),
            id: HOLD,
            tool: Tool::Hold,
            who: row.get(1)?,
            reason: row.get(2)?,
            since: UnixMillis(row.get(3)?),
            until: UnixMillis(row.get(4)?),
        })
    };
    lines.query_map([], read)?.collect()
}

/// The places whose interface is another program's.
pub(super) fn detachments(db: &Connection) -> rusqlite::Result<Vec<Detachment>> {
    let mut lines = db.prepare("SELECT endpoint, who, since_unix_ms FROM detached ORDER BY endpoint")?;
    let read = |row: &Row<'_>| {
        let endpoint: String = row.get("endpoint")?;
        let place = endpoint.parse().map_err(|_| nonsense(row, "endpoint", &endpoint))?;
        Ok(Detachment { endpoint: place, who: row.get("who")?, since: UnixMillis(row.get("since_unix_ms")?) })
    };
    lines.query_map([], read)?.collect()
}

/// The serials that two phones were seen with.
pub(super) fn shared_serials(db: &Connection) -> rusqlite::Result<BTreeSet<Serial>> {
    let mut lines = db.prepare("SELECT serial FROM shared_serial")?;
    lines.query_map([], |row| row.get::<_, String>(0).map(Serial::new))?.collect()
}

/// The credentials that were set, by id, serial or slot.
pub(super) fn identities(db: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut lines = db.prepare("SELECT name, credential FROM identity")?;
    lines.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Every token that was not revoked, whether its time is over or not.
pub(super) fn tokens(db: &Connection) -> rusqlite::Result<Vec<TokenRecord>> {
    let mut lines = db.prepare("SELECT * FROM token ORDER BY id")?;
    let read = |row: &Row<'_>| {
        let role: String = row.get("role")?;
        Ok(TokenRecord {
            id: row.get("id")?,
            owner: row.get("owner")?,
            role: one_of(Role::ALL, Role::as_str, &role).ok_or_else(|| nonsense(row, "role", &role))?,
            secret_sha256: row.get("secret_sha256")?,
            created: UnixMillis(row.get("created_unix_ms")?),
            expires: row.get::<_, Option<i64>>("expires_unix_ms")?.map(UnixMillis),
        })
    };
    lines.query_map([], read)?.collect()
}

/// Those lines of the audit that are wanted, the newest first.
pub(super) fn audit(db: &Connection, query: &AuditQuery) -> rusqlite::Result<Vec<AuditRecord>> {
    let targets =
        serde_json::to_string(&query.targets).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut lines = db.prepare(
        "SELECT at_unix_ms, who, what, target FROM audit
         WHERE (?1 IS NULL OR who = ?1) AND (?2 = '[]' OR target IN (SELECT value FROM json_each(?2)))
             AND at_unix_ms >= ?3
         ORDER BY id DESC LIMIT ?4",
    )?;
    let read = |row: &Row<'_>| {
        Ok(AuditRecord { at: UnixMillis(row.get(0)?), who: row.get(1)?, what: row.get(2)?, target: row.get(3)? })
    };
    let since = query.since.map_or(i64::MIN, |since| since.0);
    lines.query_map(params![query.who, targets, since, query.limit], read)?.collect()
}

fn read_rollout(row: &Row<'_>) -> rusqlite::Result<RolloutRecord> {
    let source: String = row.get("source")?;
    let source = match row.get::<_, String>("source_kind")?.as_str() {
        "url" => ApkSource::Url(source),
        "file" => ApkSource::File(source.into()),
        other => return Err(nonsense(row, "source_kind", other)),
    };
    let state: String = row.get("state")?;
    let strategy: String = row.get("strategy")?;
    let joins: Option<String> = row.get("joins")?;
    let over: Option<String> = row.get("stands_over")?;
    let read_joins = |text: &String| serde_json::from_str(text).map_err(|_| nonsense(row, "joins", text));
    Ok(RolloutRecord {
        number: RolloutNumber(row.get("number")?),
        state: one_of(RolloutState::ALL, RolloutState::as_str, &state).ok_or_else(|| nonsense(row, "state", &state))?,
        why: row.get("why")?,
        source,
        package: PackageName::new(row.get::<_, String>("package")?),
        version_code: VersionCode(row.get::<_, i64>("version_code")?.cast_unsigned()),
        version_name: row.get("version_name")?,
        strategy: serde_json::from_str(&strategy).map_err(|_| nonsense(row, "strategy", &strategy))?,
        open_waves: row.get("open_waves")?,
        soaks_until: row.get::<_, Option<i64>>("soaks_until_unix_ms")?.map(UnixMillis),
        accepted_failures: row.get("accepted_failures")?,
        joins: joins.as_ref().map(read_joins).transpose()?,
        closes: row.get::<_, Option<i64>>("closes_unix_ms")?.map(UnixMillis),
        starts: row.get::<_, Option<i64>>("starts_unix_ms")?.map(UnixMillis),
        sha256: row.get("sha256")?,
        takes_back: row.get::<_, Option<u32>>("takes_back")?.map(RolloutNumber),
        stands: row.get::<_, Option<u32>>("stands")?.map(|turn| Stands { turn, over }),
        created: UnixMillis(row.get("created_unix_ms")?),
        ended: row.get::<_, Option<i64>>("ended_unix_ms")?.map(UnixMillis),
    })
}

fn read_rollout_phone(row: &Row<'_>) -> rusqlite::Result<RolloutPhoneRecord> {
    let state: String = row.get("state")?;
    let report: String = row.get("report")?;
    Ok(RolloutPhoneRecord {
        rollout: RolloutNumber(row.get("rollout")?),
        phone: PhoneId::new(row.get::<_, String>("phone")?),
        position: row.get("position")?,
        wave: row.get("wave")?,
        state: one_of(RolloutPhoneState::ALL, RolloutPhoneState::as_str, &state)
            .ok_or_else(|| nonsense(row, "state", &state))?,
        attempts: row.get("attempts")?,
        interrupted: row.get("interrupted")?,
        retried: row.get("retried")?,
        before: row.get::<_, Option<i64>>("version_before")?.map(|code| VersionCode(code.cast_unsigned())),
        why: row.get("why")?,
        unfit_since: row.get::<_, Option<i64>>("unfit_since_unix_ms")?.map(UnixMillis),
        notice: row.get("notice")?,
        report: one_of([Report::None, Report::Due, Report::Sent], report_word, &report)
            .ok_or_else(|| nonsense(row, "report", &report))?,
    })
}

const fn report_word(report: Report) -> &'static str {
    match report {
        Report::None => "none",
        Report::Due => "due",
        Report::Sent => "sent",
    }
}

/// The one of `all` whose word is `text`.
fn one_of<T: Copy, const N: usize>(all: [T; N], word: impl Fn(T) -> &'static str, text: &str) -> Option<T> {
    all.into_iter().find(|one| word(*one) == text)
}

fn nonsense(row: &Row<'_>, column: &str, seen: &str) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, format!("`{seen}` in column `{column}`").into())
}
