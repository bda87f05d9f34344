//! A line over a real socket: what it does when the server is well, silent, wrong or hostile.

use std::sync::Arc;
use std::time::Duration;

use farmhand::adb::online::OnlinePhones;
use farmhand::central::line::{self, Agents, LineSettings, spawn};
use farmhand::central::pace::Speakers;
use farmhand::central::proto::{
    DeviceAppUpgradeMessage, EnumErrorCode, EnumMsgType, EnumPhoneAction, ErrorMessage, PhoneActionTaskMessage,
    PhoneStateTaskResultNoticeMessage, PhoneStateWarningNoticeMessage, TaskResultNoticeMessage,
    UpgradeDeviceAppNoticeMessage,
};
use farmhand::central::session::Settings;
use farmhand::config::{Ack, AgentPort, Allowance, Policy, PolicyGroup};
use farmhand::rack::event::{Act, Asked, BatteryCondition, Condition, LineCommand, LineEvent, Presence, TaskName};
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::LineState;
use farmhand::store::{StateDir, Store};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(10);
const CREDENTIAL: &str = "490154203237518";

/// A line, and the model's end of it.
pub(crate) struct Line {
    commands: mpsc::Sender<LineCommand>,
    events: mpsc::Receiver<LineEvent>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    office: Office,
}

/// What a line has of the daemon: the owner's policy, and the store.
pub(crate) struct Office {
    pub(crate) owner: watch::Sender<Arc<Policy>>,
    store: Store,
    _state: StateDir,
    _dir: tempfile::TempDir,
}

impl Office {
    pub(crate) fn open(server: String, session: Settings) -> (LineSettings, Self) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let (owner, policy) = watch::channel(Arc::default());
        let servers = vec![line::Server::bare(server)];
        let agents = Agents { online: OnlinePhones::default(), port: AgentPort::default() };
        let ack = Ack::default();
        let settings = LineSettings {
            started: tokio::time::Instant::now(),
            servers,
            max_frame: 1 << 20,
            session,
            policy,
            store: store.clone(),
            ack,
            agents,
            speakers: Speakers::default(),
            storage: None,
        };
        (settings, Self { owner, store, _state: state, _dir: dir })
    }

    /// The audit, the oldest first.
    pub(crate) async fn audit(&self) -> Vec<String> {
        let rows = self.store.audit(100).await.unwrap();
        rows.into_iter().rev().map(|row| format!("{}: {} ({})", row.who, row.what, row.target)).collect()
    }
}

impl Line {
    /// A line to `server` that was told to open.
    async fn open(server: &Server) -> Self {
        Self::open_with(server, Settings::new(Duration::from_secs(60))).await
    }

    async fn open_with(server: &Server, session: Settings) -> Self {
        let (settings, office) = Office::open(server.address(), session);
        Self::start(settings, office).await
    }

    /// A line that was told to open.
    pub(crate) async fn start(settings: LineSettings, office: Office) -> Self {
        let ((commands, commands_out), (events_in, events)) = (mpsc::channel(8), mpsc::channel(8));
        let cancel = CancellationToken::new();
        let task = spawn(settings, PhoneId::new("P1"), commands_out, events_in, cancel.clone());
        let line = Self { commands, events, cancel, task, office };
        line.tell(LineCommand::Open {
            credential: CREDENTIAL.to_owned(),
            device: Box::default(),
            pause: Duration::ZERO,
        })
        .await;
        line
    }

    pub(crate) async fn tell(&self, command: LineCommand) {
        self.commands.send(command).await.unwrap();
    }

    pub(crate) async fn event(&mut self) -> LineEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            match event.expect("the line reports something").expect("the line lives") {
                // What it waits for is told between the others.
                LineEvent::Waits(_) => {}
                event => return event,
            }
        }
    }

    /// What it waits for next, of which it says `part`.
    async fn until_it_waits_for(&mut self, part: &str) -> Duration {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            if let Some(LineEvent::Waits(Some(wait))) = event.expect("the line tells its waits")
                && wait.why.contains(part)
            {
                return wait.within;
            }
        }
    }

    /// The sentence of the next report of this state; others may come before it.
    pub(crate) async fn until(&mut self, wanted: LineState) -> String {
        loop {
            match self.event().await {
                LineEvent::State { state, why } if state == wanted => return why,
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_phone_registers_upgrades_and_leaves() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    line.until(LineState::Registered).await;

    let app = DeviceAppUpgradeMessage {
        ver_number: 9,
        package_name: "org.example.agent".to_owned(),
        package_url: "http://c/a.apk".to_owned(),
        ..Default::default()
    };
    let notice = UpgradeDeviceAppNoticeMessage { app_infos: vec![app], ..Default::default() };
    let id = peer.send(1094, &notice.encode_to_vec(), 0).await;
    assert_eq!(peer.expect(EnumMsgType::MsgReceivedAck).await.reference, id);
    let LineEvent::UpgradeNotice(notice) = line.event().await else { panic!("an upgrade is told") };
    assert_eq!((notice.message_id, notice.version_code.0), (id, 9));

    let task = TaskName { message_id: id, task_type: 1094, ..TaskName::default() };
    line.tell(LineCommand::TaskEnded { task, result: Err("no room".to_owned()) }).await;
    let result = peer.expect(EnumMsgType::TaskResultNotice).await;
    assert_eq!((result.reference, result.token.as_str()), (id, "token"));
    assert_eq!(TaskResultNoticeMessage::decode(&result.body[..]).unwrap().err_msg, "no room");
    peer.send(1002, &[], result.id).await;
    assert_eq!(line.event().await, LineEvent::EndTold { message_id: id });

    line.tell(LineCommand::Close { why: "the phone was unplugged".to_owned() }).await;
    assert_eq!(line.until(LineState::Closed).await, "the phone was unplugged");
    assert!(peer.next().await.is_none(), "the connection is closed");
}

#[tokio::test]
async fn the_heart_beats_while_the_phone_answers() {
    let server = Server::start().await;
    let mut line = Line::open_with(&server, Settings::new(Duration::from_secs(1))).await;
    let mut peer = server.accept_registered().await;
    line.until(LineState::Registered).await;
    assert_eq!(line.event().await, LineEvent::HeartbeatDue);
    line.tell(LineCommand::Presence(Presence::Answered)).await;
    let beat = peer.expect(EnumMsgType::HeartBeatReq).await;
    peer.send(1002, &[], beat.id).await;
    assert_eq!(line.event().await, LineEvent::HeartbeatAcknowledged);
}

#[tokio::test]
async fn a_server_that_restarts_has_the_line_back() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    drop(server.accept_registered().await);
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains("ended"), "{why}");
    let _peer = server.accept_registered().await;
    line.until(LineState::Registered).await;
}

#[tokio::test]
async fn a_wrong_device_is_told_so_and_not_tried_again_soon() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept().await;
    let auth = peer.expect(EnumMsgType::DeviceAuthReq).await;
    let error = ErrorMessage { error_code: EnumErrorCode::NoRight as i32, error_msg: "unknown device".to_owned() };
    peer.send(1003, &error.encode_to_vec(), auth.id).await;
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains(CREDENTIAL) && why.contains("unknown device"), "{why}");
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_not_used_again() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    let error = ErrorMessage { error_code: EnumErrorCode::NoRight as i32, error_msg: "wrong token".to_owned() };
    peer.send(1003, &error.encode_to_vec(), 0).await;
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains("wrong token"), "{why}");
    let auth = server.accept().await.expect(EnumMsgType::DeviceAuthReq).await;
    assert_eq!(auth.token, "");
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_left() {
    let server = Server::start().await;
    let session = Settings { auth_deadline: Duration::from_millis(100), ..Settings::new(Duration::from_secs(60)) };
    let mut line = Line::open_with(&server, session).await;
    let mut peer = server.accept().await;
    peer.expect(EnumMsgType::DeviceAuthReq).await;
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains("did not answer DeviceAuthReq"), "{why}");
    assert!(peer.next().await.is_none());
}

#[tokio::test]
async fn nobody_listening_is_a_reason_to_wait() {
    let server = Server::start().await;
    let (settings, office) = Office::open(server.address(), Settings::new(Duration::from_secs(60)));
    drop(server);
    let mut line = Line::start(settings, office).await;
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains("127.0.0.1") && why.contains("cannot be reached"), "{why}");
}

/// What the line says to bytes that are no frame: Error, then the end of the connection, and a reason with these words.
async fn ends_with_error(bytes: &[u8], reason: &str) {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    peer.send_raw(bytes).await;
    let error = peer.expect(EnumMsgType::Error).await;
    let error = ErrorMessage::decode(&error.body[..]).unwrap();
    assert_eq!(error.error_code(), EnumErrorCode::InvalidParam);
    assert!(error.error_msg.contains(reason), "{}", error.error_msg);
    assert!(peer.next().await.is_none(), "the connection ends");
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains(reason), "{why}");
}

#[tokio::test]
async fn a_negative_length_ends_the_connection() {
    ends_with_error(&[0xff, 0xff, 0xff, 0xf0], "negative").await;
}

#[tokio::test]
async fn a_length_of_zero_ends_the_connection() {
    ends_with_error(&[0, 0, 0, 0], "length is 0").await;
}

#[tokio::test]
async fn a_huge_length_ends_the_connection_at_once() {
    ends_with_error(&[0x7f, 0xff, 0xff, 0xff], "at most 1048576").await;
}

#[tokio::test]
async fn garbage_ends_the_connection() {
    ends_with_error(b"\x00\x00\x00\x05\xff\xff\xff\xff\xff", "no TransportMessage").await;
}

#[tokio::test]
async fn a_frame_that_is_cut_short_is_named() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    peer.send_raw(&[0, 0, 1, 0, 8]).await;
    drop(peer);
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains("5 of 260 bytes"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_read_or_is_unknown_costs_one_error_each_and_no_connection() {
    let server = Server::start().await;
    let _line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    for (code, content, expected) in [
        (1094, &b"\xff\xff\xff"[..], EnumErrorCode::InvalidParam),
        (4711, b"", EnumErrorCode::NoRight),
        (-1, b"", EnumErrorCode::NoRight),
        (1070, b"", EnumErrorCode::NoRight),
        (1256, b"", EnumErrorCode::InternalError),
        (1256, b"\x12\x01x", EnumErrorCode::InvalidParam),
        (1096, b"", EnumErrorCode::TargetNotOnline),
    ] {
        let id = peer.send(code, content, 0).await;
        let error = peer.expect(EnumMsgType::Error).await;
        assert_eq!(error.reference, id);
        assert_eq!(ErrorMessage::decode(&error.body[..]).unwrap().error_code(), expected, "{code}");
    }
}

#[tokio::test]
async fn frames_may_come_in_any_pieces() {
    let server = Server::start().await;
    let _line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    // TriggerDeviceInfo with Id 5, twice, cut in the middle of the second length.
    let frame = [0, 0, 0, 5, 8, 5, 0x18, 0xf8, 7];
    let both = [frame, frame].concat();
    peer.send_raw(&both[..11]).await;
    assert_eq!(peer.expect(EnumMsgType::MsgReceivedAck).await.reference, 5);
    peer.expect(EnumMsgType::PostDeviceInfoNotice).await;
    peer.send_raw(&both[11..]).await;
    peer.expect(EnumMsgType::MsgReceivedAck).await;
    peer.expect(EnumMsgType::PostDeviceInfoNotice).await;
}

#[tokio::test]
async fn a_line_ends_when_it_is_cancelled_or_nobody_is_left() {
    let server = Server::start().await;
    let line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    line.cancel.cancel();
    timeout(PATIENCE, line.task).await.expect("it ends").unwrap();
    assert!(peer.next().await.is_none());

    let line = Line::open(&server).await;
    drop((line.commands, line.events));
    timeout(PATIENCE, line.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn the_model_hears_what_a_line_waits_for_and_how_long() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let _peer = server.accept_registered().await;
    let heartbeat = line.until_it_waits_for("the next heartbeat").await;
    assert!(heartbeat > Duration::from_secs(50) && heartbeat <= Duration::from_secs(60), "{heartbeat:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_in_words() {
    let server = Server::start().await;
    let address = server.address();
    drop(server);
    let (settings, office) = Office::open(address.clone(), Settings::new(PATIENCE));
    let ((commands, commands_out), (events_in, events)) = (mpsc::channel(8), mpsc::channel(8));
    let cancel = CancellationToken::new();
    let task = spawn(settings, PhoneId::new("P1"), commands_out, events_in, cancel.clone());
    let mut line = Line { commands, events, cancel, task, office };
    line.tell(LineCommand::Open { credential: CREDENTIAL.to_owned(), device: Box::default(), pause: Duration::ZERO })
        .await;
    let why = line.until(LineState::Waiting).await;
    assert_eq!(why, format!("the central server cannot be reached: nobody listens at {address}"));
    assert!(line.until_it_waits_for("the next attempt").await <= Duration::from_secs(2));
}

#[tokio::test]
async fn what_the_centre_asks_for_stands_in_the_audit_before_it_is_answered() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    line.until(LineState::Registered).await;
    let talk = peer.send(1070, b"secret", 0).await;
    assert_eq!(peer.expect(EnumMsgType::Error).await.reference, talk);
    let asked = peer.send(1016, &[], 0).await;
    assert_eq!(peer.expect(EnumMsgType::MsgReceivedAck).await.reference, asked);
    let audit = line.office.audit().await;
    let refused =
        "1070 TalkToFriendTask was refused: TalkToFriendTask: the owner of this rack has not allowed people.messages";
    assert_eq!(
        audit,
        [format!("central server: {refused} (P1)"), "central server: 1016 TriggerDeviceInfo passed (P1)".to_owned()]
    );
}

#[tokio::test]
async fn another_policy_of_the_owner_counts_on_the_line_that_stands() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    line.until(LineState::Registered).await;
    let mut policy = Policy::default();
    policy.allowed.insert(PolicyGroup::Unknown, Allowance::default());
    line.office.owner.send_replace(Arc::new(policy));
    // The line hears of it beside what it reads.
    loop {
        let id = peer.send(4711, &[], 0).await;
        let error = peer.expect(EnumMsgType::Error).await;
        assert_eq!(error.reference, id);
        if ErrorMessage::decode(&error.body[..]).unwrap().error_code() == EnumErrorCode::TargetNotOnline {
            break;
        }
    }
}

#[tokio::test]
async fn the_rack_tells_how_a_phone_fares_restarts_it_and_warns_of_it() {
    let server = Server::start().await;
    let mut line = Line::open(&server).await;
    let mut peer = server.accept_registered().await;
    line.until(LineState::Registered).await;
    let fares = |level_percent| {
        let battery = BatteryCondition { level_percent, charging: false, temperature_celsius: None };
        LineCommand::Condition(Condition { battery: Some(battery), storage: None })
    };
    line.tell(fares(19)).await;
    let warning = peer.expect(EnumMsgType::PhoneStateWarningNotice).await;
    assert_eq!(PhoneStateWarningNoticeMessage::decode(&warning.body[..]).unwrap().battery_level, 19);
    line.tell(fares(18)).await;
    // The same warning is not given twice: what comes next is the answer.
    let asked = peer.send(1256, &[], 0).await;
    assert_eq!(peer.expect(EnumMsgType::MsgReceivedAck).await.reference, asked);
    let state = peer.expect(EnumMsgType::PhoneStateTaskResultNotice).await;
    assert_eq!(state.reference, asked);
    let battery_level = PhoneStateTaskResultNoticeMessage::decode(&state.body[..]).unwrap().battery_level;
    assert!(battery_level == 19 || battery_level == 18);

    let reboot = PhoneActionTaskMessage { action: EnumPhoneAction::Reboot as i32, task_id: 77, ..Default::default() };
    let asked = peer.send(1223, &reboot.encode_to_vec(), 0).await;
    assert_eq!(peer.expect(EnumMsgType::MsgReceivedAck).await.reference, asked);
    let task = TaskName { message_id: asked, task_type: 1223, task_id: 77, wechat_id: String::new() };
    assert_eq!(line.event().await, LineEvent::Asked(Asked { act: Act::Restart, task: task.clone() }));
    line.tell(LineCommand::TaskEnded { task, result: Ok(()) }).await;
    let result = peer.expect(EnumMsgType::TaskResultNotice).await;
    let told = TaskResultNoticeMessage::decode(&result.body[..]).unwrap();
    assert_eq!((result.reference, told.success, told.task_id, told.task_type), (asked, true, 77, 1223));
}
