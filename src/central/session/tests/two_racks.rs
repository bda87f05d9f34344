//! One credential at two racks, as when a phone was moved and its old rack does not know yet: the centre lets in whoever comes last and
//! takes the other one off line.

use super::*;

/// A centre with two lines to it.
struct Centre {
    lines: [Line; 2],
    holder: Option<usize>,
    /// When somebody authenticated, in seconds.
    authentications: Vec<u64>,
    second: u64,
}

impl Centre {
    fn new() -> Self {
        Self { lines: [Line::new(), Line::new()], holder: None, authentications: Vec::new(), second: 0 }
    }

    fn pass_second(&mut self) {
        self.second += 1;
        for rack in [0, 1] {
            self.lines[rack].pass(Duration::from_secs(1));
            self.answer(rack);
        }
    }

    fn answer(&mut self, rack: usize) {
        let line = &mut self.lines[rack];
        if line.events().contains(&LineEvent::HeartbeatDue) {
            line.command(LineCommand::Presence(Presence::Answered));
        }
        let connects = line.outputs.contains(&Output::Connect);
        if line.disconnects() && self.holder == Some(rack) {
            self.holder = None;
        }
        line.outputs.retain(|output| matches!(output, Output::Transmit(_)));
        if connects {
            line.session.connected(line.now);
        }
        for sent in line.sent() {
            match sent.code {
                1010 => return self.let_in(rack, sent.id),
                1001 | 2027 => {
                    self.lines[rack].serve_bytes(1002, &[], sent.id);
                }
                _ => {}
            }
        }
    }

    fn let_in(&mut self, rack: usize, request: i64) {
        self.authentications.push(self.second);
        if let Some(other) = self.holder.replace(rack).filter(|other| *other != rack) {
            let notice = AccountForceOfflineNoticeMessage { reason: 1, ..Default::default() };
            self.lines[other].serve(EnumMsgType::AccountForceOfflineNotice, &notice, 0);
            assert!(self.lines[other].disconnects(), "it lets go at once");
        }
        self.lines[rack].serve_auth(request);
    }
}

#[test]
fn two_racks_with_one_identity_authenticate_three_times_in_ten_minutes_at_most() {
    let mut centre = Centre::new();
    centre.lines[0].open();
    for _ in 0..60 {
        centre.pass_second();
    }
    assert_eq!((centre.authentications.len(), centre.holder), (1, Some(0)));
    centre.lines[1].open();
    for _ in 0..3600 {
        centre.pass_second();
    }
    let within = |from: u64| centre.authentications.iter().filter(|at| (from..from + 600).contains(*at)).count();
    let most = centre.authentications.iter().map(|at| within(*at)).max().unwrap();
    println!("session.authentications_in_10_min {most}");
    assert!((2..=3).contains(&most), "{:?}", centre.authentications);
}
