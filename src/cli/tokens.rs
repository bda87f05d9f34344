//! `farmhand tokens`: who may come to the adb server from other machines.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};

use super::client::Client;
use super::failure::Failure;
use super::paper::{Cell, DASH, Paper, Tone, json};
use crate::clock::UnixMillis;
use crate::rack::access::{Role, TokenRecord, TokenWish};

/// Who may come to the adb server from other machines
#[derive(Debug, Args)]
pub(super) struct Tokens {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token, and show it this once
    Add {
        /// Whose it is: the user of leases and of the audit
        owner: String,
        /// What its owner may do
        #[arg(long, value_name = "ROLE", default_value = "use")]
        role: Word,
        /// For how long, such as 12h or 30days, or `never` for one that does not end
        #[arg(long = "for", value_name = "TIME", default_value = "90days", value_parser = lasts)]
        lasts: Lasts,
        /// Print the API's answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Every token, without its secret
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a token count no more: whoever is connected by it is cut off
    Revoke {
        /// Its id, or an owner for all of his
        #[arg(value_name = "ID|OWNER")]
        name: String,
        /// Print the API's answer as JSON
        #[arg(long)]
        json: bool,
    },
}

/// A role by its word.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// See which phones are here, and how they are
    View,
    /// Work on phones that nobody else holds
    Use,
    /// The same as a user of the rack's host
    Admin,
}

#[derive(Clone, Copy, Debug)]
struct Lasts(Option<Duration>);

fn lasts(text: &str) -> Result<Lasts, humantime::DurationError> {
    if text == "never" { Ok(Lasts(None)) } else { humantime::parse_duration(text).map(|time| Lasts(Some(time))) }
}

impl Tokens {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::Add { owner, role, lasts, json: as_json } => {
                let role = match role {
                    Word::View => Role::View,
                    Word::Use => Role::Use,
                    Word::Admin => Role::Admin,
                };
                let wish = TokenWish { owner, role, lasts_s: lasts.0.map(|time| time.as_secs()) };
                let done = client.add_token(&wish).await?;
                if as_json {
                    return Ok(json(&done));
                }
                let token = done.token.unwrap_or_default();
                // The token stands alone on its line, so that it can be taken into a file.
                Ok(format!(
                    "{}\n{token}\n",
                    paper.paint(Tone::Quiet, &format!("{}; keep this in a file, it is not shown again:", done.what))
                ))
            }
            Action::List { json: as_json } => {
                let tokens: Vec<TokenRecord> = client.read("/api/tokens").await?;
                Ok(if as_json { json(&tokens) } else { table(&tokens, paper) })
            }
            Action::Revoke { name, json: as_json } => {
                let done = client.revoke_token(&name).await?;
                Ok(if as_json { json(&done) } else { done.what + "\n" })
            }
        }
    }
}

fn table(tokens: &[TokenRecord], paper: &Paper) -> String {
    if tokens.is_empty() {
        return "No token: nobody comes from other machines. `farmhand tokens add OWNER` makes one.\n".to_owned();
    }
    let row = |token: &TokenRecord| -> Vec<Cell> {
        let ends = match token.expires {
            None => Cell::toned(Tone::Busy, "never"),
            Some(at) if paper.time_left(at) == "0 s" => Cell::toned(Tone::Bad, "is over"),
            Some(at) => format!("in {}", paper.time_left(at)).into(),
        };
        vec![(&token.id).into(), (&token.owner).into(), token.role.as_str().into(), date(token.created).into(), ends]
    };
    paper.table(&["ID", "OWNER", "ROLE", "MADE", "ENDS"], tokens.iter().map(row).collect())
}

fn date(at: UnixMillis) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    text.split('T').next().unwrap_or(DASH).to_owned()
}
