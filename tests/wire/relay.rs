//! An agent on a virtual phone, through the cable, and a central server: what each of them sees of the other.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::online::{OnlinePhones, Seat};
use farmhand::adb::tcp::TcpTransport;
use farmhand::central::line::spawn;
use farmhand::central::proto::{EnumErrorCode, EnumMsgType, ErrorMessage, FriendTalkNoticeMessage};
use farmhand::central::session::Settings;
use farmhand::config::{Allowance, Policy, PolicyGroup};
use farmhand::rack::event::{DeviceInfo, LineCommand, LineEvent, Presence};
use farmhand::rack::ids::{Endpoint, PhoneId};
use firmware_tools::agent::Agent;
use firmware_tools::phone::{PhoneSpec, VirtualPhone};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::line::Office;
use crate::server::{Peer, Received, Server};

const PATIENCE: Duration = Duration::from_secs(20);
const IMEI: &str = "490154203237518";

static KEYS: LazyLock<Arc<KeyRing>> = LazyLock::new(|| {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys");
    Arc::new(KeyRing::load_or_create(Path::new(dir)).expect("a key"))
});

/// A phone on its cable, its line, and the model's end of that, which has each probe answered.
struct Rig {
    phone: VirtualPhone,
    server: Server,
    online: OnlinePhones,
    endpoint: Endpoint,
    adb: Adb,
    seat: Option<Seat>,
    told: mpsc::UnboundedReceiver<LineEvent>,
    office: Office,
    cancel: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn plug(phone: &VirtualPhone) -> Adb {
    let transport = TcpTransport::connect(phone.address()).await.unwrap();
    connect(transport, Arc::clone(&KEYS), ConnectOptions::default()).await.unwrap()
}

impl Rig {
    /// Everything may pass.
    async fn start() -> Self {
        let phone = VirtualPhone::start(PhoneSpec::new("A1", "R5CW2355X")).unwrap();
        let endpoint: Endpoint = format!("tcp:{}", phone.address()).parse().unwrap();
        let (adb, online) = (plug(&phone).await, OnlinePhones::default());
        let seat = Some(online.sit(endpoint.clone(), adb.clone()));
        let server = Server::start().await;
        let (mut settings, office) = Office::open(server.address(), Settings::new(Duration::from_secs(60)));
        settings.agents.online = online.clone();
        let mut policy = Policy::default();
        policy.allowed.extend(PolicyGroup::ALL.map(|group| (group, Allowance::default())));
        office.owner.send_replace(Arc::new(policy));

        let ((commands, orders), (reports, events)) = (mpsc::channel(8), mpsc::channel(8));
        let cancel = CancellationToken::new();
        spawn(settings, PhoneId::new("A1"), orders, reports, cancel.clone());
        let device = DeviceInfo { brand: "acme".to_owned(), ..DeviceInfo::default() };
        let open = LineCommand::Open { credential: IMEI.to_owned(), device: Box::new(device), pause: Duration::ZERO };
        commands.send(open).await.unwrap();
        commands.send(LineCommand::Tunnel(Some(endpoint.clone()))).await.unwrap();
        let told = model(commands, events);
        Self { phone, server, online, endpoint, adb, seat, told, office, cancel }
    }

    /// Where the agent finds its line, once it does.
    async fn line(&self) -> SocketAddr {
        let find = async {
            loop {
                if let Some(tunnel) = self.phone.state().tunnels.get("tcp:9200") {
                    return tunnel.local;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, find).await.expect("the tunnel is made")
    }

    async fn agent(&self) -> Agent {
        self.registers_as(IMEI).await.unwrap()
    }

    /// What the line says to whoever names this identity; a tunnel that is about to go, or not yet there, is tried again.
    async fn registers_as(&self, imei: &str) -> std::io::Result<Agent> {
        let attempt = async {
            loop {
                match Agent::register(self.line().await, imei).await {
                    Err(why) if why.kind() != std::io::ErrorKind::PermissionDenied => tokio::task::yield_now().await,
                    said => return said,
                }
            }
        };
        timeout(PATIENCE, attempt).await.expect("the line answers")
    }

    async fn until(&mut self, what: impl Fn(&LineEvent) -> bool) -> LineEvent {
        let wait = async {
            loop {
                let event = self.told.recv().await.expect("the line lives");
                if what(&event) {
                    return event;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("the line tells it")
    }
}

/// Answers each probe, and hands on all else.
fn model(
    commands: mpsc::Sender<LineCommand>,
    mut events: mpsc::Receiver<LineEvent>,
) -> mpsc::UnboundedReceiver<LineEvent> {
    let (to, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if event == LineEvent::HeartbeatDue {
                let _ = commands.send(LineCommand::Presence(Presence::Answered)).await;
            }
            let _ = to.send(event);
        }
    });
    told
}

/// The next message that is no heartbeat; heartbeats are acknowledged.
async fn next(peer: &mut Peer) -> Received {
    loop {
        let received = peer.next().await.expect("the line says something");
        if received.code != EnumMsgType::HeartBeatReq as i32 {
            return received;
        }
        peer.send(1002, &[], received.id).await;
    }
}

async fn hear(agent: &mut Agent) -> farmhand::central::proto::TransportMessage {
    timeout(PATIENCE, agent.next()).await.expect("the agent hears").unwrap().expect("the line stands")
}

#[tokio::test]
async fn what_an_agent_says_reaches_the_centre_and_what_the_centre_asks_for_reaches_the_agent() {
    let mut rig = Rig::start().await;
    let mut centre = rig.server.accept_registered().await;
    let mut agent = rig.agent().await;
    rig.until(|event| *event == LineEvent::AgentThere).await;

    let said = agent.was_told("wxid_a", &[0xff; 3000]).await.unwrap();
    let notice = next(&mut centre).await;
    assert_eq!((notice.code, notice.token.as_str()), (1024, "token"));
    let content =
        FriendTalkNoticeMessage { we_chat_id: "wxid_a".to_owned(), content: vec![0xff; 3000], ..Default::default() };
    assert_eq!(notice.body, content.encode_to_vec(), "byte for byte");
    centre.send(1002, &[], notice.id).await;
    timeout(PATIENCE, agent.acknowledged(said)).await.expect("the centre has taken it").unwrap();

    let task = centre.send(1070, b"\x0a\x01x\x9a\x06\x02hi", 0).await;
    let given = hear(&mut agent).await;
    assert_eq!(
        (given.msg_type, given.content.as_ref().unwrap().value.as_slice()),
        (1070, &b"\x0a\x01x\x9a\x06\x02hi"[..])
    );
    agent.take(&given).await.unwrap();
    let taken = next(&mut centre).await;
    assert_eq!((taken.code, taken.reference), (1002, task));
    agent.send(1025, None, given.id).await.unwrap();
    let result = next(&mut centre).await;
    assert_eq!((result.code, result.reference), (1025, task));
    let audit = rig.office.audit().await;
    assert_eq!(audit, ["central server: 1070 TalkToFriendTask passed (A1)"]);
}

/// So many that the acknowledgements for the agent fill their queue long before the last of them is read.
const LAST_WORDS: usize = 400;

#[tokio::test]
async fn an_agent_that_hangs_up_is_heard_to_its_last_word() {
    let rig = Rig::start().await;
    let mut centre = rig.server.accept_registered().await;
    let mut agent = rig.agent().await;
    let words: Vec<Vec<u8>> = (0..LAST_WORDS).map(|number| number.to_string().into_bytes()).collect();
    agent.says_at_last("wxid_a", &words).await.unwrap();
    let hears_nothing_more = async { while let Ok(Some(_)) = agent.next().await {} };
    timeout(PATIENCE, hears_nothing_more).await.expect("the phone ends its connection");
    for word in words {
        let notice = next(&mut centre).await;
        let heard = FriendTalkNoticeMessage::decode(&notice.body[..]).unwrap();
        assert_eq!(String::from_utf8(heard.content), String::from_utf8(word));
        centre.send(1002, &[], notice.id).await;
    }
}

#[tokio::test]
async fn a_centre_that_restarts_is_none_of_the_agents_business() {
    let mut rig = Rig::start().await;
    let mut centre = rig.server.accept_registered().await;
    let mut agent = rig.agent().await;
    agent.is_online("wxid_a").await.unwrap();
    assert_eq!(next(&mut centre).await.code, 1020);
    drop(centre);
    rig.until(|event| matches!(event, LineEvent::State { why, .. } if why.contains("ended"))).await;
    let said = [agent.was_told("wxid_a", b"1").await.unwrap(), agent.was_told("wxid_a", b"2").await.unwrap()];

    let mut centre = rig.server.accept().await;
    let auth = centre.expect(EnumMsgType::DeviceAuthReq).await;
    let response =
        farmhand::central::proto::DeviceAuthRspMessage { access_token: "anew".to_owned(), ..Default::default() };
    centre.send(1011, &response.encode_to_vec(), auth.id).await;
    let mut codes = Vec::new();
    while codes.iter().filter(|code| **code == 1024).count() < 2 {
        let received = next(&mut centre).await;
        assert_eq!(received.token, "anew");
        codes.push(received.code);
        if received.code == 1024 {
            centre.send(1002, &[], received.id).await;
        }
    }
    // The rack's own word of the phone, the account that it knows of, what may not have been taken, and what came meanwhile.
    assert_eq!(codes, [2027, 1020, 1020, 1024, 1024]);
    for said in said {
        timeout(PATIENCE, agent.acknowledged(said)).await.expect("it is taken").unwrap();
    }
}

#[tokio::test]
async fn an_agent_finds_its_line_again_after_the_cable_was_out_and_a_stranger_is_not_let_in() {
    let mut rig = Rig::start().await;
    let mut centre = rig.server.accept_registered().await;
    let mut agent = rig.agent().await;
    let task = centre.send(1070, b"\x0a\x01x", 0).await;
    hear(&mut agent).await;
    rig.seat = None;
    let refused = next(&mut centre).await;
    assert_eq!((refused.code, refused.reference), (1003, task), "it was given and not acknowledged");
    let error = ErrorMessage::decode(&refused.body[..]).unwrap();
    assert_eq!(error.error_code(), EnumErrorCode::TargetNotOnline);
    rig.until(|event| matches!(event, LineEvent::AgentLeft { .. })).await;

    rig.adb = plug(&rig.phone).await;
    rig.seat = Some(rig.online.sit(rig.endpoint.clone(), rig.adb.clone()));
    let other = rig.registers_as("350000000000001").await;
    assert!(other.is_err_and(|why| why.to_string().contains("1003 Error")));
    let mut agent = rig.agent().await;
    let beat = agent.beat().await.unwrap();
    timeout(PATIENCE, agent.acknowledged(beat)).await.expect("the line is back").unwrap();
    let audit = rig.office.audit().await;
    assert!(audit.iter().any(|line| line.starts_with("agent: 1010 DeviceAuthReq was refused")), "{audit:?}");
}

#[tokio::test]
async fn an_agent_that_floods_is_held_back_by_the_cable_and_loses_nothing() {
    const SAID: u64 = 2000;
    let rig = Rig::start().await;
    let mut agent = rig.agent().await;
    // Nobody lets the line in: all of it waits, first in the line, then in the cable.
    let flood = tokio::spawn(async move {
        for number in 0..SAID {
            agent.was_told("wxid_a", &[&number.to_be_bytes()[..], &[b'x'; 4000]].concat()).await.unwrap();
        }
        agent
    });
    let mut centre = rig.server.accept_registered().await;
    let mut numbers = Vec::new();
    while numbers.len() < SAID as usize {
        let received = next(&mut centre).await;
        if received.code == 1024 {
            let notice = farmhand::central::proto::FriendTalkNoticeMessage::decode(&received.body[..]).unwrap();
            numbers.push(u64::from_be_bytes(notice.content[..8].try_into().unwrap()));
            centre.send(1002, &[], received.id).await;
        }
    }
    assert_eq!(numbers, (0..SAID).collect::<Vec<_>>());
    drop(timeout(PATIENCE, flood).await.expect("all was said").unwrap());
}
