//! What the points of the line work with: a rack with a central server that may do everything, agents, and tasks.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::time::Duration;

use farmhand::central::proto::{EnumErrorCode, EnumMsgType, TalkToFriendTaskMessage, TransportMessage};
use farmhand::rack::snapshot::{LineState, LineView};
use prost::Message;
use prost_types::Any;
use tokio::time::timeout;

use super::capture::Capture;
use super::yard::{HEARD_WITHIN, Setup, Yard};
use crate::agent::Agent;
use crate::central::{CentralServer, ErrorRecord};
use crate::check::points::Place;
use crate::check::{Miss, miss, until};

/// The account of the agents.
pub(super) const ACCOUNT: &str = "wxid_check";
/// What farmhand.toml says for lines that agents speak by.
pub(super) const RELAY: &str = "[central]\nmode = \"relay\"";
/// What farmhand.toml says where the centre may have messages sent.
pub(super) const MESSAGES: &str = "[policy]\nallow = [{ group = \"people.messages\" }]";
/// An answer of farmhand's own, or of a server on this host.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// So many phones, and a centre that keeps a capture and has a heartbeat of two seconds; `more` are further lines of its section.
pub(super) fn site(place: &Place, phones: usize, more: &str) -> Setup {
    let capture = Capture::of(place).key();
    Setup::of(phones).rack(&format!(
        "[central]\nheartbeat_s = 2\nsilence_s_max = 20\nallow = \"people\"\n{capture}\n{more}\n[files]\n"
    ))
}

/// One phone by whose line an agent may speak.
pub(super) fn relayed(place: &Place, more: &str) -> Setup {
    site(place, 1, more).config(RELAY)
}

/// What went wrong while `what` was expected.
pub(super) fn missed<E: Display>(what: &str) -> impl FnOnce(E) -> Miss {
    move |error| miss(what, error)
}

/// The content of a message.
pub(super) fn any<M: Message>(name: &str, message: &M) -> Option<Any> {
    let type_url = format!("type.googleapis.com/Jubo.JuLiao.IM.Wx.Proto.{name}");
    Some(Any { type_url, value: message.encode_to_vec() })
}

/// A task that acts on people.
pub(super) fn talk(text: &str) -> Option<Any> {
    let task = TalkToFriendTaskMessage {
        we_chat_id: ACCOUNT.to_owned(),
        friend_id: "wxid_friend".to_owned(),
        content: text.as_bytes().to_vec(),
        ..Default::default()
    };
    any("TalkToFriendTaskMessage", &task)
}

/// Waits for something that an agent does.
pub(super) async fn within<T>(what: &str, act: impl Future<Output = io::Result<T>>) -> Result<T, Miss> {
    match timeout(HEARD_WITHIN, act).await {
        Ok(done) => done.map_err(missed(what)),
        Err(_) => Err(miss(what, format!("nothing within {HEARD_WITHIN:?}"))),
    }
}

/// The next message of this type that an agent gets; what comes before it is left aside.
pub(super) async fn hears(agent: &mut Agent, code: EnumMsgType) -> Result<TransportMessage, Miss> {
    let wait = async {
        while let Some(message) = agent.next().await? {
            if message.msg_type == code as i32 {
                return Ok(message);
            }
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    within(&format!("{} for the agent", code.as_str_name()), wait).await
}

/// Waits for the end of an agent's connection; what comes before it is left aside.
pub(super) async fn hears_the_end(agent: &mut Agent) -> Result<(), Miss> {
    let wait = async {
        while agent.next().await?.is_some() {}
        Ok(())
    };
    within("the end of the agent's connection", wait).await
}

/// Says that somebody has written to the agent's account; the Id.
pub(super) async fn tells(agent: &mut Agent, text: &str) -> Result<i64, Miss> {
    within("a notice that is taken", agent.was_told(ACCOUNT, text.as_bytes())).await
}

/// Says so, and waits until it is acknowledged.
pub(super) async fn tells_and_hears(agent: &mut Agent, text: &str) -> Result<(), Miss> {
    let notice = tells(agent, text).await?;
    within(&format!("an acknowledgement of `{text}`"), agent.acknowledged(notice)).await
}

/// Says so many notices, `text 0` and on, and waits for all acknowledgements.
pub(super) async fn tells_many(agent: &mut Agent, text: &str, many: u64) -> Result<(), Miss> {
    let mut last = 0;
    for number in 0..many {
        last = tells(agent, &format!("{text} {number}")).await?;
    }
    // They come in their order.
    within("an acknowledgement of the last notice", agent.acknowledged(last)).await
}

/// Whether nothing comes for an agent about a message, for as long as this.
pub(super) async fn unacknowledged(agent: &mut Agent, id: i64, time: Duration) -> Result<(), Miss> {
    match timeout(time, agent.acknowledged(id)).await {
        Err(_) => Ok(()),
        Ok(came) => Err(miss("no acknowledgement yet", format!("{came:?}"))),
    }
}

impl Yard {
    /// The line of a slot's phone, as `farmhand phones --json` has it.
    pub(super) async fn line(&self, slot: &str) -> Result<LineView, String> {
        let phones = self.phones().await?;
        phones.get(slot).map(|phone| phone.line.clone()).ok_or_else(|| format!("no phone in {slot}"))
    }

    /// Waits until a line is so, and gives it.
    pub(super) async fn line_becomes(
        &self,
        slot: &str,
        what: &str,
        limit: Duration,
        is: impl Fn(&LineView) -> bool,
    ) -> Result<LineView, Miss> {
        until(limit, what, async || {
            let line = self.line(slot).await?;
            if is(&line) { Ok(line) } else { Err(format!("{line:?}")) }
        })
        .await
    }

    /// Waits until the centre has registered a phone that has told what it is.
    pub(super) async fn registered(&self, slot: &str) -> Result<LineView, Miss> {
        let is = |line: &LineView| line.state == LineState::Registered;
        let line = self.line_becomes(slot, &format!("{slot} registered"), HEARD_WITHIN, is).await?;
        until(HEARD_WITHIN, &format!("PostDeviceInfoNotice of {slot}"), async || {
            let device = self.device(slot)?;
            if device.connected && device.device_infos > 0 { Ok(()) } else { Err(format!("{device:?}")) }
        })
        .await?;
        Ok(line)
    }

    /// An agent on a slot's phone that was let in by its line.
    pub(super) async fn agent(&self, slot: &str) -> Result<Agent, Miss> {
        self.agent_as(slot, self.rack.imei(slot).unwrap_or_default()).await
    }

    /// The same by another name than the rack's IMEI of the phone.
    pub(super) async fn agent_as(&self, slot: &str, credential: &str) -> Result<Agent, Miss> {
        until(HEARD_WITHIN, &format!("a line for the agent of {slot}"), async || {
            let line = self.tunnel(slot).ok_or("no tunnel")?;
            Agent::register(line, credential).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Where the phone in a slot leads its agent to the line.
    pub(super) fn tunnel(&self, slot: &str) -> Option<std::net::SocketAddr> {
        let seen = self.seen(slot).ok()?;
        seen.tunnels.get("tcp:9200").map(|tunnel| tunnel.local)
    }

    pub(super) fn centre(&self) -> Result<&CentralServer, Miss> {
        self.rack.central().ok_or_else(|| miss("a centre", "none"))
    }

    /// The centre comes back at its address.
    pub(super) async fn centre_returns(&self) -> Result<(), Miss> {
        self.centre()?.resume().await.map_err(missed("a centre that listens again"))
    }

    /// The centre sends a message to a phone; its Id.
    pub(super) async fn asks_for(&self, slot: &str, code: EnumMsgType, content: Option<Any>) -> Result<i64, Miss> {
        let imei = self.rack.imei(slot).unwrap_or_default();
        self.centre()?.send(imei, code as i32, content).await.map_err(missed("a message that is sent"))
    }

    /// The Error with which a message of the centre was answered; it must be this one.
    pub(super) async fn refusal(&self, slot: &str, id: i64, code: EnumErrorCode) -> Result<String, Miss> {
        let error: ErrorRecord = until(SOON, &format!("an Error of {slot} about {id}"), async || {
            let device = self.device(slot)?;
            let found = device.errors.iter().find(|error| error.ref_message_id == id).cloned();
            found.ok_or_else(|| format!("acknowledged {:?}, errors {:?}", device.acknowledged, device.errors))
        })
        .await?;
        if error.code == code as i32 && !error.message.is_empty() {
            return Ok(format!("{}: {}", code.as_str_name(), error.message));
        }
        Err(miss(code.as_str_name(), format!("{error:?}")))
    }

    /// Waits until the centre has got this many different texts, and gives all, in their order.
    pub(super) async fn texts(&self, capture: &Capture, many: usize, limit: Duration) -> Result<Vec<String>, Miss> {
        until(limit, &format!("{many} notices at the centre"), async || {
            let texts = capture.texts();
            let mut different = texts.clone();
            different.sort_unstable();
            different.dedup();
            if different.len() >= many { Ok(texts) } else { Err(format!("{} are there", different.len())) }
        })
        .await
    }
}
