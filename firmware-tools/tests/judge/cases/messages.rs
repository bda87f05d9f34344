//! The messages themselves: what a connection answers to what makes no sense, and how streams flow.

use bytes::Bytes;
use handset::wire::{Command, Message, Sums};

use super::{Case, Step, WINDOW};

const DELAYED_ACK: &str = "shell_v2,delayed_ack";

fn message(command: Command, arg0: u32, arg1: u32, payload: &'static [u8]) -> Step {
    Step::Message(Message::new(command, arg0, arg1, payload))
}

fn echo() -> Step {
    Step::open(b"shell:echo hi")
}

fn windowed(service: &'static [u8], window: u32) -> Step {
    Step::Open { service: Bytes::from_static(service), window }
}

/// The bytes of a message, one of them changed.
fn spoilt(message: &Message, at: usize, byte: u8) -> Step {
    let mut bytes = [&message.header(Sums::Checked)[..], &message.payload].concat();
    bytes[at] = byte;
    Step::Bytes(bytes.into())
}

/// A header that announces so many bytes, without them.
fn announcing(command: Command, payload_bytes: u32) -> Step {
    let mut header = Message::new(command, 5, 1, Bytes::new()).header(Sums::Checked);
    header[12..16].copy_from_slice(&payload_bytes.to_le_bytes());
    Step::Bytes(header.to_vec().into())
}

pub(super) fn all() -> Vec<Case> {
    [greetings(), nonsense(), streams(), windows()].into_iter().flatten().collect()
}

fn greetings() -> Vec<Case> {
    let hello = || message(Command::CNXN, 0x0100_0001, 1 << 20, b"host::features=shell_v2");
    let no_steps = || Case::new("", Vec::new());
    vec![
        Case { name: "cnxn", ..no_steps().without_hello().then(hello()) },
        Case {
            name: "cnxn-small-payloads",
            ..no_steps().without_hello().then(message(Command::CNXN, 0x0100_0001, 4096, b"host::")).then(echo())
        },
        Case {
            name: "cnxn-no-payloads",
            ..no_steps().without_hello().then(message(Command::CNXN, 0x0100_0001, 0, b"host::")).then(echo())
        },
        Case {
            name: "cnxn-garbage-banner",
            ..no_steps().without_hello().then(message(Command::CNXN, 0x0100_0001, 1 << 20, b"\xff\xfe")).then(echo())
        },
        Case {
            name: "cnxn-wrong-sum",
            ..no_steps().without_hello().then(spoilt(
                &Message::new(Command::CNXN, 0x0100_0001, 1 << 20, "host::"),
                16,
                1,
            ))
        },
        Case::new("cnxn-again", vec![Step::open(b"exec:cat"), hello(), Step::Okay(Bytes::new()), echo()]),
        Case { name: "open-before-cnxn", ..no_steps().without_hello().then(echo()).then(hello()) },
        Case {
            name: "auth-before-cnxn",
            ..no_steps().without_hello().then(message(Command::AUTH, 2, 0, &[7; 256])).then(hello())
        },
        Case::new("auth-signature-unasked", vec![message(Command::AUTH, 2, 0, &[7; 256]), echo()]),
        Case::new("auth-empty-signature", vec![message(Command::AUTH, 2, 0, b""), echo()]),
        Case::new("auth-token-from-the-host", vec![message(Command::AUTH, 1, 0, &[7; 20]), echo()]),
        Case::new("auth-unknown-kind", vec![message(Command::AUTH, 9, 0, b"x"), echo()]),
        Case::new(
            "auth-with-a-stream",
            vec![
                Step::open(b"exec:cat"),
                message(Command::AUTH, 2, 0, &[7; 256]),
                Step::Write(Bytes::from_static(b"abc")),
            ],
        ),
        Case {
            name: "auth-key-before-cnxn",
            ..no_steps().without_hello().then(message(Command::AUTH, 3, 0, b"QAAAA me@host\0")).then(hello())
        },
        Case::new("auth-key-unasked", vec![message(Command::AUTH, 3, 0, b"QAAAA me@host\0"), echo()]),
        Case::new("old-version", vec![echo()]).with_version(0x0100_0000),
        Case::new("older-than-the-oldest-version", vec![echo()]).with_version(0x00ff_ffff),
        Case::new("newer-version", vec![echo()]).with_version(0x0100_0002),
    ]
}

fn nonsense() -> Vec<Case> {
    let open = || Message::new(Command::OPEN, 5, 0, "shell:echo hi");
    vec![
        Case::new("wrong-magic", vec![spoilt(&open(), 20, 0), echo()]),
        Case::new("wrong-sum", vec![spoilt(&open(), 16, 1)]),
        Case::new("wrong-sum-in-old-version", vec![spoilt(&open(), 16, 1)]).with_version(0x0100_0000),
        Case::new("payload-longer-than-ever", vec![announcing(Command::WRTE, (1 << 20) + 1)]),
        Case::new(
            "payload-longer-than-agreed",
            vec![
                Step::open(b"exec:cat"),
                Step::Write(Bytes::from(vec![b'x'; 5000])),
                Step::Write(Bytes::from_static(b"abc")),
            ],
        )
        .with_payloads_of(4096),
        Case::new("unknown-command", vec![message(Command(u32::from_le_bytes(*b"ABCD")), 5, 1, b"x"), echo()]),
        Case::new("sync-command", vec![message(Command(u32::from_le_bytes(*b"SYNC")), 1, 2, b""), echo()]),
        Case::new("stls", vec![message(Command::STLS, 0x0100_0000, 0, b""), echo()]),
    ]
}

fn streams() -> Vec<Case> {
    let of_stream = |command, arg0, payload| Step::OfStream { command, arg0, payload: Bytes::from_static(payload) };
    let write = |bytes: &'static [u8]| Step::Write(Bytes::from_static(bytes));
    vec![
        Case::new("wrte-to-nobody", vec![message(Command::WRTE, 5, 77, b"x"), echo()]),
        Case::new("okay-to-nobody", vec![message(Command::OKAY, 6, 77, b"")]),
        Case::new("clse-to-nobody", vec![message(Command::CLSE, 5, 77, b""), echo()]),
        Case::new("open-by-id-0", vec![message(Command::OPEN, 0, 0, b"shell:echo hi"), echo()]),
        Case::new(
            "of-another-stream",
            vec![
                Step::open(b"exec:cat"),
                of_stream(Command::WRTE, 6, b"abc"),
                of_stream(Command::OKAY, 6, b""),
                of_stream(Command::CLSE, 6, b""),
                write(b"def"),
            ],
        ),
        Case::new("clse-by-id-0", vec![Step::open(b"exec:cat"), of_stream(Command::CLSE, 0, b"")]),
        Case::new("host-closes", vec![Step::open(b"exec:cat"), Step::Close, write(b"late")]),
        Case::new("empty-wrte", vec![Step::open(b"exec:cat"), write(b""), write(b"abc")]),
        Case::new(
            "two-wrte-at-once",
            vec![Step::open(b"exec:cat"), of_stream(Command::WRTE, 5, b"abc"), of_stream(Command::WRTE, 5, b"def")],
        ),
        Case::new(
            "wrte-without-okay",
            vec![Step::open(b"exec:cat"), write(b"abc"), write(b"def"), Step::Okay(Bytes::new())],
        )
        .unacknowledged(),
    ]
}

fn windows() -> Vec<Case> {
    let okay = |bytes: u32| Step::Okay(Bytes::copy_from_slice(&bytes.to_le_bytes()));
    let write = |bytes: &'static [u8]| Step::Write(Bytes::from_static(bytes));
    vec![
        Case::new("window-not-agreed", vec![windowed(b"shell:echo hi", WINDOW)]),
        Case::new("no-window-where-agreed", vec![echo()]).with_features(DELAYED_ACK),
        Case::new("window", vec![windowed(b"shell:echo hi", WINDOW)]).with_features(DELAYED_ACK),
        Case::new("window-refused", vec![windowed(b"nope:", WINDOW)]).with_features(DELAYED_ACK),
        Case::new("window-wrte", vec![windowed(b"exec:cat", WINDOW), write(b"abc"), write(b"defg")])
            .with_features(DELAYED_ACK),
        Case::new("window-empty-wrte", vec![windowed(b"exec:cat", WINDOW), write(b"")]).with_features(DELAYED_ACK),
        Case::new("window-used-up", vec![windowed(b"exec:cat", 2), write(b"abc"), write(b"def"), okay(1), okay(1)])
            .with_features(DELAYED_ACK)
            .unacknowledged(),
        Case::new(
            "window-okay-without-bytes",
            vec![windowed(b"exec:cat", 2), write(b"abc"), write(b"def"), Step::Okay(Bytes::new()), okay(9)],
        )
        .with_features(DELAYED_ACK)
        .unacknowledged(),
        Case::new("nul-behind-the-features", vec![windowed(b"shell:echo hi", WINDOW), echo()])
            .with_features("delayed_ack\0"),
    ]
}
