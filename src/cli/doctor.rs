//! `farmhand doctor`: what on this host keeps farmhand from its phones. Needs no daemon.

use std::path::Path;

use clap::Args;
use miette::{Diagnostic as _, Severity};
use serde::Serialize;

use super::failure::Failure;
use super::paper::json;
use super::{Ending, tell};
use crate::doctor::{Evidence, Finding, examine};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// A finding for programs.
#[derive(Serialize)]
struct Told {
    code: String,
    severity: &'static str,
    what: String,
    help: Option<String>,
}

impl Doctor {
    /// Ends with 1 if something must be mended, with 0 if there is nothing, or only advice.
    pub(super) fn carry_out(self) -> Result<Ending, Failure> {
        let findings = examine(&Evidence::of_host(Path::new("/")));
        let status = u8::from(findings.iter().any(|finding| severity(finding) != "advice"));
        let text = if self.json {
            json(&findings.iter().map(told).collect::<Vec<_>>())
        } else if findings.is_empty() {
            "Nothing on this host keeps farmhand from its phones.\n".to_owned()
        } else {
            findings.into_iter().map(|finding| format!("{:?}\n", miette::Report::new(finding))).collect()
        };
        match tell(&text) {
            super::Heard::Failed => Ok(Ending::Status(1)),
            super::Heard::Yes | super::Heard::NoMore => Ok(Ending::Status(status)),
        }
    }
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity() {
        Some(Severity::Advice) => "advice",
        Some(Severity::Warning) => "warning",
        Some(Severity::Error) | None => "error",
    }
}

fn told(finding: &Finding) -> Told {
    Told {
        code: finding.code().map(|code| code.to_string()).unwrap_or_default(),
        severity: severity(finding),
        what: finding.to_string(),
        help: finding.help().map(|help| help.to_string()),
    }
}
