//! Agents that have something to say, and say again what was not acknowledged when their line ends.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farmhand::central::proto::EnumMsgType as Type;
use firmware_tools::agent::Agent;
use firmware_tools::phone::VirtualPhone;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::SECRET;
use crate::site::{Site, credential};

/// Notices of one agent that are not acknowledged yet, at most.
const WINDOW: usize = 32;
/// Between two looks for the line of a daemon that has just begun.
const LOOK: Duration = Duration::from_millis(20);
/// An acknowledgement that takes longer comes by another connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// One agent on each phone.
pub(crate) struct Crew {
    acknowledged: Arc<AtomicU64>,
    _agents: JoinSet<()>,
}

impl Crew {
    /// Each says so many notices, which are at least `width` bytes long.
    pub(crate) fn start(site: &Site, notices: u64, width: usize) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut agents = JoinSet::new();
        for (number, phone) in site.phones.iter().enumerate() {
            let talker = Talker {
                credential: credential(number),
                notices,
                width,
                next: 0,
                open: VecDeque::new(),
                acknowledged: Arc::clone(&acknowledged),
            };
            agents.spawn(talker.live(Arc::clone(phone)));
        }
        Self { acknowledged, _agents: agents }
    }

    /// How many notices are acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Whether so many notices are acknowledged.
    ///
    /// # Errors
    /// Fewer are.
    pub(crate) fn has_acknowledged(&self, wanted: u64) -> Result<(), String> {
        let seen = self.acknowledged();
        if seen >= wanted { Ok(()) } else { Err(format!("{seen} are")) }
    }
}

struct Talker {
    credential: String,
    notices: u64,
    width: usize,
    /// The number of the next one.
    next: u64,
    /// Said, and not acknowledged.
    open: VecDeque<u64>,
    acknowledged: Arc<AtomicU64>,
}

impl Talker {
    async fn live(mut self, phone: Arc<VirtualPhone>) {
        while self.next < self.notices || !self.open.is_empty() {
            let line = phone.state().tunnels.get("tcp:9200").map(|tunnel| tunnel.local);
            let Some(line) = line else {
                sleep(LOOK).await;
                continue;
            };
            match Agent::register(line, &self.credential).await {
                // Its end is what the test is about.
                Ok(agent) => drop(self.talk(agent).await),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    async fn talk(&mut self, mut agent: Agent) -> io::Result<()> {
        let mut ids = BTreeMap::new();
        for number in self.open.clone() {
            ids.insert(self.say(&mut agent, number).await?, number);
        }
        loop {
            while self.open.len() < WINDOW && self.next < self.notices {
                self.open.push_back(self.next);
                self.next += 1;
                let number = self.next - 1;
                ids.insert(self.say(&mut agent, number).await?, number);
            }
            if self.open.is_empty() {
                return Ok(());
            }
            let Some(message) = timeout(PATIENCE, agent.next()).await?? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if message.msg_type == Type::MsgReceivedAck as i32
                && let Some(number) = ids.remove(&message.ref_message_id)
                && let Some(at) = self.open.iter().position(|open| *open == number)
            {
                self.open.remove(at);
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    async fn say(&self, agent: &mut Agent, number: u64) -> io::Result<i64> {
        agent.was_told(&self.credential, format!("{SECRET} {number:<width$}", width = self.width).as_bytes()).await
    }
}
