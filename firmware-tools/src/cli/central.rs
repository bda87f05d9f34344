//! `rackbench central`: the reference central server alone, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use miette::{IntoDiagnostic as _, Result};

use super::{interrupted, log_to_stderr, say};
use crate::central::{CentralServer, CentralSpec, ServerTls};
use crate::rack_file::{Allow, CentralAck, CentralFault};

/// Run the reference central server alone until Ctrl-C; it prints what it has seen in the end
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:9200")]
    listen: SocketAddr,
    /// A session that is silent for so long is ended, in seconds
    #[arg(long, default_value_t = 180)]
    silence_s_max: u64,
    /// What is wrong with it
    #[arg(long)]
    fault: Option<CentralFault>,
    /// How it answers notices
    #[arg(long, default_value = "each")]
    ack: CentralAck,
    /// Which tasks it may send
    #[arg(long, default_value = "device")]
    allow: Allow,
    /// Append every frame of both directions to this file, as it is on the wire
    #[arg(long)]
    capture: Option<PathBuf>,
    /// Speak TLS with the certificate in this folder, made there at first with an authority's and a client's
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Take only clients that show the certificate in that folder
    #[arg(long, requires = "tls")]
    tls_clients: bool,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("info,mqtt5=warn");
        let listen_at = self.listen.ip().to_string();
        let tls = self.tls.as_deref().map(|dir| ServerTls::in_dir(dir, &["localhost", &listen_at])).transpose();
        let mut tls = tls.into_diagnostic()?;
        if let (Some(tls), Some(dir), true) = (&mut tls, &self.tls, self.tls_clients) {
            tls.clients_of = Some(dir.join("ca.pem"));
        }
        let spec = CentralSpec {
            listen: self.listen,
            silence_max: Duration::from_secs(self.silence_s_max),
            allow: self.allow,
            fault: self.fault,
            ack: self.ack,
            capture: self.capture,
            tls,
        };
        let central = CentralServer::start(spec).await.into_diagnostic()?;
        say(format_args!("listening on {}", central.address()))?;
        if let Some(dir) = &self.tls {
            let file = |name| dir.join(name).display().to_string();
            say(format_args!("[central.tls] of the rack: ca = \"{}\"", file("ca.pem")))?;
            if self.tls_clients {
                say(format_args!("cert = \"{}\"\nkey = \"{}\"", file("client.crt"), file("client.key")))?;
            }
        }
        interrupted().await?;
        central.stop().await;
        say(format_args!("{}", serde_json::to_string_pretty(&central.record()).into_diagnostic()?))?;
        Ok(())
    }
}
