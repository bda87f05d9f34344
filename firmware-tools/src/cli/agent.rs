//! `rackbench agent`: the agent on a virtual phone, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use farmhand::central::catalogue;
use farmhand::central::proto::{EnumMsgType, TransportMessage};
use miette::{IntoDiagnostic as _, Result, miette};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{interrupted, log_to_stderr, say};
use crate::agent::{Agent, App, Home, carry_out, find_line};

/// Between two attempts to find the line, or to register on it.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const WECHAT_ID: &str = "wxid_rackbench";

/// Be the agent on a virtual phone until Ctrl-C: register through the cable, say notices, acknowledge tasks; it prints what it is told, and with --rack it upgrades itself when it is told to
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The phone whose line it is, as the file of tunnels calls it
    #[arg(long, required_unless_present = "to")]
    phone: Option<String>,
    /// The file in which the rack writes its phones' tunnels
    #[arg(long, default_value = "tunnels")]
    tunnels: PathBuf,
    /// Where the line is, instead of looking into the file
    #[arg(long)]
    to: Option<SocketAddr>,
    /// The directory of the rack in which the phone is: an upgrade that it is told of is installed there
    #[arg(long, requires = "phone")]
    rack: Option<PathBuf>,
    /// What it registers as
    #[arg(long)]
    imei: String,
    /// So many milliseconds between two notices; none are said without it
    #[arg(long)]
    notice_every_ms: Option<u64>,
    /// What is wrong with it
    #[arg(long)]
    fault: Option<AgentFault>,
}

/// What can be wrong with an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AgentFault {
    /// It says notices as fast as they are taken.
    Floods,
    /// It says heartbeats and never reads.
    NeverReads,
    /// It registers as another phone.
    AnotherIdentity,
    /// It acknowledges what it was never sent.
    FalseAcks,
    /// It sends a frame that is no message.
    Garbage,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("info");
        tokio::select! {
            ended = self.live() => ended,
            ended = interrupted() => ended,
        }
    }

    /// Comes back whenever the line ends, as a real agent does.
    async fn live(&self) -> Result<()> {
        let imei = match self.fault {
            Some(AgentFault::AnotherIdentity) => "000000000000000",
            _ => &self.imei,
        };
        let mut apps = Vec::new();
        loop {
            let registered = match self.line() {
                Ok(line) => Agent::register(line, imei).await,
                Err(why) => Err(why),
            };
            match registered {
                Ok(agent) => {
                    say(format_args!("registered as {imei}"))?;
                    let ended = self.converse(agent, &mut apps).await;
                    say(format_args!(
                        "the line ended: {}",
                        ended.err().map_or_else(|| "closed".to_owned(), |why| why.to_string())
                    ))?;
                }
                Err(why) => tracing::info!("no line yet: {why}"),
            }
            sleep(RETRY_AFTER).await;
        }
    }

    fn line(&self) -> std::io::Result<SocketAddr> {
        match (&self.to, &self.phone) {
            (Some(line), _) => Ok(*line),
            (None, Some(phone)) => find_line(&self.tunnels, phone),
            (None, None) => Err(std::io::Error::other("neither --to nor --phone")),
        }
    }

    /// `apps` are what it has installed, of which each connection tells first.
    async fn converse(&self, mut agent: Agent, apps: &mut Vec<App>) -> Result<()> {
        agent.is_online(WECHAT_ID).await.into_diagnostic()?;
        if !apps.is_empty() {
            agent.reports(&self.imei, apps).await.into_diagnostic()?;
        }
        match self.fault {
            Some(AgentFault::NeverReads) => loop {
                agent.beat().await.into_diagnostic()?;
            },
            Some(AgentFault::FalseAcks) => {
                for id in 0..1000 {
                    agent.send(1002, None, id).await.into_diagnostic()?;
                }
            }
            Some(AgentFault::Garbage) => agent.send_bytes(vec![0xff; 32]).await.into_diagnostic()?,
            Some(AgentFault::Floods | AgentFault::AnotherIdentity) | None => {}
        }
        let pause = if self.fault == Some(AgentFault::Floods) { Some(0) } else { self.notice_every_ms };
        let mut heartbeat = interval(Duration::from_secs(60));
        let mut notices = interval(Duration::from_millis(pause.unwrap_or(u64::from(u32::MAX)).max(1)));
        notices.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = 0_u64;
        loop {
            tokio::select! {
                message = agent.next() => {
                    let message = message.into_diagnostic()?.ok_or_else(|| miette!("it was closed"))?;
                    say(format_args!("{} {} about {}", message.id, catalogue::describe(message.msg_type), message.ref_message_id))?;
                    agent.take(&message).await.into_diagnostic()?;
                    if message.msg_type == EnumMsgType::UpgradeDeviceAppNotice as i32
                        && let Some(upgraded) = self.upgrade(&mut agent, &message).await?
                    {
                        *apps = upgraded;
                        say(format_args!("it is replaced by {apps:?}"))?;
                        return Ok(());
                    }
                }
                _ = heartbeat.tick() => {
                    agent.beat().await.into_diagnostic()?;
                }
                _ = notices.tick(), if pause.is_some() => {
                    said += 1;
                    agent.was_told(WECHAT_ID, format!("notice {said}").as_bytes()).await.into_diagnostic()?;
                }
            }
        }
    }

    /// What it has installed, or nothing, which it has told then.
    async fn upgrade(&self, agent: &mut Agent, notice: &TransportMessage) -> Result<Option<Vec<App>>> {
        let (Some(dir), Some(phone)) = (&self.rack, &self.phone) else { return Ok(None) };
        match carry_out(notice, Home::Rack { dir, phone }).await {
            Ok(apps) => Ok(Some(apps)),
            Err(why) => {
                say(format_args!("it cannot upgrade itself: {why}"))?;
                agent.could_not_upgrade(notice.id, &why.to_string()).await.into_diagnostic()?;
                Ok(None)
            }
        }
    }
}
