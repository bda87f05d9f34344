//! What is asked: each service, each failure.

mod mask;
mod messages;
mod services;
mod sync;

use bytes::Bytes;
use handset::wire::{Command, Message, VERSION_UNCHECKED};

pub(crate) use mask::Mask;

/// The features of a usual host, delayed_ack aside.
const FEATURES: &str = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,abb,abb_exec,sendrecv_v2,sendrecv_v2_lz4";

/// The window of a host with delayed_ack.
pub(crate) const WINDOW: u32 = 1 << 20;

/// One row of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What CNXN says; without it the connection begins with the first step.
    pub(crate) hello: Option<Hello>,
    pub(crate) steps: Vec<Step>,
    pub(crate) acknowledging: Acknowledging,
    /// What is left out of the answers, since it is the machine's own.
    pub(crate) mask: Mask,
    /// Whose phone it is asked of: what sends a phone down would end the other rows.
    pub(crate) company: Company,
}

/// Whether others ask the same phone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Others,
    None,
}

/// Whether the host takes what is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledging {
    Always,
    Never,
}

/// The host's CNXN.
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) payload_bytes_max: u32,
    features: &'static str,
}

impl Hello {
    pub(crate) fn banner(&self) -> String {
        format!("host::features={}", self.features)
    }
}

/// One thing that the host says.
pub(crate) enum Step {
    Open {
        service: Bytes,
        window: u32,
    },
    /// Another stream by the same number, after the one before has ended.
    Again {
        service: Bytes,
    },
    /// To the stream that was opened.
    Write(Bytes),
    Okay(Bytes),
    Close,
    /// To the same stream, with a first argument of its own.
    OfStream {
        command: Command,
        arg0: u32,
        payload: Bytes,
    },
    Message(Message),
    Bytes(Bytes),
}

impl Case {
    /// A usual host opens a stream and, where it is not empty, writes to it.
    fn ask(name: &'static str, service: &'static [u8], input: impl Into<Bytes>) -> Self {
        let input = input.into();
        let mut steps = vec![Step::Open { service: Bytes::from_static(service), window: 0 }];
        if !input.is_empty() {
            steps.push(Step::Write(input));
        }
        Self::new(name, steps)
    }

    fn new(name: &'static str, steps: Vec<Step>) -> Self {
        let hello = Hello { version: VERSION_UNCHECKED, payload_bytes_max: 1 << 20, features: FEATURES };
        Self {
            name,
            hello: Some(hello),
            steps,
            acknowledging: Acknowledging::Always,
            mask: Mask::Nothing,
            company: Company::Others,
        }
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn alone(mut self) -> Self {
        self.company = Company::None;
        self
    }

    fn masked(mut self, mask: Mask) -> Self {
        self.mask = mask;
        self
    }

    fn with_features(mut self, features: &'static str) -> Self {
        if let Some(hello) = &mut self.hello {
            hello.features = features;
        }
        self
    }

    fn with_payloads_of(mut self, bytes: u32) -> Self {
        if let Some(hello) = &mut self.hello {
            hello.payload_bytes_max = bytes;
        }
        self
    }

    fn with_version(mut self, version: u32) -> Self {
        if let Some(hello) = &mut self.hello {
            hello.version = version;
        }
        self
    }

    fn without_hello(mut self) -> Self {
        self.hello = None;
        self
    }

    fn unacknowledged(mut self) -> Self {
        self.acknowledging = Acknowledging::Never;
        self
    }

    pub(crate) fn delayed_ack(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.features.split(',').any(|name| name == "delayed_ack"))
    }

    /// The request as the table shows it.
    pub(crate) fn request(&self) -> String {
        let hello = self.hello.as_ref().map(|hello| {
            let usual =
                hello.version == VERSION_UNCHECKED && hello.payload_bytes_max == 1 << 20 && hello.features == FEATURES;
            let Hello { version, payload_bytes_max, features } = hello;
            if usual {
                "CNXN".to_owned()
            } else {
                format!("CNXN {version:#x} {payload_bytes_max} {}", features.escape_default())
            }
        });
        let steps = self.steps.iter().map(Step::shown);
        hello.into_iter().chain(steps).collect::<Vec<_>>().join(" | ")
    }
}

impl Step {
    fn open(service: &'static [u8]) -> Self {
        Self::Open { service: Bytes::from_static(service), window: 0 }
    }

    fn again(service: &'static [u8]) -> Self {
        Self::Again { service: Bytes::from_static(service) }
    }

    fn shown(&self) -> String {
        /// What is longer is told by its length.
        const SHOWN_BYTES_MAX: usize = 400;
        let data = |bytes: &Bytes| match bytes.len() {
            ..=SHOWN_BYTES_MAX => bytes.escape_ascii().to_string(),
            more => format!("({more} bytes)"),
        };
        match self {
            Self::Open { service, window: 0 } | Self::Again { service } => format!("OPEN {}", data(service)),
            Self::Open { service, window } => format!("OPEN with window {window} {}", data(service)),
            Self::Write(bytes) => format!("WRTE {}", data(bytes)),
            Self::Okay(bytes) => format!("OKAY {}", data(bytes)).trim_end().to_owned(),
            Self::Close => "CLSE".to_owned(),
            Self::OfStream { command, arg0, payload } => {
                format!("{command:?} {arg0} p {}", data(payload)).trim_end().to_owned()
            }
            Self::Message(Message { command, arg0, arg1, payload }) => {
                format!("{command:?} {arg0} {arg1} {}", data(payload)).trim_end().to_owned()
            }
            Self::Bytes(bytes) => format!("bytes {}", data(bytes)),
        }
    }
}

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    [messages::all(), services::all(), sync::all()].into_iter().flatten().collect()
}
