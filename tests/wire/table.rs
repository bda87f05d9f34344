//! What happens to each of the 220 message types, both ways, in hold and in relay, under the default policy and under one that allows all.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farmhand::central::catalogue::{self, Group};
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::HEADER;
use farmhand::central::proto::{
    DeviceAuthReqMessage, DeviceAuthRspMessage, EnumErrorCode, ErrorMessage, RedirectNoticeMessage,
};
use farmhand::central::relay::Relay;
use farmhand::central::session::{Output, Session, Settings};
use farmhand::clock::Moment;
use farmhand::config::{Ack, Allowance, Policy, PolicyGroup, Rate};
use farmhand::rack::event::{DeviceInfo, LineCommand};
use prost::Message as _;

const IMEI: &str = "490154203237518";
const NOW: Moment = Moment::from_start(Duration::from_secs(1000));
/// A content that no body of the protocol has, and that every decoder takes: field 500, bytes.
const CONTENT: &[u8] = b"\xa2\x1f\x05whole";

/// The central server that the owner has listed.
const LISTED: &str = "centre.example:9200";

/// Where the content of a message of the session decides, one that has a right to pass.
fn content_of(code: i32) -> Vec<u8> {
    if code != 1015 {
        return CONTENT.to_vec();
    }
    let (server_url, server_port) = ("centre.example".to_owned(), 9200);
    RedirectNoticeMessage { server_url, server_port, ..Default::default() }.encode_to_vec()
}

#[derive(Clone, Copy)]
enum Agent {
    Away,
    There,
}

fn everything() -> Policy {
    let mut policy = Policy::default();
    let many = std::num::NonZeroU32::new(1_000_000).unwrap();
    let allowance = Allowance { rate: Rate { per_minute: many, burst: many }, ..Allowance::default() };
    policy.allowed.extend(PolicyGroup::ALL.map(|group| (group, allowance)));
    policy
}

/// One line with or without an agent, and what either side gets of a message.
struct Line {
    relay: Relay,
    up: Vec<Bytes>,
    events: usize,
}

impl Line {
    fn new(policy: Policy, agent: Agent) -> Self {
        let settings = Settings { servers: vec![LISTED.to_owned()], ..Settings::new(Duration::from_secs(60)) };
        let session = Session::new(settings, 42);
        let mut line = Self { relay: Relay::new(session, Ack::Auto, 1), up: Vec::new(), events: 0 };
        line.relay.change_policy(policy);
        let device = DeviceInfo::default();
        line.relay.command(
            LineCommand::Open { credential: IMEI.to_owned(), device: Box::new(device), pause: Duration::ZERO },
            NOW,
        );
        line.relay.connected(NOW);
        let response = DeviceAuthRspMessage { access_token: "of the centre".to_owned(), ..Default::default() };
        line.relay.receive(&envelope(1, 1011, &response.encode_to_vec(), ""), NOW);
        if let Agent::There = agent {
            line.relay.agent_connected(1, "of the agent".to_owned(), NOW);
            let request = DeviceAuthReqMessage { auth_type: 1, credential: IMEI.to_owned() };
            line.relay.agent_says(1, &envelope(1, 1010, &request.encode_to_vec(), ""), NOW);
        }
        line.drain();
        while line.relay.next_for_agent(1, NOW).is_some() {}
        line.up.clear();
        line.events = 0;
        line
    }

    fn drain(&mut self) {
        while let Some(output) = self.relay.poll() {
            match output {
                Output::Transmit(frame) => self.up.push(frame.slice(HEADER..)),
                Output::Event(_) | Output::Disconnect => self.events += 1,
                Output::Connect
                | Output::Judged(_)
                | Output::TellAgent { .. }
                | Output::EndAgent { .. }
                | Output::Disk(_) => {}
            }
        }
    }

    /// What becomes of a message of the centre.
    fn down(&mut self, code: i32) -> String {
        let said = envelope(7, code, &content_of(code), "");
        self.relay.receive(&said, NOW);
        self.drain();
        let given = self.relay.next_for_agent(1, NOW);
        fate(&said, given, &self.up, self.events)
    }

    /// What becomes of a message of the agent.
    fn up(&mut self, code: i32) -> String {
        let said = envelope(7, code, CONTENT, "of the agent");
        self.relay.agent_says(1, &said, NOW);
        self.drain();
        let carried = self.up.pop();
        let answers: Vec<Bytes> = self.relay.next_for_agent(1, NOW).map(|f| f.slice(HEADER..)).into_iter().collect();
        fate(&said, carried.map(|f| [&[0; HEADER][..], &f].concat().into()), &answers, self.events)
    }
}

/// `carried`, byte for byte, or what its sender got instead.
fn fate(said: &Bytes, carried: Option<Bytes>, answers: &[Bytes], events: usize) -> String {
    let before = View::parse(said).unwrap();
    if let Some(carried) = carried {
        let view = View::parse(&carried[HEADER..]).unwrap();
        assert_eq!((view.msg_type, view.content), (before.msg_type, before.content), "content stays as it was");
        return "carried".to_owned();
    }
    let words: Vec<String> = answers
        .iter()
        .map(|answer| {
            let view = View::parse(answer).unwrap();
            assert!(view.ref_message_id == 7 || view.ref_message_id == 0);
            match ErrorMessage::decode(view.body()) {
                Ok(error) if view.msg_type == 1003 => {
                    format!("{:?}", EnumErrorCode::try_from(error.error_code).unwrap())
                }
                _ => catalogue::lookup(view.msg_type).map_or("?", |entry| entry.name).to_owned(),
            }
        })
        .collect();
    match (words.is_empty(), events) {
        (false, _) => words.join(" "),
        (true, 0) => "taken in".to_owned(),
        (true, _) => "taken in, and told".to_owned(),
    }
}

fn envelope(id: i64, code: i32, value: &[u8], token: &str) -> Bytes {
    let type_name = catalogue::lookup(code).and_then(|entry| entry.body).unwrap_or("x.Y");
    let body = Some(Body { type_name, value });
    let mut out = BytesMut::new();
    Envelope { id, access_token: token, msg_type: code, body, ref_message_id: 0 }.encode(&mut out);
    out.freeze()
}

/// Every code of the catalogue, and two that nobody knows.
fn codes() -> impl Iterator<Item = i32> {
    catalogue::entries().iter().map(|entry| entry.code).chain([4711, -1])
}

fn is_refused(fate: &str) -> bool {
    fate == "NoRight"
}

#[test]
fn all_220_codes_both_ways() {
    let mut table =
        String::from("code\tdown, hold, default\tdown, hold, all\tdown, relay, default\tdown, relay, all\tup\n");
    for code in codes() {
        let down = [
            (Policy::default(), Agent::Away),
            (everything(), Agent::Away),
            (Policy::default(), Agent::There),
            (everything(), Agent::There),
        ]
        .map(|(policy, agent)| Line::new(policy, agent).down(code));
        // What a phone sends is no matter of the policy.
        let [up, same] = [Policy::default(), everything()].map(|policy| Line::new(policy, Agent::There).up(code));
        assert_eq!(up, same, "{code}");
        let _ = writeln!(table, "{}\t{}\t{up}", catalogue::describe(code), down.join("\t"));
    }
    assert_eq!(table.lines().count(), 1 + 220 + 2);
    println!("protocol.codes_checked {}", catalogue::entries().len());
    insta::assert_snapshot!(table);
}

#[test]
fn under_the_default_policy_exactly_these_pass() {
    let passing: Vec<i32> =
        codes().filter(|code| !is_refused(&Line::new(Policy::default(), Agent::There).down(*code))).collect();
    assert_eq!(passing, [1002, 1003, 1011, 1013, 1015, 1016, 1094, 1096, 1097, 1099, 1100, 1256]);
}

#[test]
fn no_number_acts_on_people_by_default() {
    let mut people_tasks_passed = BTreeSet::new();
    let mut line = Line::new(Policy::default(), Agent::There);
    for code in 0..=4095 {
        let group = catalogue::lookup(code).map_or(Group::Unknown, |entry| entry.group);
        let acts = matches!(group, Group::People(_) | Group::Unknown | Group::Server | Group::Desktop);
        line.up.clear();
        if acts && !is_refused(&line.down(code)) {
            people_tasks_passed.insert(code);
        }
    }
    println!("policy.people_tasks_passed {}", people_tasks_passed.len());
    assert_eq!(people_tasks_passed, BTreeSet::new());
}

#[test]
fn all_allowed_leaves_out_what_is_never_a_phones() {
    for entry in catalogue::entries().iter().filter(|entry| matches!(entry.group, Group::Server | Group::Desktop)) {
        assert!(is_refused(&Line::new(everything(), Agent::There).down(entry.code)), "{}", entry.name);
        assert!(is_refused(&Line::new(everything(), Agent::There).up(entry.code)), "{}", entry.name);
    }
}
