//! Everything that can be queued.

use bytes::Bytes;
use farmhand::adb::message::Message;
use farmhand::rack::Event;
use farmhand::rack::event::{HubEvent, RolloutEvent};
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::PortMode;
use farmhand::rollout::plan::Fetch;

/// Something that happens at a moment. `run` is the daemon's: what was meant for one that is dead reaches nobody. `link` is the
/// number of a connection.
#[derive(Clone, Debug)]
pub(super) enum Input {
    FromPhone { place: usize, link: u32, said: Said },
    Cut { place: usize, link: u32 },
    Report { run: u32, place: usize, event: farmhand::phone::Event },
    Event { run: u32, event: Event },
    FromCentre { run: u32, phone: PhoneId, link: u32, arrival: Arrival },
    AgentBeats { run: u32, phone: PhoneId, times: usize },
    Committed { run: u32 },
    DiskDone { run: u32 },
    PowerCommitted { run: u32 },
    Fetched { run: u32, fetch: Fetch },
    InstallEnds { phone: usize, stream: u32, link: u32, version: u64, may_go_back: bool },
    Bus { phone: usize },
    LetGo { run: u32, place: usize },
    Plug { phone: usize, place: usize },
    Tapped { phone: usize, link: u32 },
    HubReads,
    PortActs { run: u32, port: usize, mode: PortMode },
    Trouble,
    CentreBack,
    HubBack,
    Notices { version: u64, phones: Vec<usize>, package: &'static str },
    Operator,
    Crash,
    Start,
    Calm,
}

/// What a handset sent in one transfer.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Messages(Vec<Message>),
    /// Bytes that are no message.
    Nonsense,
}

/// What came by a line's connection.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Connected,
    Refused,
    Frame(Bytes),
    BadLength,
    Closed,
}

/// A word for the trace that leaves out what is long and follows from the rest.
#[derive(Clone, Copy)]
pub(super) struct Short<'a>(pub(super) &'a Input);

impl std::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Input::FromPhone { place, link, said: Said::Messages(messages) } => {
                write!(f, "place {place} link {link}:")?;
                messages.iter().try_for_each(|message| {
                    let [a, b, c, d] = message.header.command.letters().map(char::from);
                    let (arg0, arg1) = (message.header.arg0, message.header.arg1);
                    write!(f, " {a}{b}{c}{d}({arg0},{arg1})+{}", message.payload.len())
                })
            }
            Input::FromCentre { phone, link, arrival: Arrival::Frame(frame), .. } => {
                write!(f, "centre to {phone} link {link}: {} bytes", frame.len())
            }
            Input::Event { event: Event::Rollout(RolloutEvent::Views(views)), .. } => {
                f.write_str("views:")?;
                views.iter().try_for_each(|view| write!(f, " {} {}", view.id, view.state.as_str()))
            }
            Input::Event { event: Event::Hub { event: HubEvent::Reading(_), .. }, .. } => f.write_str("hub reading"),
            Input::Event { event, .. } => write!(f, "{event:?}"),
            Input::Report { place, event: farmhand::phone::Event::Profile(profile), .. } => {
                let agent = profile.agent.as_ref().map(|agent| agent.version_code.0);
                write!(f, "place {place}: profile of {:?}, booted {}, agent {agent:?}", profile.serial, profile.booted)
            }
            Input::Report { place, event, .. } => write!(f, "place {place}: {event:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}
